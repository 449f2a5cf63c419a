//! The broker in this process: one directory, owned by one process at a time.
//!
//! Every handle puts what it wants into one [`inbox`]; one task, the [`writer`], groups what waits
//! into one transaction a flush, answers, and sends deliveries to whoever has credit. Push, not
//! poll: the commit that brought a job wakes its consumer. Refuses to be reached from another
//! process or machine: that is what the API, and RabbitMQ, are for.

mod admit;
mod changes;
mod commit;
mod families;
mod fetch;
mod inbox;
mod item;
mod listeners;
mod lock;
mod packs;
mod queue;
mod record;
mod row;
mod store;
mod subscriptions;
mod trouble;
mod writer;

#[cfg(test)]
mod tests;

use std::{os::unix::fs::DirBuilderExt, path::PathBuf, sync::Arc};

use bytes::Bytes;
use tokio::sync::{oneshot, watch};
use tokio_util::task::TaskTracker;

use super::{
    Address, Backlog, Broker, BrokerError, Delivery, Event, Events, Link, Outgoing, PublishError, QueueSpec,
    QueueStats, Receipt, Settlement, Subscription, Topic,
};
use crate::message::Past;
use inbox::{Inbox, Op, Parcel};
use listeners::Listeners;
use lock::DirLock;
use record::Record;
pub(crate) use store::ALL_DELIVERED;
use store::Store;
use writer::Writer;

/// Where an embedded broker lives, and what it keeps.
#[derive(Clone, Debug, Default)]
pub struct EmbeddedSettings {
    /// Its directory; made when absent.
    pub dir: PathBuf,
    /// Keep the second copy of the packs for the search index?
    pub search: bool,
    /// The socket of the process that owns the directory: told to a second one that wants it.
    pub socket: Option<PathBuf>,
}

/// A handle; cheap to clone. The broker ends with its last handle, in good order if closed.
#[derive(Clone)]
pub struct Embedded(Arc<Handle>);

struct Handle {
    inbox: Arc<Inbox>,
    link: watch::Receiver<Link>,
    listeners: Arc<Listeners>,
    record: Arc<Record>,
    tasks: TaskTracker,
}

impl Embedded {
    /// Opens the directory; `InUse` when another process has it, and names that process.
    pub async fn open(settings: EmbeddedSettings) -> Result<Self, BrokerError> {
        let EmbeddedSettings { dir, search, socket } = settings;
        // Private: it holds what jobs are told.
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .map_err(|error| BrokerError::Misconfigured(format!("{}: {error}", dir.display())))?;
        let lock = DirLock::take(&dir, socket.as_deref())?;
        let store = Store::open(&dir).await?;
        let (inbox, listeners) = (Arc::new(Inbox::new()), Arc::new(Listeners::default()));
        let (send_link, link) = watch::channel(Link::Up);
        let end = End { inbox: Arc::clone(&inbox), listeners: Arc::clone(&listeners), link: send_link.clone() };
        let (record, left) = Record::open(&dir);
        let record = Arc::new(record);
        let past = (Arc::clone(&record), left);
        let writer = Writer::open(store, Arc::clone(&inbox), send_link, search, past).await?;
        let tasks = TaskTracker::new();
        tasks.spawn(async move {
            let end = end;
            writer.run().await;
            drop(end);
            lock.release();
        });
        tasks.close();
        Ok(Self(Arc::new(Handle { inbox, link, listeners, record, tasks })))
    }

    fn push(&self, op: Op) {
        // A closed broker drops it, and whoever waits for its answer sees that.
        drop(self.0.inbox.push(op));
    }
}

/// However the writer ends, even by a panic: nobody waits for it in vain.
struct End {
    inbox: Arc<Inbox>,
    listeners: Arc<Listeners>,
    link: watch::Sender<Link>,
}

impl Drop for End {
    fn drop(&mut self) {
        self.inbox.shut();
        self.listeners.end();
        self.link.send_replace(Link::Closed);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let (done, _) = oneshot::channel();
        drop(self.inbox.push(Op::Close { done }));
    }
}

impl Broker for Embedded {
    async fn declare(&self, queues: &[QueueSpec]) -> Result<(), BrokerError> {
        let (done, end) = oneshot::channel();
        // Nobody else could declare a foreign queue here, so it is made like any other.
        let names = queues.iter().map(|queue| queue.name.clone()).collect();
        self.push(Op::Declare { names, done });
        end.await.unwrap_or(Err(BrokerError::Closed))
    }

    async fn publish(&self, batch: Vec<Outgoing>) -> Vec<Result<(), PublishError>> {
        let count = batch.len();
        if count == 0 {
            return Vec::new();
        }
        let parcels: Vec<_> = batch.into_iter().map(Parcel::of).collect();
        let room = self.0.inbox.room(&parcels).await;
        let (done, end) = oneshot::channel();
        if self.0.inbox.push(Op::Publish { parcels, done, room }).is_err() {
            return vec![Err(PublishError::Refused("the broker was closed".to_owned())); count];
        }
        end.await.unwrap_or_else(|_| vec![Err(PublishError::Unconfirmed("the broker was closed".to_owned())); count])
    }

    async fn consume(&self, from: &Address, credit: u32) -> Result<Subscription, BrokerError> {
        let (done, end) = oneshot::channel();
        self.push(Op::Consume { from: from.clone(), credit, done });
        end.await.unwrap_or(Err(BrokerError::Closed))
    }

    fn settle(&self, delivery: Delivery, settlement: Settlement) -> Receipt {
        let (done, receipt) = Receipt::pair();
        let Settlement { lines, publish, verdict } = settlement;
        let parcels = publish.into_iter().map(Parcel::of).collect();
        self.push(Op::Settle { delivery: Box::new(delivery.without_home()), lines, parcels, verdict, done });
        receipt
    }

    fn starting(&self, delivery: &Delivery, past: &Past) {
        self.0.record.starting(&delivery.tag, past);
    }

    fn report(&self, lines: Vec<Bytes>) -> Receipt {
        let (done, receipt) = Receipt::pair();
        match self.0.inbox.room_now(&lines) {
            Some(room) => self.push(Op::Report { lines, done, room: Some(room) }),
            None => {
                let why = "too many reports wait to be written".to_owned();
                // The receipt is in the caller's hand.
                let _ = done.send(Err(PublishError::Refused(why)));
            }
        }
        receipt
    }

    fn cast(&self, event: Event) {
        self.0.listeners.cast(&event);
    }

    async fn listen(&self, topic: Topic) -> Result<Events, BrokerError> {
        self.0.listeners.add(topic).ok_or(BrokerError::Closed)
    }

    fn link(&self) -> watch::Receiver<Link> {
        self.0.link.clone()
    }

    async fn stats(&self, queues: &[String]) -> Result<Vec<QueueStats>, BrokerError> {
        let (done, end) = oneshot::channel();
        self.push(Op::Stats { names: queues.to_vec(), done });
        end.await.unwrap_or(Err(BrokerError::Closed))
    }

    async fn backlog(&self) -> Result<Backlog, BrokerError> {
        let (done, end) = oneshot::channel();
        self.push(Op::Backlog { done });
        end.await.map_err(|_| BrokerError::Closed)
    }

    async fn close(&self) -> usize {
        let (done, end) = oneshot::channel();
        self.push(Op::Close { done });
        // The end may have been asked for before: then it is the task's end that counts.
        let _ = end.await;
        self.0.tasks.wait().await;
        // Settles and their answers are one transaction: it was committed, or this process is not done.
        0
    }
}
