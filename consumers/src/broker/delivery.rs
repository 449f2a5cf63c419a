//! A message in hand and the duty to answer it; what a settlement says; the receipt.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::{BrokerError, Outgoing, PublishError};
use crate::message::Message;

/// A message in hand. It must be settled, by value, once; one that is dropped instead is handed
/// back to its queue.
#[must_use = "a delivery must be settled"]
#[derive(Debug)]
pub struct Delivery {
    /// The message.
    pub message: Message,
    /// The short name of the queue it came from.
    pub queue: String,
    /// Was it, or may it have been, in hand somewhere before? `false` is certain.
    pub redelivered: bool,
    /// Had, or may, an execution of it have started before? `false` is certain.
    pub started: bool,
    /// How its broker finds it again.
    pub tag: DeliveryTag,
    home: Option<Arc<dyn Home>>,
}

/// Where a delivery goes that nobody settled.
pub trait Home: Send + Sync + std::fmt::Debug {
    /// Takes back, at once and without waiting, what was dropped; it has no home any more.
    fn take_back(&self, delivery: Delivery);
}

impl Delivery {
    /// For brokers: a delivery that goes `home` when it is dropped. One that is redelivered may have
    /// been started, unless its broker says otherwise.
    pub fn new(message: Message, queue: String, redelivered: bool, tag: DeliveryTag, home: Arc<dyn Home>) -> Self {
        Self { message, queue, redelivered, started: redelivered, tag, home: Some(home) }
    }

    /// For brokers: it is in their hands again, and dropping it does nothing any more.
    pub fn without_home(mut self) -> Self {
        self.home = None;
        self
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            let (message, queue) = (std::mem::take(&mut self.message), std::mem::take(&mut self.queue));
            let (redelivered, started, tag) = (self.redelivered, self.started, self.tag);
            home.take_back(Self { message, queue, redelivered, started, tag, home: None });
        }
    }
}

/// How a broker finds a delivery again: its own number, valid only within its own subscription.
#[derive(Clone, Copy, Debug)]
pub struct DeliveryTag {
    /// The subscription (and, on RabbitMQ, the channel it had then).
    pub subscription: u64,
    /// The number within it.
    pub number: u64,
}

/// What is to be published, and then the answer.
#[derive(Debug, Default)]
pub struct Settlement {
    /// Lines for the reply queue ([`crate::entry::Entry::line`]); travel packed; always confirmed
    /// first.
    pub lines: Vec<Bytes>,
    /// Messages of their own: retry copies, dead letters, follow-ups, replies.
    pub publish: Vec<Outgoing>,
    /// The answer.
    pub verdict: Verdict,
}

/// The answer to a delivery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// Done with it: a copy, a report or nothing took its place.
    #[default]
    Ack,
    /// Back to its queue, near its old place, without penalty.
    HandBack,
}

/// Tells how a settle or a report ended. Dropping it is allowed: the settle goes on.
#[derive(Debug)]
pub struct Receipt(oneshot::Receiver<Result<(), PublishError>>);

impl Receipt {
    /// A receipt and the way to fill it in.
    pub fn pair() -> (oneshot::Sender<Result<(), PublishError>>, Self) {
        let (send, receive) = oneshot::channel();
        (send, Self(receive))
    }
}

impl Future for Receipt {
    type Output = Result<(), PublishError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0)
            .poll(context)
            .map(|end| end.unwrap_or_else(|_| Err(PublishError::Unconfirmed("the broker was closed".to_owned()))))
    }
}

/// A stream of deliveries with credit. Dropping it cancels it; deliveries in hand stay answerable
/// until the broker is closed, and what was not taken out of it goes back.
#[derive(Debug)]
pub struct Subscription {
    deliveries: mpsc::Receiver<Delivery>,
    steer: Box<dyn Steer>,
}

/// How a broker is told, at once and in order, what a subscription wants. Nothing here waits.
pub trait Steer: Send + Sync + std::fmt::Debug {
    /// Let this many be in hand; the latest word counts.
    fn credit(&self, credit: u32);
    /// Send nothing more; answer when that is promised, and drop `done` when the broker was closed.
    fn cancel(&self, done: oneshot::Sender<()>);
    /// The subscription was dropped, and this was never taken out of it.
    fn dropped(&self, left: Vec<Delivery>);
}

impl Subscription {
    /// For brokers: where the deliveries come from, and who is told what is wanted.
    pub fn new(deliveries: mpsc::Receiver<Delivery>, steer: Box<dyn Steer>) -> Self {
        Self { deliveries, steer }
    }

    /// The next delivery; `None` after a cancel, when all that was under way is taken out, or
    /// when the broker is closed. Cancel-safe.
    pub async fn next(&mut self) -> Option<Delivery> {
        self.deliveries.recv().await
    }

    /// Up to `limit` deliveries at once, at least one; 0 means the end. Cancel-safe.
    pub async fn next_many(&mut self, into: &mut Vec<Delivery>, limit: usize) -> usize {
        self.deliveries.recv_many(into, limit).await
    }

    /// A delivery if one is there.
    pub fn try_next(&mut self) -> Option<Delivery> {
        self.deliveries.try_recv().ok()
    }

    /// Changes how many may be in hand; more or fewer than now, 0 pauses. Never waits.
    pub fn credit(&self, credit: u32) {
        self.steer.credit(credit);
    }

    /// Stops the flow; what is under way can still be taken out with [`Self::next`].
    pub async fn cancel(&self) -> Result<(), BrokerError> {
        let (send, done) = oneshot::channel();
        self.steer.cancel(send);
        tokio::time::timeout(Duration::from_secs(10), done)
            .await
            .map_err(|_| BrokerError::Unreachable("no answer to a cancel within 10 s".to_owned()))?
            .map_err(|_| BrokerError::Closed)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        // Closed first, so that nothing can arrive between the last look and the end.
        self.deliveries.close();
        let mut left = Vec::new();
        while let Ok(delivery) = self.deliveries.try_recv() {
            left.push(delivery);
        }
        self.steer.dropped(left);
    }
}
