//! The results database: what was recorded, and the questions people ask of it.
//!
//! Owns the schema (migrations are embedded), the ordering rules of the record and every query on
//! it. One implementation on SQLite and one on MySQL/MariaDB behind [`Results`]. Refuses to know
//! where entries come from.
//!
//! `dead`, `failures` and `replays` are what ended badly, and starting it anew.
//! `change` is the rule by which a job's row moves, `statements` the same rule as SQL, `write` and
//! `read` the two directions, `database` the connections under them.

mod accounts;
mod answers;
mod blobs;
mod change;
mod dead;
mod delayed;
mod failures;
mod figures;
mod fingerprint;
mod members;
mod notices;
mod prune;
mod question;
mod read;
mod replays;
mod schedules;
mod schema;
mod statements;
mod walk;
mod write;

use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicI64, Ordering},
    },
};

use jiff::Timestamp;
use spinor_executors::{Report, State};
use uuid::Uuid;

use crate::{
    database::{self, Database, Keys, Value, errors},
    entry::Entry,
    hidden::Hidden,
    message::Message,
};
use figures::Counting;
use statements::Statements;
use write::Rows;

pub use accounts::{AuditFilter, AuditRow, Everybody, Token, TokenRow, User, UserRow};
pub use answers::{CLAIMED as ANSWER_CLAIMED, Claimed, Keyed};
pub use change::{cause, clip, place};
pub use dead::{DeadFilter, DeadLetter};
pub use delayed::{Change as DelayedChange, Delayed, DelayedFilter, DelayedLook, Waiting};
pub use failures::{BAD_ENDS, FailureFilter, FailureGroup, Failures, Found, Look, Source};
pub use figures::{BY_HOURS as FIGURES_BY_HOURS, Figure, FigureFilter, KEPT as FIGURES_KEPT, Spread, Timed, Totals};
pub use fingerprint::fingerprint;
pub use members::{Due, Followed, IsCancelled, MemberRow, Role};
pub use notices::{Notice, NoticeFilter, NoticeRow, Outcome, Wanted};
pub use prune::{Chunk, Cuts, Place, Pruned};
pub use question::{
    AttemptRecord, Changes, EndedJob, JobFilter, JobRecord, JobRow, Page, RunRecord, RunRow, StepFilter, Tally, Tracked,
};
pub use read::is_cursor;
pub use replays::{Rate, ReplayRow, ReplayState, Working};
pub use schedules::{
    Backfill, Backfilled, By, Change, Counted, Filled, Given, Instant, Lead, Leader, Looked, NotDone, Previous, Tick,
    TickCounts, TickRow, TriggerRow, Turn, Was,
};
pub use schema::VERSION as SCHEMA_VERSION;
pub(crate) use write::jitter;

/// Handle to the results database; cheap to clone.
#[derive(Clone)]
pub struct Results(Arc<Store>);

struct Store {
    database: Database,
    statements: Statements,
    last_commit: AtomicI64,
    counting: Counting,
    /// Something in the table of delayed jobs changed here, which is due soon perhaps.
    nudge: tokio::sync::Notify,
    /// What somebody wants to hear of.
    wanted: OnceLock<Vec<Wanted>>,
    /// Something of it was recorded here.
    noticed: tokio::sync::Notify,
}

impl Store {
    /// This recorder's clock in microseconds, never the same twice and never back.
    fn clock(&self) -> i64 {
        let now = Timestamp::now().as_microsecond();
        let next = |last: i64| Some(now.max(last + 1));
        let last = self.last_commit.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        last.map_or(now, |last| now.max(last + 1))
    }
}

impl Store {
    fn wanted(&self) -> &[Wanted] {
        self.wanted.get().map_or(&[], Vec::as_slice)
    }

    /// After the commit.
    fn recorded(&self, counted: figures::Batch, notices: &[Vec<Value>]) {
        self.counting.recorded(counted);
        if !notices.is_empty() {
            self.noticed.notify_waiters();
        }
    }
}

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
    pub async fn open(target: &ResultsTarget) -> Result<Self, ResultsError> {
        let database = match target {
            ResultsTarget::Sqlite(path) => Database::sqlite(path).await?,
            ResultsTarget::MySql(url) => Database::mysql(url, &Keys::RESULTS).await?,
        };
        schema::migrate(&database).await?;
        accounts::migrate(&database).await?;
        answers::migrate(&database).await?;
        let statements = Statements::new(database.flavour());
        let (last_commit, nudge) = (AtomicI64::new(0), tokio::sync::Notify::new());
        let (counting, wanted, noticed) = (Counting::new(), OnceLock::new(), tokio::sync::Notify::new());
        Ok(Self(Arc::new(Store { database, statements, last_commit, counting, nudge, wanted, noticed })))
    }

    /// Logs in to a MySQL or MariaDB server without changing anything; tells the server's version and
    /// the schema's, 0 when `open` has yet to make it.
    pub async fn check(url: &str) -> Result<(String, i64), ResultsError> {
        schema::look(url).await
    }

    /// Closes the connections after what is under way; every later call fails.
    pub async fn close(&self) {
        self.0.database.close().await;
    }

    /// Stores entries in one transaction, idempotently and in any order.
    pub async fn store(&self, entries: &[Entry]) -> Result<(), ResultsError> {
        self.keep(entries, false).await
    }

    /// The same; `again`: some may be stored already, and are then not counted twice.
    pub async fn keep(&self, entries: &[Entry], again: bool) -> Result<(), ResultsError> {
        if entries.is_empty() {
            return Ok(());
        }
        let known = if again { self.0.known_attempts(entries).await? } else { HashSet::new() };
        let counted = self.0.counting.entries(entries, &known);
        let notices = notices::of_entries(self.0.wanted(), entries, &known);
        let rows = || Rows::of(entries).noticed(notices.clone()).counted(self.0.counting.rows(&counted));
        self.0.write(rows).await?;
        self.0.recorded(counted, &notices);
        Ok(())
    }

    /// Stores dead letters, idempotently by job, replay and attempt. A letter that is a job also
    /// makes its job dead, if it was not answered otherwise.
    pub async fn bury(&self, letters: &[(Message, DeadLetter)]) -> Result<(), ResultsError> {
        self.lay_down(letters, false).await
    }

    /// The same; `again`: some may be stored already, and are then not counted twice.
    pub async fn lay_down(&self, letters: &[(Message, DeadLetter)], again: bool) -> Result<(), ResultsError> {
        if letters.is_empty() {
            return Ok(());
        }
        let known = if again { self.0.known_letters(letters).await? } else { HashSet::new() };
        let counted = self.0.counting.letters(letters.iter().map(|(_, letter)| letter), &known);
        let notices = notices::of_letters(self.0.wanted(), letters, &known);
        let rows = || Rows::buried(letters).noticed(notices.clone()).counted(self.0.counting.rows(&counted));
        self.0.write(rows).await?;
        self.0.recorded(counted, &notices);
        Ok(())
    }

    /// Figures by span, of `step` minutes each, numbered from `from` on.
    pub async fn figures_by_time(
        &self,
        filter: &FigureFilter,
        step: i64,
    ) -> Result<BTreeMap<i64, Figure>, ResultsError> {
        self.0.figures_by_time(filter, step.max(1)).await
    }

    /// Figures by kind.
    pub async fn figures_by_kind(&self, filter: &FigureFilter) -> Result<BTreeMap<String, Figure>, ResultsError> {
        self.0.figures_by_kind(filter).await
    }

    /// What this process recorded since it started, by kind.
    pub fn totals(&self) -> BTreeMap<String, Totals> {
        self.0.counting.totals()
    }

    /// Removes the dead letters of each job up to a replay, after it was published again or because a
    /// person said so; tells how many there were.
    pub async fn unbury(&self, of: &[Found]) -> Result<u64, ResultsError> {
        self.0.unbury(of).await
    }

    /// Sets a named number that outlives the process.
    pub async fn set_mark(&self, name: &str, value: i64) -> Result<(), ResultsError> {
        let mut writing = self.0.database.begin().await?;
        writing.run(&self.0.statements.mark, vec![Value::Text(name.to_owned()), Value::Int(value)]).await?;
        writing.commit().await
    }

    /// A named number.
    pub async fn mark(&self, name: &str) -> Result<Option<i64>, ResultsError> {
        self.0.mark(name).await
    }

    /// One job with its attempts.
    pub async fn job(&self, id: Uuid) -> Result<Option<JobRecord>, ResultsError> {
        self.0.job(id).await
    }

    /// Jobs, newest first. By several things at once, or by words, it looks on for a while and tells how far it came.
    pub async fn jobs(&self, filter: &JobFilter) -> Result<Page<JobRow>, ResultsError> {
        self.0.jobs(filter, &Hidden::default()).await
    }

    /// The same; words are found in args, too, but for what is hidden of them.
    pub async fn jobs_with(&self, filter: &JobFilter, hidden: &Hidden) -> Result<Page<JobRow>, ResultsError> {
        self.0.jobs(filter, hidden).await
    }

    /// How many jobs of each state and queue, as (state, queue, count), capped at `cap` rows
    /// looked at for each state.
    pub async fn counts(&self, cap: u64) -> Result<Vec<(String, String, u64)>, ResultsError> {
        self.0.counts(cap).await
    }

    /// The newest change of any job, to ask for those after it.
    pub async fn newest_change(&self) -> Result<i64, ResultsError> {
        self.0.newest_change().await
    }

    /// How many jobs changed after this one, by the state they are in now; ten thousand of them at most.
    pub async fn changes_after(&self, after: i64) -> Result<Changes, ResultsError> {
        self.0.changes_after(after).await
    }

    /// When the oldest job that has not started was created, by queue; those on a delay are among them. Only
    /// the ten thousand oldest are looked at, so a queue whose jobs are all younger is not named.
    pub async fn oldest_queued(&self) -> Result<Vec<(String, Timestamp)>, ResultsError> {
        self.0.oldest_queued().await
    }

    /// Which of these (job, replay, attempt) need not run: the job is final at that attempt, or a
    /// later attempt was seen. A recorded retry alone does not count, because its copy may be
    /// lost. For redelivered jobs.
    pub async fn answered(&self, of: &[(Uuid, u32, u32)]) -> Result<Vec<(Uuid, u32, u32)>, ResultsError> {
        self.0.answered(of).await
    }

    /// Those of these jobs that have ended, and how.
    pub async fn ended(&self, of: &[Uuid]) -> Result<Vec<(Uuid, State)>, ResultsError> {
        self.0.ended(of).await
    }

    /// The same, with what else is to be known of one that is published again.
    pub async fn ended_jobs(&self, of: &[Uuid]) -> Result<Vec<EndedJob>, ResultsError> {
        self.0.ended_jobs(of).await
    }

    /// How many jobs with ids in this range, both ends included, are recorded, and when: for who
    /// published them and counts. Ids of one publisher lie side by side.
    pub async fn tally(&self, first: Uuid, last: Uuid) -> Result<Tally, ResultsError> {
        self.0.tally(first, last).await
    }

    /// Runs, newest first.
    pub async fn runs(&self, limit: u32, cursor: Option<&str>) -> Result<Page<RunRow>, ResultsError> {
        self.0.runs(limit, cursor).await
    }

    /// One run with its members' states, at most 10 000 of them.
    pub async fn run(&self, id: Uuid) -> Result<Option<RunRecord>, ResultsError> {
        let Some(mut record) = self.0.run(id).await? else { return Ok(None) };
        if record.row.steps == 0 {
            record.member_list = self.members(id).await?;
        }
        Ok(Some(record))
    }

    /// Steps of a run, by node, part and item; no outputs unless asked for.
    pub async fn steps(&self, filter: &StepFilter) -> Result<Vec<spinor_executors::StepReport>, ResultsError> {
        self.0.steps(filter).await
    }

    /// Dead letters, newest first.
    pub async fn dead(&self, filter: &DeadFilter) -> Result<Page<DeadLetter>, ResultsError> {
        self.0.dead(filter).await
    }

    /// How many dead letters match, counted no further than `cap`.
    pub async fn dead_count(&self, filter: &DeadFilter, cap: u32) -> Result<u64, ResultsError> {
        self.0.dead_count(filter, cap).await
    }

    /// Removes some of the dead letters that match; 0 = there are none any more.
    pub async fn remove_dead(&self, filter: &DeadFilter) -> Result<u64, ResultsError> {
        self.0.remove_dead(filter).await
    }

    /// The last dead letter of a job, with the message as it was.
    pub async fn letter(&self, job: Uuid) -> Result<Option<(Message, DeadLetter)>, ResultsError> {
        self.0.letter(job).await
    }

    /// Jobs that ended badly, grouped by fingerprint, the last seen first.
    pub async fn failures(&self, filter: &FailureFilter, limit: u32) -> Result<Failures, ResultsError> {
        self.0.failures(filter, limit, failures::LASTS).await
    }

    /// Looks on from a place (empty: the beginning) for jobs that match, the oldest first, among those
    /// created at `bound` or before, until `most` are found or enough rows were looked at.
    pub async fn look(
        &self,
        filter: &FailureFilter,
        bound: Timestamp,
        place: &str,
        most: usize,
    ) -> Result<Look, ResultsError> {
        self.0.look(filter, bound, place, most).await
    }

    /// How many jobs match; `None` when there are too many to count.
    pub async fn matching(&self, filter: &FailureFilter, bound: Timestamp) -> Result<Option<u64>, ResultsError> {
        self.0.matching(filter, bound).await
    }

    /// What a replay of a job begins with.
    pub async fn source(&self, id: Uuid) -> Result<Option<Source>, ResultsError> {
        self.0.source(id).await
    }

    /// Writes an order to replay down.
    pub async fn order_replay(&self, row: &ReplayRow) -> Result<(), ResultsError> {
        self.0.order_replay(row).await
    }

    /// Replays, newest first.
    pub async fn replays(&self, limit: u32, cursor: Option<&str>) -> Result<Page<ReplayRow>, ResultsError> {
        self.0.replays(limit, cursor).await
    }

    /// One replay.
    pub async fn replay(&self, id: Uuid) -> Result<Option<ReplayRow>, ResultsError> {
        self.0.replay(id).await
    }

    /// Replays that are running, the oldest first.
    pub async fn running_replays(&self) -> Result<Vec<Working>, ResultsError> {
        self.0.running_replays().await
    }

    /// Writes how far a replay has come. `false`: another process was faster, and nothing was written.
    pub async fn advance_replay(&self, working: &mut Working) -> Result<bool, ResultsError> {
        self.0.advance_replay(working).await
    }

    /// Stops a replay that runs; `false` when it does not.
    pub async fn stop_replay(&self, id: Uuid) -> Result<bool, ResultsError> {
        self.0.stop_replay(id).await
    }

    /// The last final report of a job, for who waits for it. A job that died without an execution
    /// gets one made of its row.
    pub async fn ending(&self, id: Uuid) -> Result<Option<Report>, ResultsError> {
        Ok(self.0.endings(&[id]).await?.pop().map(|(_, report)| report))
    }

    /// The same of those of these jobs that have ended, in no order.
    pub async fn endings(&self, of: &[Uuid]) -> Result<Vec<(Uuid, Report)>, ResultsError> {
        self.0.endings(of).await
    }

    /// Jobs whose rows changed after (updated, id), in that order: how the search index is filled
    /// again.
    pub async fn changed(&self, after: (i64, Uuid), limit: u32) -> Result<Vec<Tracked>, ResultsError> {
        self.0.changed(after, limit).await
    }
}
