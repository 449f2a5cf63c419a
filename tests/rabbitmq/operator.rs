//! What an operator does to a server while we work on it: takes the application down, changes a
//! password, fills the disk, sets a limit, deletes what is ours. Nothing accepted is lost, and what
//! cannot be done is said.

use std::time::Duration;

use bytes::Bytes;
use lapin::options::ExchangeDeleteOptions;
use spinor_consumers::{
    broker::{Address, Broker, Link, PublishError, Settlement, rabbitmq::RabbitMq},
    message::Message,
};
use tokio::time::timeout;

use super::{PATIENCE, connect, must, next_id, numbered, own, raw, work};
use crate::support::{eventually, servers::PrivateServer};

async fn until(broker: &RabbitMq, what: &str, wanted: impl Fn(&Link) -> bool) {
    let mut link = broker.link();
    timeout(PATIENCE, link.wait_for(|link| wanted(link)))
        .await
        .unwrap_or_else(|_| panic!("never {what}"))
        .expect("a link");
}

async fn declared(server: &PrivateServer) -> RabbitMq {
    let broker = connect(server.url(), "spinor").await;
    broker.declare(&[own("images")]).await.expect("declare");
    broker
}

async fn published(broker: &RabbitMq, number: usize) -> Result<(), PublishError> {
    broker.publish(vec![must(work("images"), numbered(number))]).await.remove(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_that_is_stopped_and_started_on_its_node_is_found_again_with_all_it_took() {
    let server = PrivateServer::start("rabbitmq").await;
    let broker = declared(&server).await;
    for number in 0..20 {
        published(&broker, number).await.expect("published");
    }
    let mut subscription = broker.consume(&work("images"), 5).await.expect("consume");
    assert_eq!(next_id(&broker, &mut subscription).await, "0");
    server.ctl(&["stop_app"]).await;
    until(&broker, "down", |link| matches!(link, Link::Down { .. })).await;
    server.ctl(&["start_app"]).await;
    until(&broker, "up", |link| *link == Link::Up).await;
    let mut seen = Vec::new();
    while seen.last().map(String::as_str) != Some("20") {
        if seen.is_empty() {
            published(&broker, 20).await.expect("published");
        }
        seen.push(next_id(&broker, &mut subscription).await);
    }
    for number in 1..=20 {
        assert!(seen.contains(&number.to_string()), "{number} is not among {seen:?}");
    }
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_alarm_is_shown_publishes_are_refused_and_acks_go_on() {
    let server = PrivateServer::start("rabbitmq").await;
    let broker = declared(&server).await;
    for number in 0..10 {
        published(&broker, number).await.expect("published");
    }
    server.ctl(&["set_disk_free_limit", "900000GB"]).await;
    // The broker says so only to a connection that publishes.
    let stopped = published(&broker, 10).await;
    assert!(matches!(stopped, Ok(()) | Err(PublishError::Unconfirmed(_) | PublishError::Refused(_))), "{stopped:?}");
    until(&broker, "blocked", |link| matches!(link, Link::Blocked { .. })).await;
    let mut subscription = broker.consume(&work("images"), 5).await.expect("consume");
    for number in 0..10 {
        assert_eq!(next_id(&broker, &mut subscription).await, number.to_string());
    }
    server.ctl(&["set_disk_free_limit", "50MB"]).await;
    until(&broker, "up", |link| *link == Link::Up).await;
    published(&broker, 11).await.expect("published");
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_changed_in_the_middle_of_it_is_waited_for_and_what_was_accepted_is_there() {
    let server = PrivateServer::start("rabbitmq").await;
    let broker = declared(&server).await;
    published(&broker, 1).await.expect("published");
    let password = server.url().split(['/', ':', '@']).nth(4).expect("a password").to_owned();
    server.ctl(&["change_password", "spinor", "another"]).await;
    server.ctl(&["close_all_connections", "maintenance"]).await;
    until(&broker, "down", |link| matches!(link, Link::Down { .. })).await;
    server.ctl(&["change_password", "spinor", &password]).await;
    until(&broker, "up", |link| *link == Link::Up).await;
    let mut subscription = broker.consume(&work("images"), 5).await.expect("consume");
    assert_eq!(next_id(&broker, &mut subscription).await, "1");
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rights_taken_away_in_the_middle_of_it_are_waited_for_and_what_was_accepted_is_there() {
    let server = PrivateServer::start("rabbitmq").await;
    let broker = declared(&server).await;
    published(&broker, 1).await.expect("published");
    let mut subscription = broker.consume(&work("images"), 5).await.expect("consume");
    let delivery = timeout(PATIENCE, subscription.next()).await.expect("in time").expect("a delivery");
    // A channel remembers the rights it had; on a new connection they are looked at again.
    server.ctl(&["set_permissions", "spinor", ".*", "^$", ".*"]).await;
    server.ctl(&["close_all_connections", "maintenance"]).await;
    let again = timeout(PATIENCE, subscription.next()).await.expect("in time").expect("it comes again");
    drop(delivery);
    let refused = published(&broker, 2).await;
    assert!(
        matches!(&refused, Err(PublishError::Unconfirmed(why) | PublishError::Refused(why)) if why.contains("ACCESS_REFUSED")),
        "{refused:?}"
    );
    let report = || Settlement { lines: vec!["{}".into()], ..Settlement::default() };
    let unsettled = timeout(PATIENCE, broker.settle(again, report())).await.expect("answered in time");
    assert!(unsettled.is_err(), "its report could not be published");
    let back = timeout(PATIENCE, subscription.next()).await.expect("in time").expect("it comes back");
    server.ctl(&["set_permissions", "spinor", ".*", ".*", ".*"]).await;
    timeout(PATIENCE, broker.settle(back, report())).await.expect("answered in time").expect("settled");
    published(&broker, 3).await.expect("published");
    assert_eq!(next_id(&broker, &mut subscription).await, "3");
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_above_the_servers_own_limit_fails_alone() {
    let server = PrivateServer::start_with("rabbitmq", &["--set", "max_message_size = 65536"]).await;
    let broker = declared(&server).await;
    let large = Message { body: Bytes::from(vec![b' '; 100_000]), ..numbered(2) };
    let batch = vec![must(work("images"), numbered(1)), must(work("images"), large), must(work("images"), numbered(3))];
    let results = timeout(PATIENCE, broker.publish(batch)).await.expect("answered in time");
    assert!(results[0].is_ok() && results[1].is_err() && results[2].is_ok(), "{results:?}");
    let mut subscription = broker.consume(&work("images"), 5).await.expect("consume");
    let mut seen = vec![next_id(&broker, &mut subscription).await];
    while !(seen.contains(&"1".to_owned()) && seen.contains(&"3".to_owned())) {
        seen.push(next_id(&broker, &mut subscription).await);
    }
    assert!(!seen.contains(&"2".to_owned()), "{seen:?}");
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delay_whose_exchange_somebody_deleted_is_declared_again_by_the_settle_that_needs_it() {
    let server = PrivateServer::start("rabbitmq").await;
    let broker = declared(&server).await;
    published(&broker, 1).await.expect("published");
    let mut subscription = broker.consume(&work("images"), 5).await.expect("consume");
    let delivery = timeout(PATIENCE, subscription.next()).await.expect("in time").expect("a delivery");
    let connection = raw(server.url()).await;
    let channel = connection.create_channel().await.expect("a channel");
    channel.exchange_delete("spinor.delay.1s".into(), ExchangeDeleteOptions::default()).await.expect("deleted");
    let to = Address::Delayed { queue: "images".to_owned(), after: Duration::from_secs(1) };
    let settlement = Settlement { publish: vec![must(to, numbered(2))], ..Settlement::default() };
    timeout(PATIENCE, broker.settle(delivery, settlement)).await.expect("in time").expect("settled");
    assert_eq!(next_id(&broker, &mut subscription).await, "2");
    eventually("nothing to be left", PATIENCE, async || {
        broker.stats(&["images".to_owned()]).await.is_ok_and(|stats| stats.iter().all(|queue| queue.ready == 0))
    })
    .await;
    broker.close().await;
}
