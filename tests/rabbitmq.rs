//! What only RabbitMQ can do to us: losses, freezes, alarms, objects of others.
//!
//! Faults run on private servers, because they hit everybody on one; the rest uses the shared one.

mod cluster;
mod declare;
mod faults;
mod lanes;
mod operator;
mod starving;

use std::time::Duration;

use bytes::Bytes;
use lapin::{Connection, ConnectionProperties};
use spinor_consumers::{
    broker::{
        Address, Broker, BrokerError, Outgoing, QueueSpec, Subscription,
        rabbitmq::{RabbitMq, RabbitSettings},
    },
    message::{Message, Properties},
};
use uuid::Uuid;

/// How long anything may take before a test fails: a bound against hanging.
const PATIENCE: Duration = Duration::from_secs(90);

fn prefix() -> String {
    format!("test-{}", Uuid::now_v7().simple())
}

fn settings(url: &str, prefix: &str) -> RabbitSettings {
    let confirm_timeout = Duration::from_secs(5);
    RabbitSettings { prefix: prefix.to_owned(), confirm_timeout, ..RabbitSettings::new(url) }
}

async fn connect(url: &str, prefix: &str) -> RabbitMq {
    RabbitMq::connect(settings(url, prefix)).await.expect("connect")
}

/// A raw client, to do what we would not do.
async fn raw(url: &str) -> Connection {
    Connection::connect(url, ConnectionProperties::default()).await.expect("a raw connection")
}

fn own(name: &str) -> QueueSpec {
    QueueSpec { name: name.to_owned(), foreign: false }
}

fn foreign(name: &str) -> QueueSpec {
    QueueSpec { name: name.to_owned(), foreign: true }
}

fn work(queue: &str) -> Address {
    Address::Work(queue.to_owned())
}

fn numbered(number: usize) -> Message {
    let id = Some(number.to_string());
    let properties = Properties { id, kind: Some("noop".to_owned()), ..Properties::default() };
    Message { properties, body: Bytes::from_static(b"{}") }
}

fn must(to: Address, message: Message) -> Outgoing {
    Outgoing { to, message, must: true }
}

/// The next delivery's id.
async fn next_id(broker: &RabbitMq, subscription: &mut Subscription) -> String {
    let delivery = tokio::time::timeout(PATIENCE, subscription.next())
        .await
        .expect("a delivery in time")
        .expect("a delivery before the end");
    let id = delivery.message.properties.id.clone().unwrap_or_default();
    drop(broker.settle(delivery, spinor_consumers::broker::Settlement::default()));
    id
}

/// The words of a misconfiguration.
fn misconfigured<T>(result: Result<T, BrokerError>) -> String {
    match result {
        Err(BrokerError::Misconfigured(why)) => why,
        Err(other) => panic!("expected a misconfiguration, got {other}"),
        Ok(_) => panic!("expected a misconfiguration, and it worked"),
    }
}
