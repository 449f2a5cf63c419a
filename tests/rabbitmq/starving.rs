//! A server that is there and does not do its work: it hands out nothing, or has no file
//! descriptors left.

use std::{collections::BTreeSet, time::Duration};

use lapin::{Connection, ConnectionProperties};
use spinor_consumers::broker::{Broker, BrokerError, rabbitmq::RabbitMq};
use tokio::time::timeout;

use super::{connect, must, next_id, numbered, own, prefix, work};
use crate::support::{
    proxy::CutProxy,
    servers::{PrivateServer, rabbitmq_url},
};

/// The channels of all consumers stand still on the server, until they are told to go on.
const STAND_STILL: &str = "Channels = [proplists:get_value(channel_pid, C) || C <- rabbit_amqqueue:consumers_all(<<\"/\">>)], \
     spawn(fun() -> register(keeper, self()), [erlang:suspend_process(P) || P <- lists:usort(Channels)], \
     receive go_on -> ok end end), length(lists:usort(Channels)).";
const GO_ON: &str = "keeper ! go_on.";
/// The promise of P8.
const NOTICED: Duration = Duration::from_secs(60);
/// Whoever is not taken within this meets a server that is full.
const FULL: Duration = Duration::from_secs(5);
/// What a frame takes from here to there.
const WAY: Duration = Duration::from_millis(500);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_has_work_and_hands_out_nothing_is_noticed_within_a_minute_and_subscribed_anew() {
    stands_still(5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_does_not_answer_a_change_of_credit_is_noticed_within_a_minute_and_subscribed_anew() {
    stands_still(50).await;
}

/// With another credit from then on the channel is asked something, and does not answer.
async fn stands_still(credit: u32) {
    let server = PrivateServer::start("rabbitmq").await;
    let broker = connect(server.url(), "spinor").await;
    broker.declare(&[own("images")]).await.expect("declare");
    let mut subscription = broker.consume(&work("images"), 5).await.expect("consume");
    accepted(&broker, 0..1).await;
    assert_eq!(next_id(&broker, &mut subscription).await, "0");
    // Links and heartbeats go on, other channels are served, and nothing comes.
    assert_ne!(server.ctl(&["eval", STAND_STILL]).await.trim(), "0");
    subscription.credit(credit);
    accepted(&broker, 1..21).await;
    let first = timeout(NOTICED, next_id(&broker, &mut subscription)).await.expect("noticed in time");
    server.ctl(&["eval", GO_ON]).await;
    let mut seen = BTreeSet::from([first]);
    // What the other channel was given comes back to the queue.
    while seen.len() < 20 {
        seen.insert(next_id(&broker, &mut subscription).await);
    }
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_wait_until_a_slow_broker_says_that_there_is_no_such_queue_costs_nobody_the_connection() {
    let url = rabbitmq_url();
    let address = url.rsplit(['@', '/']).nth(1).expect("host and port");
    let proxy = CutProxy::start(address).await;
    let broker = connect(&proxy.url(&url), &prefix()).await;
    let (mut link, nothing) = (broker.link(), ["nothing".to_owned()]);
    proxy.slow(WAY);
    // A channel is open after two ways, and after four the server says no and closes it: in the
    // middle between them nobody wants to know any more.
    timeout(WAY * 3, broker.stats(&nothing)).await.expect_err("it takes four ways");
    assert!(broker.stats(&nothing).await.expect("it answers").is_empty());
    assert!(!link.has_changed().expect("open"), "the connection was lost: {:?}", *link.borrow_and_update());
    broker.close().await;
}

async fn accepted(broker: &RabbitMq, numbers: std::ops::Range<usize>) {
    let batch = numbers.map(|number| must(work("images"), numbered(number))).collect();
    for result in broker.publish(batch).await {
        result.expect("published");
    }
}

/// A server with so many files may have some thirty connections.
const FILES: &str = "140";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_without_file_descriptors_takes_nobody_new_and_goes_on_with_who_is_there() {
    let server = PrivateServer::start_with("rabbitmq", &["--files", FILES]).await;
    let broker = connect(server.url(), "spinor").await;
    broker.declare(&[own("images")]).await.expect("declare");
    let mut others = Vec::new();
    while let Ok(Ok(other)) = timeout(FULL, Connection::connect(server.url(), ConnectionProperties::default())).await {
        others.push(other);
        assert!(others.len() < 140, "it is never full");
    }
    let another = timeout(NOTICED, RabbitMq::connect(super::settings(server.url(), "spinor"))).await;
    let Err(why) = another.expect("a connect within its bound") else { panic!("it takes nobody new") };
    assert!(matches!(why, BrokerError::Unreachable(_)), "{why}");
    // Who is there publishes and consumes as ever.
    accepted(&broker, 0..50).await;
    let mut subscription = broker.consume(&work("images"), 5).await.expect("consume");
    for number in 0..50 {
        assert_eq!(next_id(&broker, &mut subscription).await, number.to_string());
    }
    // One that leaves makes room.
    for other in others {
        other.close(200, "done".into()).await.expect("it closes");
    }
    let another = connect(server.url(), "spinor").await;
    accepted(&another, 50..51).await;
    assert_eq!(next_id(&broker, &mut subscription).await, "50");
    another.close().await;
    broker.close().await;
}
