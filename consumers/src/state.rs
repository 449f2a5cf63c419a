//! State: what must be agreed on before a job runs, and what must hold across consumers.
//!
//! Six small things, each in a file of its own: claims, marks, unique keys, permits, leases and who
//! is present. Two stores that pass one suite: tables (`sql`) and Redis (`redis`). All times are
//! the store's clock. Every call ends within [`BOUND`], and may be repeated: what was done is not
//! done twice. Refuses to know jobs, queues and brokers.

mod claim;
mod key;
mod mark;
mod permit;
mod presence;
mod redis;
mod sql;

use std::{
    borrow::Cow,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use spinor_executors::pool::AttemptKey;
use uuid::Uuid;

use self::redis::RedisState;
use crate::results::ResultsError;
use sql::SqlState;

pub use claim::{Claimed, LOST, ended, ended_of};
pub use key::{Key, KeyFilter, KeyTaken, OnTaken};
pub use mark::{Changes, Kind, Mark, NoSubject, Subject, Wish};
pub use permit::{Admission, InUse, Limit};
pub use presence::{Beat, Present, RunningJob, WaitingJob};
pub use sql::SCHEMA_VERSION;

/// No call takes longer; then it is [`StateError::Unavailable`], and may have been done.
pub const BOUND: Duration = Duration::from_secs(2);
/// How long a claim is kept after it was taken or passed on.
pub const CLAIM_KEPT: Duration = Duration::from_secs(24 * 3600);
/// How long a mark that was cleared is remembered.
pub const CLEARED_KEPT: Duration = Duration::from_secs(24 * 3600);
/// A consumer that was silent for so long is not present.
pub const PRESENT_FOR: Duration = Duration::from_secs(60);

/// Where state lives.
#[derive(Clone)]
pub enum StateTarget {
    /// A file of its own.
    Sqlite(PathBuf),
    /// Tables in a database on a server: `mysql://user:password@host/database`.
    MySql(String),
    /// A Redis server, 7.0 or later, that keeps what it is told.
    Redis {
        /// `redis://user:password@host:port/number`, or `rediss://` with TLS.
        url: String,
        /// What the names of our keys start with.
        prefix: String,
        /// The authorities (PEM) to trust instead of those of the machine, for `rediss://`.
        ca_file: Option<PathBuf>,
    },
}

/// Why state could not be asked. Named by what the caller does next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Try again later: it is down, or did not answer in time.
    #[error("state does not answer: {0}")]
    Unavailable(String),
    /// Ask a person: a wrong password, a server that would forget.
    #[error("{0}")]
    Misconfigured(String),
}

impl From<ResultsError> for StateError {
    fn from(error: ResultsError) -> Self {
        match error {
            ResultsError::Unavailable(why) => Self::Unavailable(why),
            ResultsError::Misconfigured(why) => Self::Misconfigured(why),
            ResultsError::Refused(why) => Self::Misconfigured(format!("the state database refuses a row: {why}")),
        }
    }
}

/// Handle to the store of state; cheap to clone.
#[derive(Clone)]
pub struct State(Store);

#[derive(Clone)]
enum Store {
    Sql(SqlState),
    Redis(RedisState),
}

/// The same call on whichever store it is, within the bound; boxed, because callers nest it deeply.
macro_rules! on {
    ($state:expr, $store:ident => $call:expr) => {
        match &$state.0 {
            Store::Sql($store) => bounded(Box::pin($call)).await,
            Store::Redis($store) => bounded(Box::pin($call)).await,
        }
    };
}

impl State {
    /// Opens, creating and migrating as needed.
    pub async fn open(target: &StateTarget) -> Result<Self, StateError> {
        let store = match target {
            StateTarget::Sqlite(path) => Store::Sql(SqlState::sqlite(path).await?),
            StateTarget::MySql(url) => Store::Sql(SqlState::mysql(url).await?),
            StateTarget::Redis { url, prefix, ca_file } => {
                Store::Redis(RedisState::open(url, prefix, ca_file.as_deref()).await?)
            }
        };
        Ok(Self(store))
    }

    /// Logs in to a Redis server and looks at its settings, changing nothing; tells its version.
    pub async fn look_at_redis(url: &str, ca_file: Option<&Path>) -> Result<String, StateError> {
        bounded(RedisState::look(url, ca_file)).await
    }

    /// Closes the connections; every later call fails.
    pub async fn close(&self) {
        match &self.0 {
            Store::Sql(store) => store.close().await,
            Store::Redis(store) => store.close().await,
        }
    }

    /// Does it answer?
    pub async fn check(&self) -> Result<(), StateError> {
        on!(self, store => store.consumers()).map(drop)
    }

    /// Takes an attempt for an execution. Taking over replaces whoever has it.
    pub async fn claim(&self, key: AttemptKey, execution: Uuid, taking_over: bool) -> Result<Claimed, StateError> {
        on!(self, store => store.claim(key, execution, taking_over))
    }

    /// Passes a claim on from one who has it to another; does the other have it now? One that was forgotten
    /// meanwhile, or passed to the same one again, is as new.
    pub async fn pass_claim(&self, key: AttemptKey, from: Uuid, to: Uuid) -> Result<bool, StateError> {
        on!(self, store => store.pass_claim(key, from, to))
    }

    /// Says something of a subject, in place of what was said before; tells its version.
    pub async fn set_mark(
        &self,
        subject: &Subject,
        value: serde_json::Value,
        by: &str,
        why: Option<&str>,
    ) -> Result<u64, StateError> {
        on!(self, store => store.set_mark(subject, value, by, why))
    }

    /// Takes back what was said of a subject; tells the version, none when nothing was said.
    pub async fn clear_mark(&self, subject: &Subject, by: &str, why: Option<&str>) -> Result<Option<u64>, StateError> {
        on!(self, store => store.clear_mark(subject, by, why))
    }

    /// What happened to the marks after a version; 0 = everything that holds. Whoever asks with the
    /// version of each answer misses no change.
    pub async fn marks_since(&self, version: u64) -> Result<Changes, StateError> {
        on!(self, store => store.marks_since(version))
    }

    /// The marks of a kind that hold, by version.
    pub async fn marks(&self, kind: Kind) -> Result<Vec<Mark>, StateError> {
        on!(self, store => store.marks(kind))
    }

    /// Takes a unique key for a job, from now on for so long at most.
    pub async fn take_key(
        &self,
        key: &str,
        job: Uuid,
        lasting: Duration,
        on_taken: OnTaken,
    ) -> Result<KeyTaken, StateError> {
        on!(self, store => store.take_key(key, job, lasting, on_taken))
    }

    /// Gives a key back, if it belongs to the job; tells whether it did.
    pub async fn free_key(&self, key: &str, job: Uuid) -> Result<bool, StateError> {
        on!(self, store => store.free_key(key, job))
    }

    /// Keys that somebody has.
    pub async fn keys(&self, filter: &KeyFilter) -> Result<Vec<Key>, StateError> {
        on!(self, store => store.keys(filter))
    }

    /// Counts an owner against all these limits, or against none. An owner that counts already is
    /// not counted twice; its lease begins anew.
    pub async fn acquire(&self, limits: &[Limit], owner: Uuid, lease: Duration) -> Result<Admission, StateError> {
        on!(self, store => store.acquire(limits, owner, lease))
    }

    /// Begins the leases of these owners' permits anew; tells which owners have none any more.
    pub async fn renew(&self, owners: &[Uuid], lease: Duration) -> Result<Vec<Uuid>, StateError> {
        on!(self, store => store.renew(owners, lease))
    }

    /// Gives an owner's permits back.
    pub async fn release(&self, owner: Uuid) -> Result<(), StateError> {
        on!(self, store => store.release(owner))
    }

    /// What counts against each limit that was used lately, by name, at most so many of them. Those with a
    /// name longer than 240 bytes are listed as they are stored.
    pub async fn in_use(&self, most: u32) -> Result<Vec<InUse>, StateError> {
        on!(self, store => store.in_use(most))
    }

    /// Some of the owners that count against a limit now, at most so many of them.
    pub async fn holders(&self, limit: &str, most: u32) -> Result<Vec<Uuid>, StateError> {
        on!(self, store => store.holders(limit, most))
    }

    /// Takes or renews a lease; tells its epoch, which grows at each change of owner, or none when
    /// another has it.
    pub async fn lease(&self, name: &str, owner: Uuid, lasting: Duration) -> Result<Option<u64>, StateError> {
        on!(self, store => store.lease(name, owner, lasting))
    }

    /// Ends a lease early, if the owner has it.
    pub async fn give_up(&self, name: &str, owner: Uuid) -> Result<(), StateError> {
        on!(self, store => store.give_up(name, owner))
    }

    /// Says that a consumer is alive, and what it does.
    pub async fn beat(&self, beat: &Beat) -> Result<(), StateError> {
        on!(self, store => store.beat(beat))
    }

    /// The consumers that are alive, by name.
    pub async fn consumers(&self) -> Result<Vec<Present>, StateError> {
        on!(self, store => store.consumers())
    }

    /// Says that a consumer has ended.
    pub async fn leave(&self, consumer: &str) -> Result<(), StateError> {
        on!(self, store => store.leave(consumer))
    }

    /// Removes some of what is no longer needed; tells how much. Call it now and then, and again
    /// while it finds something: each call is short.
    pub async fn prune(&self) -> Result<u64, StateError> {
        on!(self, store => store.prune())
    }
}

async fn bounded<T>(call: impl Future<Output = Result<T, StateError>>) -> Result<T, StateError> {
    tokio::time::timeout(BOUND, call)
        .await
        .unwrap_or_else(|_| Err(StateError::Unavailable("no answer within 2 s".to_owned())))
}

/// Longer names are stored by their beginning and a hash of the whole.
const NAME_BYTES: usize = 240;

/// A name as it is stored.
fn short(name: &str) -> Cow<'_, str> {
    if name.len() <= NAME_BYTES {
        return Cow::Borrowed(name);
    }
    let mut end = NAME_BYTES - 33;
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    let hash = Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes());
    Cow::Owned(format!("{}~{}", &name[..end], hash.simple()))
}

/// Microseconds since 1970 as a time.
fn time(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn micros(duration: Duration) -> i64 {
    // Three thousand years: so that a sum with the clock stays within bounds.
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX).min(100_000_000_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_is_stored_short_and_never_mistaken_for_another() {
        let long = "ä".repeat(300);
        let other = format!("{long}b");
        assert!(short(&long).len() <= NAME_BYTES && short(&long) != short(&other));
        assert_eq!(short("key"), "key");
    }
}
