//! What a broker gives the suite, and the words its cases are written in.
//!
//! Nothing here knows which broker it is.

use std::{future::Future, time::Duration};

use bytes::Bytes;
use spinor_consumers::{
    broker::{
        Address, AnyBroker, Broker, Delivery, Outgoing, PublishError, QueueSpec, QueueStats, Receipt, Settlement,
        Subscription, Verdict,
    },
    message::{Message, Properties},
};

/// How long anything may take before a case fails. A bound against hanging, not a measure.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// One isolated installation of a broker. Dropping it ends it.
pub trait Fixture: Sized {
    /// A fresh one; with the search copy or without.
    async fn install(search: bool) -> Self;

    /// The handle in use.
    fn broker(&self) -> AnyBroker;

    /// A handle as another process of this installation has it; the same one where only one process
    /// can have it.
    async fn another(&mut self) -> AnyBroker;

    /// Closes the handle in use in good order and opens the installation again.
    async fn reopen(&mut self) -> AnyBroker;

    /// The process that owns the handle in use dies: nothing is closed in good order, nothing in
    /// hand is answered. Then another opens the installation. Called when no publish and no
    /// settle is under way.
    async fn lose(&mut self) -> AnyBroker;
}

/// A case, bounded.
pub async fn bounded(case: impl Future<Output = ()>) {
    tokio::time::timeout(4 * PATIENCE, case).await.expect("the case did not end in time");
}

/// A fresh installation with these work queues.
pub async fn with_queues<F: Fixture>(queues: &[&str]) -> (F, AnyBroker) {
    let fixture = F::install(false).await;
    let broker = fixture.broker();
    declare(&broker, queues).await;
    (fixture, broker)
}

/// Declares work queues.
pub async fn declare(broker: &AnyBroker, queues: &[&str]) {
    let specs: Vec<_> = queues.iter().map(|name| QueueSpec { name: (*name).to_owned(), foreign: false }).collect();
    broker.declare(&specs).await.expect("declare");
}

/// A work queue's address.
pub fn work(queue: &str) -> Address {
    Address::Work(queue.to_owned())
}

/// A message with this number as id and body.
pub fn message(number: usize) -> Message {
    let properties =
        Properties { id: Some(number.to_string()), kind: Some("noop".to_owned()), ..Properties::default() };
    Message { properties, body: Bytes::from(number.to_string()) }
}

/// The number of a [`message`].
pub fn number(delivery: &Delivery) -> usize {
    delivery.message.properties.id.as_deref().and_then(|id| id.parse().ok()).expect("a numbered message")
}

/// A message that must be confirmed, on its way.
pub fn must(to: Address, message: Message) -> Outgoing {
    Outgoing { to, message, must: true }
}

/// Publishes numbered messages to a work queue.
pub async fn publish(broker: &AnyBroker, queue: &str, numbers: std::ops::Range<usize>) {
    let batch = numbers.map(|number| must(work(queue), message(number))).collect();
    for result in broker.publish(batch).await {
        result.expect("published");
    }
}

/// Publishes one, and its result.
pub async fn publish_one(broker: &AnyBroker, outgoing: Outgoing) -> Result<(), PublishError> {
    let mut results = broker.publish(vec![outgoing]).await;
    assert_eq!(results.len(), 1);
    results.remove(0)
}

/// Subscribes.
pub async fn consume(broker: &AnyBroker, from: Address, credit: u32) -> Subscription {
    broker.consume(&from, credit).await.expect("consume")
}

/// The next delivery.
pub async fn take(subscription: &mut Subscription) -> Delivery {
    tokio::time::timeout(PATIENCE, subscription.next())
        .await
        .expect("a delivery in time")
        .expect("a delivery before the end")
}

/// The next so many deliveries.
pub async fn take_many(subscription: &mut Subscription, count: usize) -> Vec<Delivery> {
    let mut taken = Vec::with_capacity(count);
    while taken.len() < count {
        taken.push(take(subscription).await);
    }
    taken
}

/// An ack that publishes nothing.
pub fn ack() -> Settlement {
    Settlement::default()
}

/// An ack that publishes these first.
pub fn ack_with(publish: Vec<Outgoing>) -> Settlement {
    Settlement { publish, ..Settlement::default() }
}

/// Back to the queue.
pub fn hand_back() -> Settlement {
    Settlement { verdict: Verdict::HandBack, ..Settlement::default() }
}

/// The end of a settle or a report.
pub async fn end(receipt: Receipt) -> Result<(), PublishError> {
    tokio::time::timeout(PATIENCE, receipt).await.expect("a receipt in time")
}

/// Acks and waits for it.
pub async fn acked(broker: &AnyBroker, delivery: Delivery) {
    end(broker.settle(delivery, ack())).await.expect("acked");
}

/// What the broker knows of one work queue.
pub async fn stats(broker: &AnyBroker, queue: &str) -> QueueStats {
    let mut all = broker.stats(&[queue.to_owned()]).await.expect("stats");
    assert_eq!(all.len(), 1, "one answer for one queue");
    all.remove(0)
}

/// Waits until so many are ready on a work queue.
pub async fn until_ready(broker: &AnyBroker, queue: &str, ready: u64) {
    let mut last = None;
    let mut beat = tokio::time::interval(Duration::from_millis(20));
    let wait = async {
        loop {
            let now = stats(broker, queue).await.ready;
            if now == ready {
                return;
            }
            last = Some(now);
            beat.tick().await;
        }
    };
    let ended = tokio::time::timeout(PATIENCE, wait).await;
    assert!(ended.is_ok(), "{queue} never had {ready} ready; last seen {last:?}");
}

/// The lines of a pack.
pub fn lines(delivery: &Delivery) -> Vec<String> {
    let text = std::str::from_utf8(&delivery.message.body).expect("a pack is text");
    text.lines().map(str::to_owned).collect()
}

/// Takes packs off a queue until so many lines came, acking each pack; the packs.
pub async fn packs(broker: &AnyBroker, subscription: &mut Subscription, wanted: usize) -> Vec<Vec<String>> {
    let mut packs: Vec<Vec<String>> = Vec::new();
    while packs.iter().map(Vec::len).sum::<usize>() < wanted {
        let delivery = take(subscription).await;
        packs.push(lines(&delivery));
        acked(broker, delivery).await;
    }
    packs
}
