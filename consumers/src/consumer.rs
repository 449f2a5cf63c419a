//! One consumer: queues in, a pool of slots, reports out.
//!
//! Owns a consumer's life: subscribe, run, drain. The stages are files: `intake` (deliveries with
//! credit, waiting for a slot), `slot` (one delivery from decoding to settling), `verdict` (what
//! an outcome becomes), `lately` (what was answered a moment ago), `credit` (how much may be in
//! hand), `holding`, `keeping` and `asking` (long jobs, and whose consumer died), `obeying`, `permits`
//! and `beating` (what all consumers share), `backlog` (too many reports wait to be recorded),
//! `celery` (the end of a job as Celery's clients read it), `theirs` (queues of somebody else's),
//! `holders` (the names under which jobs are held).
//! Refuses to know which broker it is, and what the executors do.

mod asking;
mod backlog;
mod beating;
mod catalogue;
mod celery;
mod credit;
mod holders;
mod holding;
mod intake;
mod keeping;
mod lately;
mod obeying;
mod permits;
mod presence;
mod slot;
mod theirs;
pub(crate) mod verdict;

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use spinor_executors::{
    Bounds, Cancelled, Origin, Registry, RetryPolicy, Timeout,
    pool::{self, Running},
    programs::Drafts,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use crate::{
    blobs::Blobs,
    broker::{AnyBroker, Broker, BrokerError, QueueSpec},
    marks::{Bound, Marks, StateCell},
    results::Results,
    state::Subject,
};
use backlog::Reports;
pub use catalogue::Served;
use intake::{Intake, LEAVE};
use obeying::Obeying;
use permits::Permits;
use slot::Slots;
use theirs::Theirs;

pub(crate) use slot::wish_text;

/// The marks are waited for this long at the start; a store that is away longer is obeyed later.
const MARKS: Duration = Duration::from_secs(10);
/// An execution that was dropped is gone within this.
const DROPPED: Duration = Duration::from_secs(1);

/// What a consumer is told once, at its start.
#[derive(Clone, Debug)]
pub struct ConsumerSettings {
    /// Who it is; goes into every report.
    pub origin: Origin,
    /// Its name as a node; it then has the queue `node.<name>` and admits plans only.
    pub node: Option<String>,
    /// The queues it consumes.
    pub queues: Vec<QueueSettings>,
    /// How many jobs run at once.
    pub slots: usize,
    /// A running job's delivery is held anew before it is older than this.
    pub hold_after: Duration,
    /// Beyond so many bytes of reports that wait to be recorded nothing more is taken.
    pub results_bound: u64,
    /// How long a drain waits for what runs.
    pub grace: Duration,
    /// From SIGTERM to SIGKILL for a job's processes.
    pub soft_to_hard: Duration,
    /// Of each output stream, how many bytes a report keeps.
    pub keep_output: usize,
    /// How long a job of a kind nobody here serves goes back to its queue before it is dead.
    pub unknown_kind_grace: Duration,
    /// Reports carry the whole job even if a `queued` report announced it: for the search index.
    pub whole_reports: bool,
    /// Limits and retries by kind; the first pattern that matches counts.
    pub kinds: Vec<KindSettings>,
    /// The bounds of limits by name; a mark of the same name counts before them.
    pub limits: BTreeMap<String, Bound>,
}

/// A queue as this consumer sees it.
#[derive(Clone, Debug)]
pub struct QueueSettings {
    /// Its name and whose it is.
    pub spec: QueueSpec,
    /// The kind of messages that have no `type`.
    pub default_kind: Option<String>,
}

/// What holds for jobs of some kinds, unless they say otherwise themselves.
#[derive(Clone, Debug)]
pub struct KindSettings {
    /// Which kinds.
    pub pattern: spinor_executors::KindPattern,
    /// Their limits.
    pub timeout: Option<Timeout>,
    /// Their retries.
    pub retry: Option<RetryPolicy>,
    /// What their processes may use.
    pub bounds: Bounds,
    /// The limits that all of them count against, by name.
    pub limits: Vec<String>,
    /// Do they never run a second time, whatever happens? One that may have run is *lost* then.
    pub at_most_once: bool,
}

/// The results database of who can do without it for a while: set once it is open.
pub type Record = Arc<OnceLock<Results>>;

/// A consumer, ready to run.
pub struct Consumer {
    settings: Arc<ConsumerSettings>,
    registry: Arc<Registry>,
    broker: AnyBroker,
    record: Record,
    agreed: Agreed,
    blobs: Blobs,
    drafts: Option<Arc<dyn Drafts>>,
    boot: Uuid,
}

/// What a consumer shares with all others; without it, it obeys nobody and limits nothing.
#[derive(Clone, Default)]
pub struct Agreed {
    /// The store of state.
    pub state: StateCell,
    /// The marks it follows.
    pub marks: Arc<Marks>,
}

/// Tasks that serve what still runs while intake has ended, and what ends them.
type Background = (TaskTracker, CancellationToken);

/// What asks a consumer to stop: the first token drains, the second ends it at once.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    /// Take nothing new, give what runs its grace, then end.
    pub drain: CancellationToken,
    /// End now; what is in hand goes back.
    pub now: CancellationToken,
}

impl Consumer {
    /// A consumer on `broker`; `results` answers whether a redelivered job has ended already.
    pub fn new(
        settings: Arc<ConsumerSettings>,
        registry: Arc<Registry>,
        broker: AnyBroker,
        results: Option<Results>,
    ) -> Self {
        let record = Record::new(results.map_or_else(OnceLock::new, OnceLock::from));
        let blobs = Blobs::in_results(Arc::clone(&record));
        Self {
            settings,
            registry,
            broker,
            record,
            agreed: Agreed::default(),
            blobs,
            drafts: None,
            boot: Uuid::now_v7(),
        }
    }

    /// The same with what it shares with all others.
    #[must_use]
    pub fn with_agreed(self, agreed: Agreed) -> Self {
        Self { agreed, ..self }
    }

    /// The same with a record that may open later; until then a redelivered job runs. Blobs are in it, too.
    #[must_use]
    pub fn with_record(self, record: Record) -> Self {
        Self { blobs: Blobs::in_results(Arc::clone(&record)), record, ..self }
    }

    /// The same with large args and values elsewhere.
    #[must_use]
    pub fn with_blobs(self, blobs: Blobs) -> Self {
        Self { blobs, ..self }
    }

    /// The same with who reads the jobs that its jobs publish.
    #[must_use]
    pub fn with_drafts(self, drafts: Arc<dyn Drafts>) -> Self {
        Self { drafts: Some(drafts), ..self }
    }

    /// Declares its queues, consumes until told to stop, drains. A broker out of reach is waited for,
    /// at the start as later; `Err` only when waiting does not help.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), BrokerError> {
        let specs: Vec<QueueSpec> = self.settings.queues.iter().map(|queue| queue.spec.clone()).collect();
        let running = Arc::new(Running::new());
        let intake = Arc::new(Intake::new(self.settings.slots, self.boot, Arc::clone(&running)));
        let background: Background = (TaskTracker::new(), CancellationToken::new());
        let permits = Arc::new(Permits::new(Arc::clone(&self.agreed.state), background.0.clone()));
        let slots = Arc::new(Slots::new(&self, Arc::clone(&intake), running, Arc::clone(&permits), &background));
        let tracker = TaskTracker::new();
        let intaking = CancellationToken::new();
        // Told by the process, or by a mark.
        let drain = shutdown.drain.child_token();
        let obeying = Obeying { consumer: &self, intake: &intake, slots: &slots, tracker: &tracker, drain: &drain };
        self.registry.open();
        let start = async {
            // What was cancelled or paused before is known before the first job comes.
            if !self.agreed.marks.loaded(MARKS).await {
                tracing::warn!("State does not answer: cancels and pauses are obeyed once it does.");
            }
            obeying.look();
            let (foreign, ours): (Vec<QueueSpec>, Vec<QueueSpec>) =
                specs.iter().cloned().partition(|spec| spec.foreign);
            patiently(|| self.broker.declare(&ours)).await?;
            let mut reports = Reports::new(self.broker.clone(), self.settings.results_bound, Arc::clone(&intake));
            reports.look().await;
            for spec in &ours {
                patiently(|| intake.subscribe(&self.broker, spec, &tracker, &intaking)).await?;
            }
            let theirs = Theirs { broker: &self.broker, intake: &intake, tracker: &tracker, stop: &intaking };
            for spec in foreign {
                theirs.take(spec, &background.0).await?;
            }
            patiently(|| presence::answer(&self.broker, &self.settings, &slots, &intaking, &background)).await?;
            let (asking, until) = (Arc::clone(&slots), background.1.clone());
            background.0.spawn(async move { asking.ask(until).await });
            background.0.spawn(reports.watch(background.1.clone()));
            pool::start(&slots, self.settings.slots, &tracker);
            tracing::info!(
                consumer = self.settings.origin.consumer, group = self.settings.origin.group,
                slots = self.settings.slots, queues = ?specs.iter().map(|spec| spec.name.as_str()).collect::<Vec<_>>(),
                "Consumer started."
            );
            Ok(())
        };
        let life = async {
            tokio::select! {
                started = start => started?,
                () = drain.cancelled() => {}
            }
            drain.cancelled().await;
            self.drain(&intake, &slots, &intaking, &tracker, &shutdown.now).await;
            Ok(())
        };
        tokio::select! {
            ended = life => ended?,
            never = obeying.obey() => match never {},
            never = beating::beat(&self, &intake, &slots, &permits) => match never {},
        }
        self.registry.close().await;
        background.1.cancel();
        background.0.close();
        let left = async {
            background.0.wait().await;
            if let Some(state) = self.agreed.state.get() {
                // One that cannot be told finds out by the silence.
                let name = &self.settings.origin.consumer;
                let _ = state.leave(name).await;
                // Nobody will have this name again, so what was said of it is taken back.
                for subject in [Subject::Drain(name.clone()), Subject::Slots(name.clone())] {
                    if self.agreed.marks.get(&subject).is_some() {
                        let _ = state.clear_mark(&subject, name, None).await;
                    }
                }
            }
        };
        let _ = tokio::time::timeout(LEAVE, left).await;
        Ok(())
    }

    async fn drain(
        &self,
        intake: &Intake,
        slots: &Slots,
        intaking: &CancellationToken,
        tracker: &TaskTracker,
        now: &CancellationToken,
    ) {
        tracing::info!(running = slots.running(), "Consumer draining.");
        // Intake first: the forwarders cancel their subscriptions and hand back what has not started.
        intaking.cancel();
        intake.close(&self.broker);
        slots.stop_asking();
        tracker.close();
        if self.settings.node.is_some() {
            // A plan stops at its next step boundary; the step in hand has the grace period.
            slots.cancel_all(&Cancelled::Drain);
        }
        let ended = async {
            if tokio::time::timeout(self.settings.grace, tracker.wait()).await.is_err() {
                tracing::warn!(
                    running = slots.running(),
                    "The grace period is over; what still runs goes back to its queue."
                );
                slots.cancel_all(&Cancelled::Drain);
                // Soft, hard, and the time to settle.
                let bound = 2 * self.settings.soft_to_hard + Duration::from_secs(5);
                let heeded = self.settings.node.is_none() && tokio::time::timeout(bound, tracker.wait()).await.is_ok();
                if !heeded {
                    // A step outlasts a drain, and so may an executor that heeds nothing: they are cut.
                    slots.abandon();
                }
            }
        };
        tokio::select! {
            () = ended => {}
            () = now.cancelled() => slots.abandon(),
        }
        // Dropping an execution takes a moment on its thread.
        let _ = tokio::time::timeout(DROPPED, tracker.wait()).await;
        tracing::info!(consumer = self.settings.origin.consumer, "Consumer stopped.");
    }
}

/// Asks again while the broker is out of reach; its link has told so.
async fn patiently<F>(mut ask: impl FnMut() -> F) -> Result<(), BrokerError>
where
    F: Future<Output = Result<(), BrokerError>>,
{
    loop {
        match ask().await {
            Err(BrokerError::Unreachable(_)) => tokio::time::sleep(Duration::from_secs(1)).await,
            ended => return ended,
        }
    }
}
