//! The results database: what was recorded, and the questions people ask of it.
//!
//! Owns the schema (migrations are embedded), the ordering rules of the record and every query on
//! it. One implementation on SQLite and one on MySQL/MariaDB behind [`Results`]. Refuses to know
//! where entries come from.

mod question;

use spinor_executors::Report;
use uuid::Uuid;

use crate::{entry::Entry, message::Message};

pub use question::{AttemptRecord, DeadLetter, JobFilter, JobRecord, JobRow, Page, RunRecord, RunRow, StepFilter};

/// Handle to the results database; cheap to clone.
#[derive(Clone)]
pub struct Results;

/// Where results go.
#[derive(Clone, Debug)]
pub enum ResultsTarget {
    /// A file of our own.
    Sqlite(std::path::PathBuf),
    /// `mysql://user:password@host/database`, MySQL 8+ or MariaDB 10.6+.
    MySql(String),
}

/// Why the results database could not answer. Named by what the caller does next.
#[derive(Debug, thiserror::Error)]
pub enum ResultsError {
    /// Wait and try again: down, locked, full, a deadlock that outlived its retries.
    #[error("the results database does not answer: {0}")]
    Unavailable(String),
    /// Ask a person: wrong password, schema of a newer version, not our database.
    #[error("{0}")]
    Misconfigured(String),
    /// Bisect: it refuses the content of some row.
    #[error("the results database refuses a row: {0}")]
    Refused(String),
}

impl Results {
    /// Opens, creating and migrating as needed.
    pub async fn open(_target: &ResultsTarget) -> Result<Self, ResultsError> {
        Err(ResultsError::Misconfigured("not built".into()))
    }

    /// Stores entries in one transaction, idempotently and in any order.
    pub async fn store(&self, _entries: &[Entry]) -> Result<(), ResultsError> {
        Ok(())
    }

    /// Stores dead letters, idempotently by job, replay and attempt.
    pub async fn bury(&self, _letters: &[(Message, DeadLetter)]) -> Result<(), ResultsError> {
        Ok(())
    }

    /// One job with its attempts.
    pub async fn job(&self, _id: Uuid) -> Result<Option<JobRecord>, ResultsError> {
        Ok(None)
    }

    /// Jobs, newest first.
    pub async fn jobs(&self, _filter: &JobFilter) -> Result<Page<JobRow>, ResultsError> {
        Ok(Page { rows: vec![], next: None })
    }

    /// How many jobs of each state (and queue), capped at `cap` rows looked at for each state.
    pub async fn counts(&self, _cap: u64) -> Result<Vec<(String, String, u64)>, ResultsError> {
        Ok(vec![])
    }

    /// Which of these (job, replay, attempt) are already answered for: the final or retrying
    /// report of that attempt is stored. For redelivered jobs.
    pub async fn answered(&self, _of: &[(Uuid, u32, u32)]) -> Result<Vec<(Uuid, u32, u32)>, ResultsError> {
        Ok(vec![])
    }

    /// Runs, newest first.
    pub async fn runs(&self, _limit: u32, _cursor: Option<&str>) -> Result<Page<RunRow>, ResultsError> {
        Ok(Page { rows: vec![], next: None })
    }

    /// One run with its members' states.
    pub async fn run(&self, _id: Uuid) -> Result<Option<RunRecord>, ResultsError> {
        Ok(None)
    }

    /// Steps of a run, by node, part and item; no outputs unless asked for.
    pub async fn steps(&self, _filter: &StepFilter) -> Result<Vec<spinor_executors::StepReport>, ResultsError> {
        Ok(vec![])
    }

    /// Dead letters, newest first.
    pub async fn dead(&self, _limit: u32, _cursor: Option<&str>) -> Result<Page<DeadLetter>, ResultsError> {
        Ok(Page { rows: vec![], next: None })
    }

    /// The last final report of a job, for who waits for it.
    pub async fn ending(&self, _id: Uuid) -> Result<Option<Report>, ResultsError> {
        Ok(None)
    }
}
