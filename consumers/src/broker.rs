//! The seam between Spinor and a message broker, and its contract.
//!
//! Owns the words both brokers speak: addresses, deliveries, settle, events, link. Refuses to know
//! either of them: `embedded` and `rabbitmq` implement [`Broker`], one conformance suite holds
//! both to it, and [`AnyBroker`] is the choice made at the wiring.
//!
//! The heart is [`Broker::settle`]: "publish these, then answer that". A crash between the two
//! repeats work and never loses it.

pub mod embedded;
pub mod rabbitmq;

mod any;
mod delivery;
mod events;
mod objects;
mod priority;

use std::{future::Future, time::Duration};

use bytes::Bytes;
use tokio::sync::watch;
use uuid::Uuid;

use crate::message::{Message, Past};

pub use any::AnyBroker;
pub use delivery::{Delivery, DeliveryTag, Home, Receipt, Settlement, Steer, Subscription, Verdict};
pub use events::{Event, EventSink, Events, Topic};
pub use objects::{BrokerObject, ObjectKind, ObjectState};
pub use priority::{LaneStats, PriorityLane, RESERVED, is_reserved};

/// Where a message goes. Names are short; each broker adds its own prefix.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// A work queue; which of its lanes, the message's priority says.
    Work(String),
    /// A work queue, not before this long from now.
    Delayed {
        /// The work queue.
        queue: String,
        /// Never earlier than this; at most 15 minutes a hop, longer ones hop on.
        after: Duration,
    },
    /// The report queue: packs of entries.
    Results,
    /// The second copy of the packs, for the search index; bounded, drops its oldest.
    Search,
    /// The road to the dead-letter table.
    Dead,
    /// What follows the end of a job.
    Next,
    /// A reply queue, by its full name.
    Reply(String),
    /// What a consumer holds while it runs: its own queue, from which a job goes home to its work
    /// queue by itself when nobody takes it within 2 s. Only where [`Broker::keeps`] says copies.
    Held {
        /// The consumer's boot id.
        holder: Uuid,
        /// The work queue it goes home to; for consuming it says nothing.
        queue: String,
    },
}

impl Address {
    /// A work queue, at once or after a while.
    pub fn after(queue: String, delay: Option<Duration>) -> Self {
        match delay.filter(|delay| !delay.is_zero()) {
            Some(after) => Self::Delayed { queue, after },
            None => Self::Work(queue),
        }
    }
}

/// A message on its way to an address.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Where to.
    pub to: Address,
    /// What.
    pub message: Message,
    /// Must it be confirmed before the delivery is answered? A reply waits for the broker's word, but its queue
    /// may be gone.
    pub must: bool,
}

/// A queue that must exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSpec {
    /// Short name of a work queue.
    pub name: String,
    /// Somebody else's: consumed under exactly this name, never declared.
    pub foreign: bool,
}

/// What a broker knows of a queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct QueueStats {
    /// Short name.
    pub name: String,
    /// Waiting for a consumer, in all its lanes.
    pub ready: u64,
    /// With consumers, not answered; `None` where the broker does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unacked: Option<u64>,
    /// Consumers on it.
    pub consumers: u64,
    /// Of those that are ready, how many wait in the high and in the low lane; none where nobody
    /// ever published with such a priority, as far as is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lanes: Option<LaneStats>,
}

/// What waits on the report queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Messages, each with a pack of reports.
    pub packs: u64,
    /// Their size together, in bytes; about.
    pub bytes: u64,
}

/// The state of the connection to the broker.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Link {
    /// Usable.
    Up,
    /// The broker accepts no publishes for now (alarm).
    Blocked {
        /// The broker's word for it.
        why: String,
    },
    /// Not connected; being retried.
    Down {
        /// The last error.
        why: String,
    },
    /// Closed by us.
    Closed,
}

/// Why a publish was not accepted. Named by what the caller does next.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PublishError {
    /// Ask a person: no such queue.
    #[error("no queue takes `{queue}`; queues known here: {}", known.join(", "))]
    Unroutable {
        /// The address as asked for.
        queue: String,
        /// What exists.
        known: Vec<String>,
    },
    /// Make it smaller.
    #[error("the message has {size} bytes, more than the limit of {limit}")]
    TooLarge {
        /// Its size.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// Send it again with the same id: it may or may not have been stored.
    #[error("the broker did not confirm in time: {0}")]
    Unconfirmed(String),
    /// Wait and send it again: it was not stored.
    #[error("the broker does not accept it now: {0}")]
    Refused(String),
}

/// Why the broker could not do something else.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BrokerError {
    /// Wait: the link is down and being retried.
    #[error("the broker cannot be reached: {0}")]
    Unreachable(String),
    /// Ask a person: wrong password, wrong arguments of an existing object, corrupt store.
    #[error("{0}")]
    Misconfigured(String),
    /// Wait for its owner: a queue of somebody else's is not there.
    #[error("{0}")]
    Absent(String),
    /// Ask that process, or use another directory.
    #[error("{0}")]
    InUse(String),
    /// Stop: the broker was closed.
    #[error("the broker was closed")]
    Closed,
}

/// How it is known, after a consumer died, which jobs it had started and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeps {
    /// The broker is in the consumer's process and writes each start down.
    Starts,
    /// The broker tells nothing, and takes back what is in hand for too long: consumers keep copies
    /// in [`Address::Held`].
    Copies,
}

/// The contract. Both brokers behave the same (P10).
pub trait Broker: Clone + Send + Sync + 'static {
    /// Makes sure that the work queues, and the objects every installation needs, exist. Passive
    /// first; a mismatch is explained and changes nothing.
    fn declare(&self, queues: &[QueueSpec]) -> impl Future<Output = Result<(), BrokerError>> + Send;

    /// Publishes durably; an item's result is `Ok` only once the broker has it on disk. Results
    /// are in the order of the batch. Waits while the broker is blocked, up to the configured
    /// bound.
    fn publish(&self, batch: Vec<Outgoing>) -> impl Future<Output = Vec<Result<(), PublishError>>> + Send;

    /// Subscribes to a queue: a work queue, `Results`, `Search`, `Dead` or `Next`, or `Reply`,
    /// which makes a reply queue of that name that lives as long as the subscription. At most
    /// `credit` deliveries are in hand and unanswered. The subscription survives a lost link: it
    /// resubscribes by itself, and what was in hand comes again marked redelivered.
    fn consume(&self, from: &Address, credit: u32) -> impl Future<Output = Result<Subscription, BrokerError>> + Send;

    /// Publishes what the settlement holds, then answers the delivery; returns at once, and the
    /// receipt tells the end. If a publish that must be confirmed fails, the delivery is not
    /// acked and comes again. If the delivery's link is gone, reports are still published, and
    /// retry copies and dead letters are not: the redelivery carries the future.
    fn settle(&self, delivery: Delivery, settlement: Settlement) -> Receipt;

    /// How starts are known after a death.
    fn keeps(&self) -> Keeps {
        Keeps::Starts
    }

    /// A job is about to start, or goes on with another past; where the broker keeps starts it is
    /// written down before this returns.
    fn starting(&self, _delivery: &Delivery, _past: &Past) {}

    /// Is the delivery still good for an answer? `false` once its link is gone.
    fn in_hand(&self, _tag: &DeliveryTag) -> bool {
        true
    }

    /// Acks a delivery whose job lives on in another one; returns when the broker has heard it, so
    /// that not even a death at once brings both back.
    fn let_go(&self, delivery: Delivery) -> impl Future<Output = ()> + Send {
        drop(self.settle(delivery, Settlement::default()));
        std::future::ready(())
    }

    /// Packs lines for the reply queue that belong to no delivery (`queued` reports, steps).
    fn report(&self, lines: Vec<Bytes>) -> Receipt;

    /// Sends a lossy event to whoever listens. Never waits; drops and counts when it cannot.
    fn cast(&self, event: Event);

    /// Listens to events of a topic, from now on. A slow listener loses the oldest.
    fn listen(&self, topic: Topic) -> impl Future<Output = Result<Events, BrokerError>> + Send;

    /// The link's state, now and on change.
    fn link(&self) -> watch::Receiver<Link>;

    /// What is known of these queues, or of all work queues when none is named.
    fn stats(&self, queues: &[String]) -> impl Future<Output = Result<Vec<QueueStats>, BrokerError>> + Send;

    /// The objects that an installation with these queues wants, each beside what is there; none where the broker
    /// has no objects that others could change.
    fn objects(&self, _queues: &[QueueSpec]) -> impl Future<Output = Result<Vec<BrokerObject>, BrokerError>> + Send {
        std::future::ready(Ok(Vec::new()))
    }

    /// A road that one part reads, `Results` or `Next`: what waits on it, and how many read it. `None` where all parts
    /// are one process, or before anybody declared it.
    fn road(&self, _of: &Address) -> impl Future<Output = Result<Option<QueueStats>, BrokerError>> + Send {
        std::future::ready(Ok(None))
    }

    /// What waits to be recorded.
    fn backlog(&self) -> impl Future<Output = Result<Backlog, BrokerError>> + Send;

    /// Ends: settles what is under way, answers no more, closes. Deliveries in hand go back. Takes
    /// no longer than a bound, whatever the link does; tells how many deliveries were settled and
    /// could not be answered: they come again, though their work is done.
    fn close(&self) -> impl Future<Output = usize> + Send;
}
