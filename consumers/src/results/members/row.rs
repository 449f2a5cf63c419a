//! The row of a run in `driven`, and the row of a member that is due.

use uuid::Uuid;

use super::{
    super::{
        ResultsError,
        database::Column,
        read::{json, small},
    },
    Due, Role, instant,
};
use crate::{entry::RunReport, next::OnFailure};

/// The columns of a run.
pub const DRIVEN: &str = "name, policy, replay, phase, members, open, failed, seq, started, ended, problems, untold";

/// A run.
pub struct Row {
    pub name: String,
    pub policy: OnFailure,
    pub replay: i64,
    pub phase: i64,
    pub members: i64,
    pub open: i64,
    pub failed: i64,
    pub seq: i64,
    pub started: i64,
    pub ended: Option<i64>,
    pub problems: Vec<String>,
    pub untold: Option<i64>,
}

/// The columns of what is due.
pub const DUE: &str = "run, job, name, role, spec, replay";

/// What is due.
pub fn due(row: &Column) -> Result<Due, ResultsError> {
    Ok(Due {
        run: row.id(0)?,
        job: row.id(1)?,
        name: row.text(2)?,
        role: Role::of(row.int(3)?),
        member: json(&row.text(4)?)?,
        replay: small(row.int(5)?),
    })
}

/// What is to be told of a run, in a row of `run, DRIVEN`, with its stamp.
pub fn told(row: &Column) -> Result<(RunReport, i64), ResultsError> {
    let read = Row::read_from(row, 1)?;
    Ok((read.report(row.id(0)?), read.untold.unwrap_or(0)))
}

/// The columns [`told`] reads.
pub fn told_columns() -> String {
    format!("run, {DRIVEN}")
}

impl Row {
    /// Out of a row of [`DRIVEN`].
    pub fn read(row: &Column) -> Result<Self, ResultsError> {
        Self::read_from(row, 0)
    }

    fn read_from(row: &Column, at: usize) -> Result<Self, ResultsError> {
        Ok(Self {
            name: row.text(at)?,
            policy: OnFailure::of(&row.text(at + 1)?).unwrap_or_default(),
            replay: row.int(at + 2)?,
            phase: row.int(at + 3)?,
            members: row.int(at + 4)?,
            open: row.int(at + 5)?,
            failed: row.int(at + 6)?,
            seq: row.int(at + 7)?,
            started: row.int(at + 8)?,
            ended: row.maybe_int(at + 9)?,
            problems: json(&row.text(at + 10)?)?,
            untold: row.maybe_int(at + 11)?,
        })
    }

    /// As it is reported.
    pub fn report(&self, run: Uuid) -> RunReport {
        RunReport {
            run,
            name: self.name.clone(),
            members: small(self.members),
            steps: 0,
            replay: small(self.replay),
            started: instant(self.started),
            ended: self.ended.map(instant),
            succeeded: self.ended.map(|_| self.failed == 0),
            problems: self.problems.clone(),
        }
    }
}
