//! The choice between the two brokers, made at the wiring.

use bytes::Bytes;
use tokio::sync::watch;

use super::{
    Address, Backlog, Broker, BrokerError, BrokerObject, Delivery, DeliveryTag, Event, Events, Keeps, Link, Outgoing,
    PublishError, QueueSpec, QueueStats, Receipt, Settlement, Subscription, Topic, embedded::Embedded,
    rabbitmq::RabbitMq,
};
use crate::message::Past;

/// One of the two brokers.
#[derive(Clone)]
pub enum AnyBroker {
    /// In this process, in one directory.
    Embedded(Embedded),
    /// A RabbitMQ server or cluster.
    RabbitMq(RabbitMq),
}

macro_rules! each {
    ($self:ident, $broker:ident => $call:expr) => {
        match $self {
            Self::Embedded($broker) => $call,
            Self::RabbitMq($broker) => $call,
        }
    };
}

impl Broker for AnyBroker {
    async fn declare(&self, queues: &[QueueSpec]) -> Result<(), BrokerError> {
        each!(self, broker => broker.declare(queues).await)
    }

    async fn publish(&self, batch: Vec<Outgoing>) -> Vec<Result<(), PublishError>> {
        each!(self, broker => broker.publish(batch).await)
    }

    async fn consume(&self, from: &Address, credit: u32) -> Result<Subscription, BrokerError> {
        each!(self, broker => broker.consume(from, credit).await)
    }

    fn settle(&self, delivery: Delivery, settlement: Settlement) -> Receipt {
        each!(self, broker => broker.settle(delivery, settlement))
    }

    fn keeps(&self) -> Keeps {
        each!(self, broker => broker.keeps())
    }

    fn starting(&self, delivery: &Delivery, past: &Past) {
        each!(self, broker => broker.starting(delivery, past));
    }

    fn in_hand(&self, tag: &DeliveryTag) -> bool {
        each!(self, broker => broker.in_hand(tag))
    }

    async fn let_go(&self, delivery: Delivery) {
        each!(self, broker => broker.let_go(delivery).await);
    }

    fn report(&self, lines: Vec<Bytes>) -> Receipt {
        each!(self, broker => broker.report(lines))
    }

    fn cast(&self, event: Event) {
        each!(self, broker => broker.cast(event));
    }

    async fn listen(&self, topic: Topic) -> Result<Events, BrokerError> {
        each!(self, broker => broker.listen(topic).await)
    }

    fn link(&self) -> watch::Receiver<Link> {
        each!(self, broker => broker.link())
    }

    async fn stats(&self, queues: &[String]) -> Result<Vec<QueueStats>, BrokerError> {
        each!(self, broker => broker.stats(queues).await)
    }

    async fn objects(&self, queues: &[QueueSpec]) -> Result<Vec<BrokerObject>, BrokerError> {
        each!(self, broker => broker.objects(queues).await)
    }

    async fn road(&self, of: &Address) -> Result<Option<QueueStats>, BrokerError> {
        each!(self, broker => broker.road(of).await)
    }

    async fn backlog(&self) -> Result<Backlog, BrokerError> {
        each!(self, broker => broker.backlog().await)
    }

    async fn close(&self) -> usize {
        each!(self, broker => broker.close().await)
    }
}
