//! A consumer on a stage: its broker, its executors made of closures, and the reports it makes.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use spinor_consumers::{
    broker::{Address, AnyBroker, Broker, QueueSpec, Subscription},
    consumer::{Agreed, Consumer, ConsumerSettings, KindSettings, QueueSettings, Shutdown},
    entry::Entry,
    message,
    results::Results,
};
use spinor_executors::{
    Bounds, BoxFuture, Context, Executor, Job, Json, KindPattern, Origin, Outcome, Registry, Report, RetryPolicy,
    StepReport, Timeout,
};
use tokio::task::JoinHandle;

use crate::conformance::fixture::{Fixture, PATIENCE, acked, consume, declare, must, take, work};

/// The one queue.
pub const QUEUE: &str = "stage";

type Act = Box<dyn for<'a> Fn(&'a Job, &'a Context) -> BoxFuture<'a, Outcome> + Send + Sync>;

struct Player(Act);

impl Executor for Player {
    fn run<'a>(&'a self, job: &'a Job, context: &'a Context) -> BoxFuture<'a, Outcome> {
        (self.0)(job, context)
    }
}

/// Executors by kind.
#[derive(Default)]
pub struct Cast(Registry);

impl Cast {
    /// Adds a kind.
    pub fn kind<F>(mut self, kind: &str, act: F) -> Self
    where
        F: for<'a> Fn(&'a Job, &'a Context) -> BoxFuture<'a, Outcome> + Send + Sync + 'static,
    {
        self.0.add(kind, Arc::new(Player(Box::new(act)))).expect("one executor a kind");
        self
    }

    /// Them alone.
    pub fn registry(self) -> Registry {
        self.0
    }

    /// Adds `noop`.
    pub fn noop(self) -> Self {
        self.kind("noop", |_, _| Box::pin(async { Outcome::Succeeded(Json::null()) }))
    }
}

/// Settings that suit a test: small and impatient.
pub fn settings(slots: usize) -> ConsumerSettings {
    ConsumerSettings {
        origin: Origin { consumer: "c-1".into(), group: "stage".into(), host: "here".into() },
        node: None,
        queues: vec![QueueSettings { spec: QueueSpec { name: QUEUE.into(), foreign: false }, default_kind: None }],
        slots,
        hold_after: Duration::from_secs(300),
        results_bound: u64::MAX,
        grace: Duration::from_secs(20),
        soft_to_hard: Duration::from_millis(200),
        keep_output: 1024,
        unknown_kind_grace: Duration::from_secs(2),
        whole_reports: false,
        kinds: Vec::new(),
        limits: BTreeMap::new(),
    }
}

/// Settings with a policy for every kind.
pub fn with_policy(slots: usize, retry: Option<RetryPolicy>, timeout: Option<Timeout>) -> ConsumerSettings {
    ConsumerSettings { kinds: vec![KindSettings { timeout, retry, ..every_kind() }], ..settings(slots) }
}

/// What holds for every kind: nothing.
pub fn every_kind() -> KindSettings {
    KindSettings {
        pattern: KindPattern::new("*").expect("a pattern"),
        timeout: None,
        retry: None,
        bounds: Bounds::default(),
        limits: Vec::new(),
        at_most_once: false,
    }
}

/// A running consumer, and the reply queue in hand.
pub struct Stage {
    /// Its broker.
    pub broker: AnyBroker,
    /// What stops it.
    pub shutdown: Shutdown,
    consumer: JoinHandle<()>,
    results: Subscription,
    heard: Vec<Entry>,
}

impl Stage {
    /// Starts a consumer on a broker.
    pub async fn on(broker: AnyBroker, settings: ConsumerSettings, cast: Cast, record: Option<Results>) -> Self {
        Self::agreeing(broker, settings, cast, record, Agreed::default()).await
    }

    /// The same, with what it shares with others.
    pub async fn agreeing(
        broker: AnyBroker,
        settings: ConsumerSettings,
        cast: Cast,
        record: Option<Results>,
        agreed: Agreed,
    ) -> Self {
        let consumer = Consumer::new(Arc::new(settings), Arc::new(cast.0), broker.clone(), record).with_agreed(agreed);
        Self::of(broker, consumer).await
    }

    /// Starts this consumer on its broker.
    pub async fn of(broker: AnyBroker, consumer: Consumer) -> Self {
        declare(&broker, &[QUEUE]).await;
        let results = consume(&broker, Address::Results, 100).await;
        let shutdown = Shutdown::default();
        let until = shutdown.clone();
        #[expect(clippy::disallowed_methods, reason = "the handle is awaited at the end of the case")]
        let consumer = tokio::spawn(async move { consumer.run(until).await.expect("the consumer starts") });
        Self { broker, shutdown, consumer, results, heard: Vec::new() }
    }

    /// A fresh installation with a consumer on it.
    pub async fn open<F: Fixture>(settings: ConsumerSettings, cast: Cast) -> (F, Self) {
        let fixture = F::install(false).await;
        let stage = Self::on(fixture.broker(), settings, cast, None).await;
        (fixture, stage)
    }

    /// Publishes jobs to the queue.
    pub async fn publish(&self, jobs: &[Job]) {
        publish(&self.broker, jobs).await;
    }

    /// The next report.
    pub async fn report(&mut self) -> Report {
        loop {
            if let Entry::Report(report) = self.entry().await {
                return *report;
            }
        }
    }

    /// The next step report.
    pub async fn step_or_report(&mut self) -> Result<StepReport, Report> {
        loop {
            match self.entry().await {
                Entry::Step(step) => return Ok(*step),
                Entry::Report(report) => return Err(*report),
                Entry::Queued(_) | Entry::Edited(_) | Entry::Run(_) => {}
            }
        }
    }

    async fn entry(&mut self) -> Entry {
        while self.heard.is_empty() {
            let pack = take(&mut self.results).await;
            let lines = pack.message.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            self.heard = lines.map(|line| serde_json::from_slice(line).expect("an entry")).collect();
            acked(&self.broker, pack).await;
        }
        self.heard.remove(0)
    }

    /// Asks the consumer to drain and waits for its end.
    pub async fn drain(self) {
        self.shutdown.drain.cancel();
        self.ended().await;
    }

    /// Waits for the consumer's end.
    pub async fn ended(self) {
        tokio::time::timeout(PATIENCE, self.consumer)
            .await
            .expect("the consumer ends in time")
            .expect("without a panic");
    }
}

/// Publishes jobs.
pub async fn publish(broker: &AnyBroker, jobs: &[Job]) {
    let batch = jobs.iter().map(|job| must(work(QUEUE), message::encode(job, true))).collect();
    for result in broker.publish(batch).await {
        result.expect("published");
    }
}

/// A job for the queue.
pub fn job(kind: &str) -> Job {
    Job::new(kind, QUEUE, Json::empty())
}
