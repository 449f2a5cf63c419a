//! Three nodes, of which some die: the leader of the queues, one that follows it, and then two of
//! three. Nothing accepted is lost, a node less is hardly noticed, and without the majority nothing
//! is accepted.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use spinor_consumers::broker::{Address, Broker, PublishError, Settlement, rabbitmq::RabbitMq};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{PATIENCE, connect, faults::run_all, must, numbered, own, work};
use crate::support::{eventually, servers::PrivateServer, soak};

/// So many more run while a node is away.
const WITHOUT: usize = 300;
/// Jobs of one publish, and between two of them.
const BATCH: usize = 20;
const PACE: Duration = Duration::from_millis(50);

/// Nodes of one cluster. The first keeps the port mapper of all, so it is the one that lives.
struct Cluster([PrivateServer; 3]);

impl Cluster {
    async fn start() -> Self {
        let first = PrivateServer::start("rabbitmq").await;
        let directory = first.detail("dir").expect("a directory").to_owned();
        let join = ["--join", directory.as_str()];
        let second = PrivateServer::start_with("rabbitmq", &join).await;
        let third = PrivateServer::start_with("rabbitmq", &join).await;
        Self([first, second, third])
    }

    /// All hosts, the second node first.
    fn url(&self) -> String {
        let [first, second, third] = self.0.each_ref().map(PrivateServer::address);
        self.0[0].url().replacen(&first, &format!("{second},{third},{first}"), 1)
    }

    /// Makes the second node the leader of what the run needs.
    async fn lead(&self) {
        let name = self.0[1].detail("node").expect("a node's name");
        for queue in ["spinor.jobs.images", "spinor.results"] {
            let transfer = format!(
                "{{ok, Queue}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"/\">>, queue, <<\"{queue}\">>)), \
                 {{Name, Leader}} = amqqueue:get_pid(Queue), \
                 ra:transfer_leadership({{Name, Leader}}, {{Name, '{name}'}})."
            );
            eventually("the node to lead", PATIENCE, async || {
                self.0[0].ctl(&["eval", &transfer]).await.contains("already_leader")
            })
            .await;
        }
    }
}

/// Publishes new numbers until told to stop; those that were accepted.
async fn publish_on(broker: RabbitMq, accepted: Arc<Mutex<BTreeSet<usize>>>, stop: CancellationToken) {
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for first in (0..).step_by(BATCH) {
        pace.tick().await;
        if stop.is_cancelled() {
            return;
        }
        let batch = (first..first + BATCH).map(|number| must(work("images"), numbered(number))).collect();
        for (number, sent) in (first..).zip(broker.publish(batch).await) {
            match sent {
                Ok(()) => drop(accepted.lock().expect("no panic").insert(number)),
                Err(PublishError::Unconfirmed(_) | PublishError::Refused(_)) => {}
                Err(other) => panic!("{number}: {other}"),
            }
        }
    }
}

/// Keeps the numbers that reports tell.
async fn collect_on(broker: RabbitMq, reported: Arc<Mutex<BTreeSet<usize>>>) {
    let mut results = broker.consume(&Address::Results, 100).await.expect("consume");
    while let Some(pack) = results.next().await {
        let text = std::str::from_utf8(&pack.message.body).expect("text");
        let numbers = text.lines().map(|line| line.parse::<usize>().expect("a number"));
        reported.lock().expect("no panic").extend(numbers);
        drop(broker.settle(pack, Settlement::default()));
    }
}

/// Waits until so many more have run.
async fn more(ran: &AtomicUsize, count: usize) {
    let before = ran.load(Ordering::Relaxed);
    eventually("jobs to run", PATIENCE, async || ran.load(Ordering::Relaxed) >= before + count).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_loses_its_leader_a_member_or_its_majority_loses_no_job() {
    let cluster = Cluster::start().await;
    let [first, second, third] = &cluster.0;
    let broker = connect(&cluster.url(), "spinor").await;
    broker.declare(&[own("images")]).await.expect("declare");
    // RabbitMQ 3.10 writes down the name of a new quorum queue some seconds late; an orderly restart
    // does it now.
    second.restart().await;
    third.restart().await;
    cluster.lead().await;
    let (accepted, reported, ran) =
        <(Arc<Mutex<BTreeSet<usize>>>, Arc<Mutex<BTreeSet<usize>>>, Arc<AtomicUsize>)>::default();
    let stop = CancellationToken::new();
    let mut publishing = JoinSet::new();
    publishing.spawn(publish_on(broker.clone(), Arc::clone(&accepted), stop.clone()));
    let mut tasks = JoinSet::new();
    tasks.spawn(run_all(broker.clone(), Arc::clone(&ran)));
    tasks.spawn(collect_on(broker.clone(), Arc::clone(&reported)));
    for lost in [second, third] {
        more(&ran, WITHOUT).await;
        lost.kill9().await;
        more(&ran, WITHOUT).await;
        lost.restart().await;
    }
    more(&ran, WITHOUT).await;
    second.kill9().await;
    third.kill9().await;
    // The one that is left has everything, and may confirm nothing by itself.
    let alone = connect(first.url(), "spinor").await;
    let refused = alone.publish(vec![must(work("images"), numbered(usize::MAX))]).await.remove(0);
    assert!(matches!(refused, Err(PublishError::Unconfirmed(_) | PublishError::Refused(_))), "{refused:?}");
    alone.close().await;
    soak::each_second(soak::or(1, 60), async || {}).await;
    tokio::join!(second.restart(), third.restart());
    more(&ran, WITHOUT).await;
    stop.cancel();
    timeout(PATIENCE, publishing.join_all()).await.expect("the publisher ends");
    let missing = || -> Vec<usize> {
        let (accepted, reported) = (accepted.lock().expect("no panic"), reported.lock().expect("no panic"));
        accepted.difference(&reported).copied().collect()
    };
    let what = format!("each of the accepted to be reported, after {}", ran.load(Ordering::Relaxed));
    eventually(&what, PATIENCE, async || missing().is_empty()).await;
    broker.close().await;
}
