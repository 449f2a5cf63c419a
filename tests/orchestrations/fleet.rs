//! Nodes, a recorder and a driver on one broker.

use std::{sync::Arc, time::Duration};

use spinor::orchestrations::{
    compile::Ready,
    drive::{Driver, Patience, node_queue},
    view::{RunEnd, RunRequest, Runner as _, Update},
};
use spinor_consumers::{
    blobs::Blobs,
    broker::{
        AnyBroker, Broker, QueueSpec,
        embedded::{Embedded, EmbeddedSettings},
    },
    consumer::{Consumer, ConsumerSettings, QueueSettings, Shutdown},
    recorder::{Recorder, RecorderSettings},
    results::{Results, ResultsTarget},
};
use spinor_executors::{
    Origin, Registry,
    plan::{PLAN_KIND, PlanExecutor},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use crate::support::{eventually, scratch::Scratch};

/// A few nodes, and the record of what they do.
pub struct Fleet {
    /// Their broker.
    pub broker: AnyBroker,
    /// Their record.
    pub results: Results,
    shutdown: Shutdown,
    recording: CancellationToken,
    tasks: TaskTracker,
    scratch: Scratch,
}

impl Fleet {
    /// Starts the nodes, and waits until each is on its queue.
    pub async fn start(nodes: &[&str]) -> Self {
        let scratch = Scratch::new("fleet");
        let settings = EmbeddedSettings { dir: scratch.join("broker"), ..EmbeddedSettings::default() };
        let broker = AnyBroker::Embedded(Embedded::open(settings).await.expect("the broker opens"));
        let target = ResultsTarget::Sqlite(scratch.join("results.db"));
        let results = Results::open(&target).await.expect("the record opens");
        let fleet = Self {
            broker,
            results,
            shutdown: Shutdown::default(),
            recording: CancellationToken::new(),
            tasks: TaskTracker::new(),
            scratch,
        };
        fleet.broker.declare(&[]).await.expect("the broker declares its own queues");
        let recorder = Recorder::new(fleet.broker.clone(), fleet.results.clone(), RecorderSettings::default());
        let until = fleet.recording.clone();
        fleet.tasks.spawn(async move { Box::pin(recorder.run(until)).await.expect("the recorder runs") });
        for node in nodes {
            fleet.add(node);
        }
        let queues: Vec<String> = nodes.iter().map(|node| node_queue(node)).collect();
        eventually("every node is on its queue", Duration::from_secs(30), async || {
            let stats = fleet.broker.stats(&queues).await.unwrap_or_default();
            stats.len() == queues.len() && stats.iter().all(|queue| queue.consumers > 0)
        })
        .await;
        fleet
    }

    fn add(&self, node: &str) {
        let settings = ConsumerSettings {
            origin: Origin { consumer: Uuid::now_v7().to_string(), group: "nodes".into(), host: "here".into() },
            node: Some(node.to_owned()),
            queues: vec![QueueSettings {
                spec: QueueSpec { name: node_queue(node), foreign: false },
                default_kind: None,
            }],
            slots: 4,
            hold_after: Duration::from_secs(300),
            results_bound: u64::MAX,
            grace: Duration::from_secs(20),
            soft_to_hard: Duration::from_secs(1),
            keep_output: 4096,
            unknown_kind_grace: Duration::from_secs(2),
            whole_reports: false,
            kinds: Vec::new(),
            limits: Default::default(),
        };
        let journals = self.scratch.join(format!("journals-{node}"));
        let executor = PlanExecutor::new(node, &journals).expect("a node has its journals");
        let mut registry = Registry::default();
        registry.add(PLAN_KIND, Arc::new(executor)).expect("the one kind");
        let consumer =
            Consumer::new(Arc::new(settings), Arc::new(registry), self.broker.clone(), None).with_blobs(self.blobs());
        let until = self.shutdown.clone();
        self.tasks.spawn(async move { consumer.run(until).await.expect("the node runs") });
    }

    fn blobs(&self) -> Blobs {
        Blobs::in_results(Arc::new(self.results.clone().into()))
    }

    /// A driver that has less time than people.
    pub fn driver(&self) -> Driver<AnyBroker, Results> {
        let patience = Patience { unreachable: Duration::from_secs(1), ..Patience::default() };
        let driver = Driver::new(self.broker.clone(), self.results.clone(), vec![]);
        driver.with_patience(patience).with_blobs(self.blobs())
    }

    /// Drives plans to their end.
    pub async fn drive(&self, plans: Vec<Ready>) -> (RunEnd, Vec<Update>) {
        let expires = Duration::from_secs(600);
        let request = RunRequest { id: Uuid::now_v7(), name: "test".into(), plans, expires, timeout: None };
        let mut updates = Vec::new();
        let leave = CancellationToken::new();
        let end = self.driver().run(request, &mut |update| updates.push(update), &leave).await;
        (end.expect("the run is driven to its end"), updates)
    }

    /// Drains the nodes, then the recorder, then closes.
    pub async fn end(self) {
        self.shutdown.drain.cancel();
        self.recording.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.broker.close().await;
        self.results.close().await;
    }
}
