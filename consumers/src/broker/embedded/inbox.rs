//! What waits for the writer: everything that anybody asks of the broker, in order.
//!
//! Bounded by what its senders hold: publishes and reports by bytes, settles by the deliveries in
//! hand. Closed once and for all by the end of the broker.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};

use crate::{
    broker::{Address, Backlog, BrokerError, Delivery, Outgoing, PublishError, QueueStats, Subscription, Verdict},
    message::MAX_BODY,
};

use super::row;

/// A flush takes at most so many operations...
const FLUSH_OPS: usize = 1000;
/// ...and about so many bytes.
const FLUSH_BYTES: usize = 4 << 20;
/// At most so many KiB of publishes wait, and as many of reports.
const WAITING_KIB: usize = 32 << 10;

/// How a settle, a report or a publish ends.
pub(super) type Done = oneshot::Sender<Result<(), PublishError>>;

/// A message on its way, with its row, made by the sender.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) to: Address,
    pub(super) must: bool,
    pub(super) content: Result<(crate::message::Message, Vec<u8>), PublishError>,
}

impl Parcel {
    /// Checks the size and makes the row.
    pub(super) fn of(outgoing: Outgoing) -> Self {
        let Outgoing { to, message, must } = outgoing;
        let size = message.body.len();
        let content = if size > MAX_BODY {
            Err(PublishError::TooLarge { size, limit: MAX_BODY })
        } else {
            let row = row::encode(&message);
            Ok((message, row))
        };
        Self { to, must, content }
    }

    fn bytes(&self) -> usize {
        self.content.as_ref().map_or(0, |(_, row)| row.len())
    }
}

/// What is asked of the writer.
#[derive(Debug)]
pub(super) enum Op {
    Publish {
        parcels: Vec<Parcel>,
        done: oneshot::Sender<Vec<Result<(), PublishError>>>,
        room: Option<OwnedSemaphorePermit>,
    },
    Settle {
        delivery: Box<Delivery>,
        lines: Vec<Bytes>,
        parcels: Vec<Parcel>,
        verdict: Verdict,
        done: Done,
    },
    Report {
        lines: Vec<Bytes>,
        done: Done,
        room: Option<OwnedSemaphorePermit>,
    },
    Declare {
        names: Vec<String>,
        done: oneshot::Sender<Result<(), BrokerError>>,
    },
    Consume {
        from: Address,
        credit: u32,
        done: oneshot::Sender<Result<Subscription, BrokerError>>,
    },
    Credit {
        subscription: u64,
        credit: u32,
    },
    Cancel {
        subscription: u64,
        done: oneshot::Sender<()>,
    },
    Dropped {
        subscription: u64,
        left: Vec<Delivery>,
    },
    Stats {
        names: Vec<String>,
        done: oneshot::Sender<Result<Vec<QueueStats>, BrokerError>>,
    },
    Backlog {
        done: oneshot::Sender<Backlog>,
    },
    Close {
        done: oneshot::Sender<()>,
    },
}

impl Op {
    /// How many operations and bytes a flush grows by.
    fn weight(&self) -> (usize, usize) {
        match self {
            Self::Publish { parcels, .. } => (parcels.len(), parcels.iter().map(Parcel::bytes).sum()),
            Self::Settle { lines, parcels, .. } => {
                (1 + parcels.len(), lines.iter().map(Bytes::len).chain(parcels.iter().map(Parcel::bytes)).sum())
            }
            Self::Report { lines, .. } => (1, lines.iter().map(Bytes::len).sum()),
            _ => (1, 0),
        }
    }
}

/// What waits for the writer.
#[derive(Debug)]
pub(super) struct Inbox {
    state: Mutex<State>,
    wake: Notify,
    publishes: Arc<Semaphore>,
    reports: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct State {
    ops: VecDeque<Op>,
    closed: bool,
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::default(),
            wake: Notify::new(),
            publishes: Arc::new(Semaphore::new(WAITING_KIB)),
            reports: Arc::new(Semaphore::new(WAITING_KIB)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts it at the end; gives it back when the broker is closed.
    pub(super) fn push(&self, op: Op) -> Result<(), Box<Op>> {
        let mut state = self.lock();
        if state.closed {
            return Err(Box::new(op));
        }
        // The last one: nothing may come after it.
        state.closed = matches!(op, Op::Close { .. });
        state.ops.push_back(op);
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    /// Waits until there is room for a publish of so many bytes.
    pub(super) async fn room(&self, parcels: &[Parcel]) -> Option<OwnedSemaphorePermit> {
        let kib = kib(parcels.iter().map(Parcel::bytes).sum());
        Arc::clone(&self.publishes).acquire_many_owned(kib).await.ok()
    }

    /// Room for a report, now or not at all.
    pub(super) fn room_now(&self, lines: &[Bytes]) -> Option<OwnedSemaphorePermit> {
        let kib = kib(lines.iter().map(Bytes::len).sum());
        Arc::clone(&self.reports).try_acquire_many_owned(kib).ok()
    }

    /// What waits, up to the bounds of a flush; maybe nothing.
    pub(super) fn take(&self) -> Vec<Op> {
        let mut state = self.lock();
        let (mut ops, mut bytes, mut count) = (0, 0, 0);
        for op in &state.ops {
            if ops >= FLUSH_OPS || bytes >= FLUSH_BYTES {
                break;
            }
            let (more, larger) = op.weight();
            ops += more;
            bytes += larger;
            count += 1;
        }
        state.ops.drain(..count).collect()
    }

    /// Waits until something may be there. Cancel-safe.
    pub(super) async fn filled(&self) {
        if self.lock().ops.is_empty() {
            self.wake.notified().await;
        }
    }

    /// Takes nothing more; what is in it is dropped, and with it everybody's hope.
    pub(super) fn shut(&self) {
        let mut state = self.lock();
        state.closed = true;
        self.publishes.close();
        self.reports.close();
        let left = std::mem::take(&mut state.ops);
        drop(state);
        drop(left);
    }
}

fn kib(bytes: usize) -> u32 {
    u32::try_from((bytes / 1024 + 1).min(WAITING_KIB)).unwrap_or(u32::MAX)
}
