//! Notices as people look at them: what was told to whom, what waits, what was given up and why.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use spinor_executors::State;
use uuid::Uuid;

use super::{
    super::{
        Results, ResultsError,
        database::{Column, Value},
        read::{Where, foreign, rows_asked, small, time},
    },
    state,
};

const ROW: &str = "name, state, fingerprint, since, kind, queue, job, at, error, times, tries, stage, due, problem";

/// A notice, and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NoticeRow {
    /// Whose it is: NAME of `[notify.NAME]`.
    pub name: String,
    /// How the jobs ended.
    pub state: State,
    /// What groups them.
    pub fingerprint: String,
    /// When the window began.
    pub since: Timestamp,
    /// The kind.
    pub kind: String,
    /// The queue of the first one.
    pub queue: String,
    /// The first one.
    pub job: Uuid,
    /// When it ended.
    pub at: Timestamp,
    /// What it said.
    pub error: String,
    /// How many there are by now.
    pub times: u64,
    /// What came of it.
    pub outcome: Outcome,
    /// How often it was tried.
    pub tries: u32,
    /// When it was sent or given up, or is tried next; absent when it is due at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<Timestamp>,
    /// Why it was not taken the last time; absent once it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// What came of a notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It is not sent yet.
    Waiting,
    /// The receiver took it.
    Sent,
    /// The receiver was away for too long.
    GivenUp,
}

/// Which notices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NoticeFilter {
    /// Of this receiver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// With this outcome.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// At most so many; 0 means 50, at most 1000.
    pub limit: u32,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Waiting, Self::Sent, Self::GivenUp];

    /// Its word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Sent => "sent",
            Self::GivenUp => "given-up",
        }
    }

    const fn stage(self) -> i64 {
        match self {
            Self::Waiting => 0,
            Self::Sent => 1,
            Self::GivenUp => 2,
        }
    }
}

impl Results {
    /// Notices, the newest first.
    pub async fn notices(&self, filter: &NoticeFilter) -> Result<Vec<NoticeRow>, ResultsError> {
        let mut asked = Where::default();
        if let Some(name) = &filter.name {
            asked.and("name = ?", [Value::Text(name.clone())]);
        }
        if let Some(outcome) = filter.outcome {
            asked.and("stage = ?", [Value::Int(outcome.stage())]);
        }
        let limit = rows_asked(filter.limit);
        let sql = format!("SELECT {ROW} FROM notices{asked} ORDER BY at DESC LIMIT {limit}");
        self.0.database.ask(sql, asked.values).await?.iter().map(notice).collect()
    }
}

fn notice(row: &Column) -> Result<NoticeRow, ResultsError> {
    let (stage, due) = (row.int(11)?, row.int(12)?);
    let outcome = Outcome::ALL.into_iter().find(|outcome| outcome.stage() == stage);
    Ok(NoticeRow {
        name: row.text(0)?,
        state: state(row.text(1)?)?,
        fingerprint: row.text(2)?,
        since: time(row.int(3)?.saturating_mul(1_000_000))?,
        kind: row.text(4)?,
        queue: row.text(5)?,
        job: row.id(6)?,
        at: time(row.int(7)?)?,
        error: row.text(8)?,
        times: row.int(9)?.unsigned_abs(),
        outcome: outcome.ok_or_else(|| foreign(&format!("the stage {stage} of a notice")))?,
        tries: small(row.int(10)?),
        when: (due != 0).then(|| time(due)).transpose()?,
        problem: row.maybe_text(13)?,
    })
}
