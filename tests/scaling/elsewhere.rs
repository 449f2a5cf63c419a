//! The number is reached in sum: with consumers that others have, other supervisors, and state away.

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;
use spinor::client::Client;
use spinor_consumers::state::{Beat, State};
use uuid::Uuid;

use super::stage::{PATIENCE, Stage};
use crate::support::{eventually, proxy::CutProxy, servers, site::Site};

/// Longer than any case.
const LONG: Duration = Duration::from_secs(3600);

/// A consumer of the group on another machine.
async fn beat(state: &State, name: &str, started: Timestamp) {
    let beat = Beat {
        consumer: name.to_owned(),
        group: "default".to_owned(),
        host: "elsewhere".to_owned(),
        started,
        ..Beat::default()
    };
    state.beat(&beat).await.expect("a beat");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consumers_elsewhere_count_and_one_that_leaves_is_made_up_for_here() {
    let mut stage = Stage::rabbitmq("").await;
    let state = stage.state().await;
    for name in ["a", "b"] {
        beat(&state, name, Timestamp::UNIX_EPOCH).await;
    }
    stage.want(3).await;
    let whole = stage.group_with("a look at the others", |group| group.elsewhere == Some(2)).await;
    assert_eq!((whole.wanted, whole.running, whole.replicas.len()), (Some(3), 1, 1), "{whole:?}");
    state.leave("a").await.expect("it leaves");
    let after = stage.replicas(2).await;
    assert_eq!(after.elsewhere, Some(1), "{after:?}");
    // One that drains is none any more.
    let draining = Beat {
        consumer: "b".to_owned(),
        group: "default".to_owned(),
        host: "elsewhere".to_owned(),
        draining: true,
        ..Beat::default()
    };
    state.beat(&draining).await.expect("a beat");
    stage.replicas(3).await;
    stage.drained().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_too_many_the_newest_go_wherever_they_are() {
    let mut stage = Stage::rabbitmq("").await;
    let state = stage.state().await;
    // Older than ours: ours is one too many, and there again when the other has left.
    beat(&state, "a", Timestamp::UNIX_EPOCH).await;
    stage.want(1).await;
    stage.replicas(0).await;
    state.leave("a").await.expect("it leaves");
    stage.replicas(1).await;
    // Newer than ours, and nobody ends it: in the end the sum is what was wanted.
    beat(&state, "b", Timestamp::MAX).await;
    stage.replicas(0).await;
    stage.drained().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_holder_of_the_lease_starts_replicas() {
    let site = Site::new().await;
    let other = Uuid::now_v7();
    let target = spinor_consumers::state::StateTarget::MySql(site.results.clone());
    let state = State::open(&target).await.expect("state opens");
    state.lease("scale:default", other, LONG).await.expect("a lease").expect("it is free");
    let mut stage = Stage::start(Some(site), "", &[]).await;
    stage.want(2).await;
    let led = stage.group_with("a look at the lease", |group| group.elsewhere == Some(0)).await;
    assert_eq!((led.leads, led.wanted, led.replicas.len()), (false, Some(2), 1), "{led:?}");
    state.give_up("scale:default", other).await.expect("given up");
    assert!(stage.replicas(2).await.leads);
    // Who stops gives it up: the next need not wait for its end.
    stage.drained().await;
    state.lease("scale:default", other, LONG).await.expect("a lease").expect("it is free");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_supervisors_reach_the_number_in_sum_and_one_makes_up_for_the_death_of_the_other() {
    let mut stage = Stage::rabbitmq("").await;
    let start = async || {
        let second = stage.spinor.start(&["up", "--data", "second"]);
        second.says("spinor is up", PATIENCE).await;
        second
    };
    let mut second = start().await;
    let other = Client::unix(stage.spinor.join("second/spinor.sock")).expect("a client");
    let of_both = async |what: &str, count: u32| {
        eventually(what, PATIENCE, async || {
            let Ok(second) = other.status().await else { return false };
            let (Some(one), Some(two)) = (stage.group().await, second.groups.first()) else { return false };
            let moving = [&one, two].iter().any(|group| group.running as usize != group.replicas.len());
            !moving && one.running + two.running == count && one.elsewhere == Some(two.running)
        })
        .await;
    };
    stage.want(4).await;
    of_both("four in sum", 4).await;
    second.kill9();
    second.wait(PATIENCE).await;
    stage.replicas(4).await;
    stage.want(2).await;
    stage.replicas(2).await;
    second = start().await;
    of_both("two in sum", 2).await;
    assert_eq!(stage.replicas(2).await.elsewhere, Some(0), "who came last goes");
    stage.drained().await;
    eventually("the other to make up for it", PATIENCE, async || {
        other.status().await.is_ok_and(|status| status.groups.iter().any(|group| group.running == 2))
    })
    .await;
    second.terminate();
    assert_eq!(second.wait(PATIENCE).await.code(), Some(0), "{}", second.stderr());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_state_is_away_nothing_is_started_or_drained_but_the_dead_are_replaced() {
    let redis = servers::redis_url();
    let address = redis.rsplit_once('@').map(|(_, rest)| rest.split('/').next().unwrap()).unwrap();
    let proxy = CutProxy::start(address).await;
    let mut stage = Stage::rabbitmq(&format!("state = {:?}", proxy.url(&redis))).await;
    let prefix = stage.site.as_ref().expect("on RabbitMQ").prefix.clone();
    let target = spinor_consumers::state::StateTarget::Redis { url: redis.clone(), prefix, ca_file: None };
    let state = State::open(&target).await.expect("state opens");
    let replicas = spinor_consumers::state::Subject::Replicas("default".to_owned());
    state.set_mark(&replicas, serde_json::json!(2), "ann", None).await.expect("a mark");
    let two = stage.replicas(2).await;
    proxy.cut();
    state.set_mark(&replicas, serde_json::json!(0), "ann", None).await.expect("a mark");
    let blind = stage.group_with("the trouble to be told", |group| group.problem.is_some()).await;
    assert!(blind.problem.as_ref().is_some_and(|why| why.contains("nothing is started or drained")), "{blind:?}");
    let pids = |group: &spinor::scaling::GroupState| -> BTreeSet<u32> {
        group.replicas.iter().map(|replica| replica.pid).collect()
    };
    assert_eq!((blind.running, pids(&blind)), (2, pids(&two)));
    let victim = stage.children().first().expect("a replica").0;
    let pid = rustix::process::Pid::from_raw(i32::try_from(victim).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it lives");
    eventually("the dead one to be replaced", PATIENCE, async || {
        stage.group().await.is_some_and(|group| group.running == 2 && !pids(&group).contains(&victim))
    })
    .await;
    proxy.heal();
    // What was said meanwhile holds.
    stage.replicas(0).await;
    stage.drained().await;
}
