//! A message in hand and the duty to answer it; what a settlement says; the receipt.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::{BrokerError, Outgoing, PublishError};
use crate::message::Message;

/// A message in hand. It must be settled, by value, once; one that is dropped goes back to its
/// queue when its subscription ends.
#[must_use = "a delivery must be settled"]
#[derive(Debug)]
pub struct Delivery {
    /// The message.
    pub message: Message,
    /// The short name of the queue it came from.
    pub queue: String,
    /// Was it, or may it have been, in hand somewhere before? `false` is certain.
    pub redelivered: bool,
    /// How its broker finds it again.
    pub tag: DeliveryTag,
}

/// How a broker finds a delivery again: its own number, valid only within its own subscription.
#[derive(Clone, Debug)]
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
    control: Path,
}

#[derive(Debug)]
enum Path {
    Channel(mpsc::Sender<Control>),
    Direct(Box<dyn Steer>),
}

/// How a broker in the same process is told, at once and in order, what a subscription wants.
pub trait Steer: Send + Sync + std::fmt::Debug {
    /// Let this many be in hand.
    fn credit(&self, credit: u32);
    /// Send nothing more; answer when that is promised.
    fn cancel(&self, done: oneshot::Sender<()>);
    /// The subscription was dropped, and this was never taken out of it.
    fn dropped(&self, left: Vec<Delivery>);
}

/// What a subscription tells its broker.
#[derive(Debug)]
pub enum Control {
    /// Let this many be in hand.
    Credit(u32),
    /// Send nothing more; answers when the broker has promised it. Then the stream ends.
    Cancel(oneshot::Sender<()>),
    /// The subscription was dropped with these inside, which nobody took: they go back.
    Leave(Vec<DeliveryTag>),
}

impl Subscription {
    /// For brokers: the two channels of a subscription.
    pub const fn new(deliveries: mpsc::Receiver<Delivery>, control: mpsc::Sender<Control>) -> Self {
        Self { deliveries, control: Path::Channel(control) }
    }

    /// For brokers in the same process: no channel between a wish and its broker.
    pub fn steered(deliveries: mpsc::Receiver<Delivery>, steer: Box<dyn Steer>) -> Self {
        Self { deliveries, control: Path::Direct(steer) }
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

    /// Changes how many may be in hand; more or fewer than now, 0 pauses.
    pub async fn credit(&self, credit: u32) {
        match &self.control {
            // A closed channel means that the broker was closed: nothing more comes anyway.
            Path::Channel(control) => drop(control.send(Control::Credit(credit)).await),
            Path::Direct(steer) => steer.credit(credit),
        }
    }

    /// Stops the flow; what is under way can still be taken out with [`Self::next`].
    pub async fn cancel(&self) -> Result<(), BrokerError> {
        let (send, done) = oneshot::channel();
        match &self.control {
            Path::Channel(control) => {
                control.send(Control::Cancel(send)).await.map_err(|_| BrokerError::Closed)?;
            }
            Path::Direct(steer) => steer.cancel(send),
        }
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
        match &self.control {
            // A broker that is gone, or busy for ever, gives them back by itself when it closes.
            Path::Channel(control) => {
                let left = left.into_iter().map(|delivery| delivery.tag).collect();
                drop(control.try_send(Control::Leave(left)));
            }
            Path::Direct(steer) => steer.dropped(left),
        }
    }
}
