//! What this consumer met and sent back to its queue for a while, and why: told in its beats, for people.
//!
//! Owns a bounded memory of the last of them. Nothing is decided by it.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use jiff::{SignedDuration, Timestamp};
use tokio::time::Duration;
use uuid::Uuid;

use crate::state::WaitingJob;

/// So many are remembered.
const KEPT: usize = 200;
/// One that was to look again this long ago has, somewhere.
const PAST: SignedDuration = SignedDuration::from_secs(10);

/// What is in a job's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A limit.
    Limit,
    /// State does not answer.
    State,
    /// The store of large args does not answer.
    Blobs,
    /// Its kind.
    Kind,
    /// It may have run, and runs at most once.
    Doubt,
    /// It came back from a consumer that may run it.
    Holder,
}

impl Reason {
    /// As it is told.
    const fn word(self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::State => "state",
            Self::Blobs => "blobs",
            Self::Kind => "kind",
            Self::Doubt => "doubt",
            Self::Holder => "holder",
        }
    }
}

/// The last jobs that were sent away.
#[derive(Default)]
pub struct Away(Mutex<VecDeque<WaitingJob>>);

impl Away {
    /// A job goes back for so long.
    pub fn note(&self, job: Uuid, reason: Reason, why: impl Into<String>, after: Duration) {
        let now = Timestamp::now();
        let until = SignedDuration::try_from(after).ok().and_then(|after| now.checked_add(after).ok());
        let one = WaitingJob { job, reason: reason.word().to_owned(), why: why.into(), until: until.unwrap_or(now) };
        let mut last = self.last();
        if last.len() == KEPT {
            last.pop_front();
        }
        last.push_back(one);
    }

    /// Those that have not looked again for certain, each once, the last ones first.
    pub fn list(&self, most: usize) -> Vec<WaitingJob> {
        let now = Timestamp::now();
        let mut last = self.last();
        last.retain(|one| one.until + PAST > now);
        let mut found: Vec<WaitingJob> = Vec::new();
        for one in last.iter().rev() {
            if found.len() == most {
                break;
            }
            if found.iter().all(|other| other.job != one.job) {
                found.push(one.clone());
            }
        }
        found
    }

    fn last(&self) -> MutexGuard<'_, VecDeque<WaitingJob>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_told_once_by_its_last_reason_and_the_memory_is_bounded() {
        let (away, job) = (Away::default(), Uuid::now_v7());
        let minute = Duration::from_secs(60);
        away.note(job, Reason::Limit, "a", minute);
        (0..KEPT - 1).for_each(|_| away.note(Uuid::now_v7(), Reason::State, "b", minute));
        away.note(job, Reason::Blobs, "c", minute);
        let told = away.list(KEPT);
        assert_eq!((told.len(), told[0].job, told[0].reason.as_str()), (KEPT, job, "blobs"));
        assert_eq!(away.list(3).len(), 3);
    }
}
