//! Unique keys: this key belongs to that job, until it ends or until a time.

use jiff::Timestamp;
use uuid::Uuid;

/// What to do with a key that belongs to another job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnTaken {
    /// Leave it there.
    Keep,
    /// Take it away.
    Replace,
}

/// The answer to who wants a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyTaken {
    /// It belongs to this job, since now or since before; a time that was set before stands.
    Mine,
    /// It belongs to another job.
    By {
        /// That job.
        job: Uuid,
        /// For how long at most.
        until: Timestamp,
    },
    /// It was taken away from another job.
    Replaced {
        /// That job.
        job: Uuid,
    },
}

/// A key that somebody has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The key.
    pub name: String,
    /// The job it belongs to.
    pub job: Uuid,
    /// For how long at most.
    pub until: Timestamp,
}

/// Which keys to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFilter {
    /// Those that start so.
    pub prefix: String,
    /// Those after this one.
    pub after: Option<String>,
    /// At most so many, in the order of their bytes.
    pub limit: u32,
}

impl Default for KeyFilter {
    fn default() -> Self {
        Self { prefix: String::new(), after: None, limit: 100 }
    }
}
