//! One thing that a flush does, from what was asked to how it is answered.

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{inbox::Done, store::StoreError};
use crate::{
    broker::{Delivery, PublishError, Verdict},
    message::Message,
};

/// A message into a queue.
#[derive(Debug)]
pub(super) struct Put {
    pub(super) queue: u64,
    pub(super) message: Message,
    pub(super) row: Vec<u8>,
}

/// A message that waits.
#[derive(Debug)]
pub(super) struct Delay {
    pub(super) id: i64,
    pub(super) due: i64,
    pub(super) queue: u64,
    pub(super) row: Vec<u8>,
}

/// Everything that one caller asked for: stored together or not at all.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) puts: Vec<Put>,
    pub(super) delays: Vec<Delay>,
    pub(super) lines: Vec<Bytes>,
    /// Rows of a queue that go, besides the one that is answered.
    pub(super) removes: Vec<(u64, u64)>,
    pub(super) undelays: Vec<i64>,
    pub(super) answer: Answer,
}

/// Who waits for it.
#[derive(Debug)]
pub(super) enum Answer {
    /// A publisher, with the results of what was refused already.
    Publish {
        results: Vec<Result<(), PublishError>>,
        done: oneshot::Sender<Vec<Result<(), PublishError>>>,
        room: Option<OwnedSemaphorePermit>,
    },
    /// Whoever has a delivery in hand.
    Settle { delivery: Box<Delivery>, queue: u64, verdict: Verdict, done: Done },
    /// A reporter.
    Report { done: Done, room: Option<OwnedSemaphorePermit> },
    /// Nobody: the broker itself moves something.
    Own,
}

impl Item {
    pub(super) fn new(answer: Answer) -> Self {
        Self { puts: vec![], delays: vec![], lines: vec![], removes: vec![], undelays: vec![], answer }
    }

    /// Does it wait for a disk that takes nothing now? A publisher is told instead.
    pub(super) fn waits(&self) -> bool {
        !matches!(self.answer, Answer::Publish { .. })
    }
}

impl Answer {
    /// Tells a publisher or a reporter that it is not, or may not be, stored. Not for settles:
    /// those have a delivery to go back.
    pub(super) fn refuse(self, error: &PublishError) {
        // Whoever does not wait any more needs no answer.
        match self {
            Self::Publish { mut results, done, .. } => {
                for result in &mut results {
                    if result.is_ok() {
                        *result = Err(error.clone());
                    }
                }
                let _ = done.send(results);
            }
            Self::Settle { done, .. } | Self::Report { done, .. } => drop(done.send(Err(error.clone()))),
            Self::Own => {}
        }
    }
}

impl From<&StoreError> for PublishError {
    fn from(error: &StoreError) -> Self {
        match error {
            StoreError::Full(why) | StoreError::Refused(why) => Self::Refused(why.clone()),
            StoreError::Failing(why) => Self::Unconfirmed(why.clone()),
        }
    }
}
