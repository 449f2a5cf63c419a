//! A Spinor without consumers: an API over its socket, the embedded broker, a record, and a store of state.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use serde_json::Value;
use spinor::{
    api::{ApiState, DriveRuns, Info, Problem, RunOrder, Watches, listen, new_job::NewJob},
    client::{Client, ClientError},
    config::Ask,
};
use spinor_consumers::{
    broker::{
        Address, AnyBroker, Broker, QueueSpec, Settlement, Verdict,
        embedded::{Embedded, EmbeddedSettings},
    },
    entry::Entry,
    marks::StateCell,
    message,
    recorder::{Recorder, RecorderSettings},
    results::{Results, ResultsTarget},
    state::{State, StateTarget},
};
use spinor_executors::{BoxFuture, Job, Origin, Outcome, Report};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    task::JoinSet,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use crate::support::{eventually, scratch::Scratch, servers};

/// How long anything may take before a case fails: a bound against hanging, not a measure.
pub const SOON: Duration = Duration::from_secs(20);

struct NoRuns;

impl DriveRuns for NoRuns {
    fn answering(&self) -> BoxFuture<'_, Result<Vec<String>, String>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn start(&self, _: RunOrder, _: CancellationToken) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async { Ok(()) })
    }
}

/// Everything behind one API.
pub struct Stage {
    pub broker: AnyBroker,
    pub results: Results,
    pub state: State,
    pub client: Client,
    shutdown: CancellationToken,
    tasks: JoinSet<()>,
    scratch: Scratch,
}

impl Stage {
    pub async fn new() -> Self {
        let scratch = Scratch::new("steer");
        let target = StateTarget::Sqlite(scratch.join("state.db"));
        Self::of(scratch, target).await
    }

    pub async fn with_redis() -> Self {
        let prefix = format!("t{}", Uuid::now_v7().simple());
        let target = StateTarget::Redis { url: servers::redis_url(), prefix, ca_file: None };
        Self::of(Scratch::new("steer"), target).await
    }

    async fn of(scratch: Scratch, target: StateTarget) -> Self {
        let toml = format!(
            "data = {:?}\n[queues.quiet]\njournal = 'ends'\n[limits.mail]\nat_once = 3\nrate = '100/1m'\n",
            scratch.join("data")
        );
        let file = scratch.write("spinor.toml", toml);
        let config = Arc::new(Ask { file: Some(file), ..Ask::default() }.load().unwrap().config);
        let listening = listen::bind(&config).await.unwrap();
        let settings = EmbeddedSettings { dir: config.data.join("broker"), search: false, socket: None };
        let broker = AnyBroker::Embedded(Embedded::open(settings).await.unwrap());
        let queue = |name: &str| QueueSpec { name: name.to_owned(), foreign: false };
        broker.declare(&[queue("default"), queue("quiet")]).await.unwrap();
        let results = Results::open(&ResultsTarget::Sqlite(config.data.join("results.db"))).await.unwrap();
        let state = State::open(&target).await.unwrap();
        let shutdown = CancellationToken::new();
        let recorder = Recorder::new(broker.clone(), results.clone(), RecorderSettings::default());
        let tracker = TaskTracker::new();
        let api = ApiState {
            broker: broker.clone(),
            results: results.clone(),
            blobs: spinor_consumers::blobs::Blobs::in_results(Arc::new(results.clone().into())),
            state: StateCell::new(state.clone().into()),
            marks: Arc::default(),
            groups: None,
            recorder: Some(recorder.view()),
            runs: Arc::new(NoRuns),
            watches: Watches::start(broker.clone(), &tracker, shutdown.clone()),
            config: Arc::clone(&config),
            info: Arc::new(Info::here(vec!["api".to_owned()])),
            counters: Arc::default(),
            tasks: tracker,
            shutdown: shutdown.clone(),
        };
        let mut tasks = JoinSet::new();
        let stop = shutdown.clone();
        tasks.spawn(async move { drop(recorder.run(stop).await) });
        tasks.spawn(async move { listening.serve(api).await.unwrap() });
        let client = Client::unix(config.socket()).unwrap();
        Self { broker, results, state, client, shutdown, tasks, scratch }
    }

    /// A job that waits on the queue `default` and is recorded.
    pub async fn queued(&self, job: NewJob) -> Uuid {
        let id = self.client.publish(&job).await.unwrap().id;
        self.client.job(id).await.unwrap();
        id
    }

    /// Takes the next job of `default` and answers it, as a consumer would; returns once that is recorded.
    pub async fn work(&self, outcome: Outcome) -> Job {
        let mut subscription = self.broker.consume(&Address::Work("default".to_owned()), 1).await.unwrap();
        let delivery = subscription.next().await.unwrap();
        let job = message::decode(&delivery.message, "default", None, Timestamp::now()).unwrap().job;
        let origin = Origin { consumer: "c-1".into(), group: "default".into(), host: "here".into() };
        let mut report = Report::of(&job, &origin, Uuid::now_v7(), Timestamp::now());
        report.end(outcome);
        let lines = vec![Entry::Report(Box::new(report)).line()];
        let settlement = Settlement { lines, publish: Vec::new(), verdict: Verdict::Ack };
        self.broker.settle(delivery, settlement).await.unwrap();
        eventually("the end to be recorded", SOON, async || !self.results.ended(&[job.id]).await.unwrap().is_empty())
            .await;
        job
    }

    /// How many jobs wait on `default`.
    pub async fn ready(&self) -> u64 {
        self.broker.stats(&["default".to_owned()]).await.unwrap()[0].ready
    }

    /// A raw request: status and body.
    pub async fn raw(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let mut stream = UnixStream::connect(self.scratch.join("data/spinor.sock")).await.unwrap();
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
        (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
    }

    /// Each request is answered with this status, and with this text in its detail or field.
    pub async fn refuses(&self, table: &[(&str, &str, &str, u16, &str)]) {
        for (method, path, body, expected, part) in table {
            let (status, problem) = self.raw(method, path, body).await;
            assert_eq!(status, *expected, "{method} {path} {body}: {problem}");
            assert!(problem.to_string().contains(part), "{method} {path} {body}: {part:?} not in {problem}");
        }
    }

    pub async fn end(mut self) {
        self.shutdown.cancel();
        while let Some(done) = self.tasks.join_next().await {
            done.unwrap();
        }
        self.broker.close().await;
        self.results.close().await;
        self.state.close().await;
    }
}

/// The problem a call was refused with.
pub fn refused<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> Problem {
    match answer {
        Err(ClientError::Refused(problem)) => *problem,
        other => panic!("not refused: {other:?}"),
    }
}
