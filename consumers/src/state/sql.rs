//! State as tables: a SQLite file of its own, or a database on a server.
//!
//! Owns the tables `state_*`. Writes go through `gate`, which puts those that come together into
//! one transaction; each thing has its steps in a file of its own, written once for all three
//! dialects of `statements`.

mod claims;
mod gate;
mod keys;
mod leases;
mod marks;
mod permits;
mod presence;
mod prune;
mod statements;

use std::{path::Path, sync::Arc, time::Duration};

use spinor_executors::pool::AttemptKey;
use uuid::Uuid;

use super::{
    Admission, Beat, Changes, Claimed, InUse, Key, KeyFilter, KeyTaken, Kind, Limit, Mark, OnTaken, Present,
    StateError, Subject, mark::Body, micros, permit, short,
};
use crate::{
    database::{Database, Keys, Value, Writing, migrations::Schema},
    results::ResultsError,
};
use gate::Gate;
use statements::Statements;

const SCHEMA: Schema = Schema {
    what: "state database",
    table: "spinor_state_schema",
    sqlite: &[include_str!("sql/schema/sqlite_0001.sql")],
    mysql: &[include_str!("sql/schema/mysql_0001.sql")],
};

/// The version of the tables this program writes.
pub const SCHEMA_VERSION: i64 = SCHEMA.version();

/// Something to do within a transaction. May be done again.
pub(super) enum Operation {
    Claim { key: AttemptKey, execution: Uuid, taking_over: bool },
    PassClaim { key: AttemptKey, from: Uuid, to: Uuid },
    SetMark { subject: String, kind: Kind, body: String },
    ClearMark { subject: String, body: String },
    TakeKey { name: String, job: Uuid, lasting: i64, on_taken: OnTaken },
    FreeKey { name: String, job: Uuid },
    Acquire { measures: Vec<permit::Measure>, owner: Uuid, lease: i64 },
    Renew { owners: Vec<Uuid>, lease: i64 },
    Release { owner: Uuid },
    Lease { name: String, owner: Uuid, lasting: i64 },
    GiveUp { name: String, owner: Uuid },
    Beat { consumer: String, text: String },
    Leave { consumer: String },
    Prune(prune::Part),
}

/// What came of an [`Operation`].
pub(super) enum Answer {
    Done,
    Claimed(Claimed),
    Passed(bool),
    Version(Option<u64>),
    Taken(KeyTaken),
    Freed(bool),
    Admission(Admission),
    Gone(Vec<Uuid>),
    Epoch(Option<u64>),
    Pruned(u64),
}

/// One transaction under way.
struct Step<'a> {
    texts: &'a Statements,
    writing: &'a mut Writing,
}

impl Step<'_> {
    async fn apply(&mut self, operation: &Operation) -> Result<Answer, ResultsError> {
        Ok(match operation {
            Operation::Claim { key, execution, taking_over } => {
                Answer::Claimed(self.claim(*key, *execution, *taking_over).await?)
            }
            Operation::PassClaim { key, from, to } => Answer::Passed(self.pass_claim(*key, *from, *to).await?),
            Operation::SetMark { subject, kind, body } => {
                Answer::Version(Some(self.set_mark(subject, *kind, body).await?))
            }
            Operation::ClearMark { subject, body } => Answer::Version(self.clear_mark(subject, body).await?),
            Operation::TakeKey { name, job, lasting, on_taken } => {
                Answer::Taken(self.take_key(name, *job, *lasting, *on_taken).await?)
            }
            Operation::FreeKey { name, job } => Answer::Freed(self.free_key(name, *job).await?),
            Operation::Acquire { measures, owner, lease } => {
                Answer::Admission(self.acquire(measures, *owner, *lease).await?)
            }
            Operation::Renew { owners, lease } => Answer::Gone(self.renew(owners, *lease).await?),
            Operation::Release { owner } => self.release(*owner).await.map(|()| Answer::Done)?,
            Operation::Lease { name, owner, lasting } => Answer::Epoch(self.lease(name, *owner, *lasting).await?),
            Operation::GiveUp { name, owner } => self.give_up(name, *owner).await.map(|()| Answer::Done)?,
            Operation::Beat { consumer, text } => self.beat(consumer, text).await.map(|()| Answer::Done)?,
            Operation::Leave { consumer } => self.leave(consumer).await.map(|()| Answer::Done)?,
            Operation::Prune(part) => Answer::Pruned(self.prune(*part).await?),
        })
    }
}

/// Handle to the tables.
#[derive(Clone)]
pub(super) struct SqlState(Arc<Tables>);

struct Tables {
    database: Database,
    texts: Statements,
    gate: Gate,
}

/// The answer of the kind its operation has.
macro_rules! answer {
    ($state:expr, $operation:expr, $kind:path) => {
        match $state.0.write($operation).await? {
            $kind(answer) => Ok(answer),
            _ => Err(StateError::Unavailable("another operation was answered".to_owned())),
        }
    };
}

impl SqlState {
    pub async fn sqlite(path: &Path) -> Result<Self, StateError> {
        Self::open(Database::sqlite(path).await?).await
    }

    pub async fn mysql(url: &str) -> Result<Self, StateError> {
        Self::open(Database::mysql(url, &Keys::RESULTS).await?).await
    }

    async fn open(database: Database) -> Result<Self, StateError> {
        SCHEMA.migrate(&database).await?;
        let texts = Statements::new(database.flavour());
        Ok(Self(Arc::new(Tables { database, texts, gate: Gate::default() })))
    }

    pub async fn close(&self) {
        self.0.database.close().await;
    }

    pub async fn claim(&self, key: AttemptKey, execution: Uuid, taking_over: bool) -> Result<Claimed, StateError> {
        answer!(self, Operation::Claim { key, execution, taking_over }, Answer::Claimed)
    }

    pub async fn pass_claim(&self, key: AttemptKey, from: Uuid, to: Uuid) -> Result<bool, StateError> {
        answer!(self, Operation::PassClaim { key, from, to }, Answer::Passed)
    }

    pub async fn set_mark(
        &self,
        subject: &Subject,
        value: serde_json::Value,
        by: &str,
        why: Option<&str>,
    ) -> Result<u64, StateError> {
        let body = Body::text(subject, Some(value), by, why);
        let operation = Operation::SetMark { subject: stored(&subject.to_string()), kind: subject.kind(), body };
        answer!(self, operation, Answer::Version).map(Option::unwrap_or_default)
    }

    pub async fn clear_mark(&self, subject: &Subject, by: &str, why: Option<&str>) -> Result<Option<u64>, StateError> {
        let body = Body::text(subject, None, by, why);
        answer!(self, Operation::ClearMark { subject: stored(&subject.to_string()), body }, Answer::Version)
    }

    pub async fn marks_since(&self, version: u64) -> Result<Changes, StateError> {
        self.0.marks_since(version).await
    }

    pub async fn marks(&self, kind: Kind) -> Result<Vec<Mark>, StateError> {
        self.0.marks(kind).await
    }

    pub async fn take_key(
        &self,
        key: &str,
        job: Uuid,
        lasting: Duration,
        on_taken: OnTaken,
    ) -> Result<KeyTaken, StateError> {
        let operation = Operation::TakeKey { name: stored(key), job, lasting: micros(lasting), on_taken };
        answer!(self, operation, Answer::Taken)
    }

    pub async fn free_key(&self, key: &str, job: Uuid) -> Result<bool, StateError> {
        answer!(self, Operation::FreeKey { name: stored(key), job }, Answer::Freed)
    }

    pub async fn keys(&self, filter: &KeyFilter) -> Result<Vec<Key>, StateError> {
        self.0.keys(filter).await
    }

    pub async fn acquire(&self, limits: &[Limit], owner: Uuid, lease: Duration) -> Result<Admission, StateError> {
        let measures = permit::measures(limits);
        answer!(self, Operation::Acquire { measures, owner, lease: micros(lease) }, Answer::Admission)
    }

    pub async fn renew(&self, owners: &[Uuid], lease: Duration) -> Result<Vec<Uuid>, StateError> {
        let mut owners = owners.to_vec();
        owners.sort_unstable();
        owners.dedup();
        answer!(self, Operation::Renew { owners, lease: micros(lease) }, Answer::Gone)
    }

    pub async fn release(&self, owner: Uuid) -> Result<(), StateError> {
        self.0.write(Operation::Release { owner }).await.map(drop)
    }

    pub async fn in_use(&self, most: u32) -> Result<Vec<InUse>, StateError> {
        self.0.in_use(most).await
    }

    pub async fn holders(&self, limit: &str, most: u32) -> Result<Vec<Uuid>, StateError> {
        self.0.holders(&stored(limit), most).await
    }

    pub async fn lease(&self, name: &str, owner: Uuid, lasting: Duration) -> Result<Option<u64>, StateError> {
        answer!(self, Operation::Lease { name: stored(name), owner, lasting: micros(lasting) }, Answer::Epoch)
    }

    pub async fn give_up(&self, name: &str, owner: Uuid) -> Result<(), StateError> {
        self.0.write(Operation::GiveUp { name: stored(name), owner }).await.map(drop)
    }

    pub async fn beat(&self, beat: &Beat) -> Result<(), StateError> {
        // Text and numbers always have a JSON form.
        let text = serde_json::to_string(beat).unwrap_or_default();
        self.0.write(Operation::Beat { consumer: stored(&beat.consumer), text }).await.map(drop)
    }

    pub async fn consumers(&self) -> Result<Vec<Present>, StateError> {
        self.0.consumers().await
    }

    pub async fn leave(&self, consumer: &str) -> Result<(), StateError> {
        self.0.write(Operation::Leave { consumer: stored(consumer) }).await.map(drop)
    }

    pub async fn prune(&self) -> Result<u64, StateError> {
        self.0.prune().await
    }
}

fn stored(name: &str) -> String {
    short(name).into_owned()
}

/// Names are bytes, so that no collation makes two of them one.
fn name(text: &str) -> Value {
    Value::Blob(text.as_bytes().to_vec())
}
