//! A Spinor without consumers: an API over its sockets, the embedded broker, a record and a store of state.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;
use spinor::{
    api::{Access, ApiState, DriveRuns, Info, Pulse, RunOrder, Schemas, Spool, Watches, listen},
    client::Client,
    config::Ask,
};
use spinor_consumers::{
    blobs::Blobs,
    broker::{
        Address, AnyBroker, Broker, BrokerError, Event, QueueSpec, Settlement, Verdict,
        embedded::{Embedded, EmbeddedSettings},
    },
    entry::Entry,
    marks::{Marks, StateCell},
    message,
    recorder::{Recorder, RecorderSettings},
    results::{Results, ResultsTarget},
    state::{State, StateTarget},
};
use spinor_executors::{BoxFuture, Job, Origin, Outcome, Report};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::UnixStream,
    task::JoinSet,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use super::scratch::Scratch;

/// Nobody drives runs here.
struct NoRuns;

impl DriveRuns for NoRuns {
    fn answering(&self) -> BoxFuture<'_, Result<Vec<String>, String>> {
        Box::pin(async { Ok(vec!["node-1".to_owned()]) })
    }

    fn start(&self, _: RunOrder, _: CancellationToken) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async { Ok(()) })
    }
}

/// Everything behind one API, and the directory of it all; the queues are `default` and `quiet`.
pub struct Front {
    pub broker: AnyBroker,
    pub results: Results,
    pub state: State,
    pub marks: Arc<Marks>,
    pub client: Client,
    pub addresses: Vec<String>,
    pub scratch: Scratch,
    shutdown: CancellationToken,
    tasks: JoinSet<()>,
}

impl Front {
    /// With more lines of configuration, and State there.
    pub async fn start(scratch: Scratch, more: &str, state: StateTarget) -> Self {
        let toml = format!("data = {:?}\n{more}[queues.quiet]\njournal = 'ends'\n", scratch.join("data"));
        let file = scratch.write("spinor.toml", toml);
        let config = Arc::new(Ask { file: Some(file), ..Ask::default() }.load().unwrap().config);
        let listening = listen::bind(&config).await.unwrap();
        let settings = EmbeddedSettings { dir: config.data.join("broker"), search: false, socket: None };
        let broker = AnyBroker::Embedded(Embedded::open(settings).await.unwrap());
        let queue = |name: &str| QueueSpec { name: name.to_owned(), foreign: false };
        broker.declare(&[queue("default"), queue("quiet")]).await.unwrap();
        let results = Results::open(&ResultsTarget::Sqlite(config.data.join("results.db"))).await.unwrap();
        let state = State::open(&state).await.unwrap();
        let shutdown = CancellationToken::new();
        let recorder = Recorder::new(broker.clone(), results.clone(), RecorderSettings::default());
        let addresses = listening.addresses();
        let tracker = TaskTracker::new();
        let (cell, marks) = (StateCell::new(state.clone().into()), Arc::<Marks>::default());
        let api = ApiState {
            broker: broker.clone(),
            results: results.clone(),
            blobs: Blobs::in_results(Arc::new(results.clone().into())),
            schemas: Arc::new(Schemas::new(Arc::clone(&marks), Arc::clone(&cell))),
            state: cell,
            marks: Arc::clone(&marks),
            groups: None,
            recorder: Some(recorder.view()),
            runs: Arc::new(NoRuns),
            watches: Watches::start(broker.clone(), &tracker, shutdown.clone()),
            config: Arc::clone(&config),
            access: Arc::new(Access::new(results.clone())),
            audit: Arc::new(Spool::new(&config.data)),
            pulse: Pulse::default(),
            info: Arc::new(Info::here(vec!["api".to_owned()])),
            counters: Arc::default(),
            tasks: tracker,
            shutdown: shutdown.clone(),
        };
        let mut tasks = JoinSet::new();
        let stop = shutdown.clone();
        tasks.spawn(async move {
            if let Err(error) = recorder.run(stop).await {
                assert!(matches!(error, BrokerError::Closed), "{error}");
            }
        });
        tasks.spawn(async move { listening.serve(api).await.unwrap() });
        let client = Client::unix(config.socket()).unwrap();
        Self { broker, results, state, marks, client, addresses, scratch, shutdown, tasks }
    }

    /// Takes the next job of a queue and answers it with this outcome, as a consumer would.
    pub async fn work(&self, queue: &str, outcome: Outcome) -> (Job, Report) {
        let mut subscription = self.broker.consume(&Address::Work(queue.to_owned()), 1).await.unwrap();
        let delivery = subscription.next().await.unwrap();
        let job = message::decode(&delivery.message, queue, None, Timestamp::now()).unwrap().job;
        let origin = Origin { consumer: "c-1".into(), group: "default".into(), host: "here".into() };
        let mut report = Report::of(&job, &origin, Uuid::now_v7(), Timestamp::now());
        report.end(outcome);
        let lines = vec![Entry::Report(Box::new(report.clone())).line()];
        let settlement = Settlement { lines, publish: Vec::new(), verdict: Verdict::Ack };
        self.broker.settle(delivery, settlement).await.unwrap();
        self.broker.cast(Event::Ended { report: Box::new(report.clone()) });
        (job, report)
    }

    /// A raw request over the Unix socket: status and body.
    pub async fn local(&self, method: &str, path: &str, body: &[u8]) -> (u16, Value) {
        let stream = UnixStream::connect(self.scratch.join("data/spinor.sock")).await.unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        exchange(stream, &[head.as_bytes(), body].concat()).await
    }

    /// Ends it all; the socket is gone then.
    pub async fn end(mut self) {
        self.shutdown.cancel();
        while let Some(done) = self.tasks.join_next().await {
            done.unwrap();
        }
        self.broker.close().await;
        self.results.close().await;
        self.state.close().await;
        assert!(!self.scratch.join("data/spinor.sock").exists(), "the socket is left");
    }
}

/// Sends a request as it is; status and body of the answer.
pub async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &[u8]) -> (u16, Value) {
    // A refused body may be answered before it is sent whole.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let text = String::from_utf8_lossy(&answer);
    let status =
        text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("no HTTP: {text}"));
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
}
