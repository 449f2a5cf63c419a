//! The texts of the statements that write, for each flavour and row count.
//!
//! Prepared statements are found again by their text, so rows go in a few fixed counts only. The
//! guard is the rule of `change` in SQL; where assignments run left to right (MySQL, MariaDB),
//! `place`, which the guard reads, is assigned last, and `job_replay` after `job`.

use std::fmt::Write as _;

use super::{
    database::{Flavour, Sql, holes},
    replays::Texts,
};

/// Rows to a statement, largest first.
pub const COUNTS: [usize; 4] = [128, 32, 8, 1];

/// The columns of `jobs`, in the order they are bound and assigned.
pub const JOB_COLUMNS: [&str; 23] = [
    "id",
    "updated",
    "job",
    "job_replay",
    "kind",
    "queue",
    "state",
    "replay",
    "attempt",
    "created",
    "started",
    "ended",
    "retry_at",
    "error",
    "cause",
    "run",
    "member",
    "consumer",
    "host",
    "execution",
    "fingerprint",
    "version",
    "place",
];
const ATTEMPT_COLUMNS: [&str; 8] = ["job", "replay", "attempt", "execution", "state", "started", "ended", "report"];
const STEP_COLUMNS: [&str; 12] =
    ["job", "step", "run", "node", "part", "item", "state", "micros", "pid", "report", "outputs", "started"];
/// The guard reads the last two, which are assigned last, and `replay` changes nothing for `ended`.
const RUN_COLUMNS: [&str; 9] =
    ["id", "name", "members", "steps", "started", "succeeded", "problems", "ended", "replay"];
const DEAD_COLUMNS: [&str; 12] = [
    "job",
    "replay",
    "attempt",
    "kind",
    "queue",
    "reason",
    "at",
    "consumer",
    "fingerprint",
    "version",
    "properties",
    "body",
];
/// The key first; what is not here is the sender's.
const NOTICE_COLUMNS: [&str; 10] =
    ["name", "state", "fingerprint", "since", "kind", "queue", "job", "at", "error", "times"];
const FIGURE_COLUMNS: [&str; 6] = ["minute", "kind", "what", "bucket", "shard", "times"];
const HOUR_COLUMNS: [&str; 6] = ["hour", "kind", "what", "bucket", "shard", "times"];

/// A table that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// One row a job, moving forward.
    Jobs,
    /// One row an execution; the first word stands.
    Attempts,
    /// One row a step; a later start wins.
    Steps,
    /// One row a run; its end wins.
    Runs,
    /// One row a dead letter; the first word stands.
    Dead,
    /// One row a count, which grows.
    Figures,
    /// The same by the hour.
    Hours,
    /// One row for what is alike within a window, which counts.
    Notices,
}

const TABLES: [Table; 8] = [
    Table::Jobs,
    Table::Attempts,
    Table::Steps,
    Table::Runs,
    Table::Dead,
    Table::Figures,
    Table::Hours,
    Table::Notices,
];

impl Table {
    const fn name(self) -> &'static str {
        match self {
            Self::Jobs => "jobs",
            Self::Attempts => "attempts",
            Self::Steps => "steps",
            Self::Runs => "runs",
            Self::Dead => "dead",
            Self::Figures => "figures",
            Self::Hours => "figure_hours",
            Self::Notices => "notices",
        }
    }

    const fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Jobs => &JOB_COLUMNS,
            Self::Attempts => &ATTEMPT_COLUMNS,
            Self::Steps => &STEP_COLUMNS,
            Self::Runs => &RUN_COLUMNS,
            Self::Dead => &DEAD_COLUMNS,
            Self::Figures => &FIGURE_COLUMNS,
            Self::Hours => &HOUR_COLUMNS,
            Self::Notices => &NOTICE_COLUMNS,
        }
    }

    const fn key(self) -> &'static str {
        match self {
            Self::Jobs | Self::Runs => "id",
            Self::Attempts => "job, replay, attempt, execution",
            Self::Steps => "job, step",
            Self::Dead => "job, replay, attempt",
            Self::Figures => "minute, kind, what, bucket, shard",
            Self::Hours => "hour, kind, what, bucket, shard",
            Self::Notices => "name, state, fingerprint, since",
        }
    }
}

/// Every statement that writes, built once.
pub struct Statements {
    texts: Vec<[Sql; COUNTS.len()]>,
    /// Sets a mark.
    pub mark: Sql,
    /// A job of this replay was edited before it was published.
    pub edit: Sql,
    /// Deletes the dead letters of a job, up to a replay.
    pub unbury: Sql,
    /// Deletes one dead letter.
    pub remove_dead: Sql,
    /// Deletes the figures of the minutes before one.
    pub sweep_figures: Sql,
    /// And those of the hours before one.
    pub sweep_hours: Sql,
    /// Those of the table of replays.
    pub replays: Texts,
}

impl Statements {
    /// For a flavour.
    pub fn new(flavour: Flavour) -> Self {
        let mark = match flavour {
            Flavour::Sqlite => {
                "INSERT INTO marks (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
            }
            Flavour::MySql => {
                "INSERT INTO marks (name, value) VALUES (?, ?) AS new ON DUPLICATE KEY UPDATE value = new.value"
            }
            Flavour::MariaDb => {
                "INSERT INTO marks (name, value) VALUES (?, ?) ON DUPLICATE KEY UPDATE value = VALUES(value)"
            }
        };
        Self {
            texts: TABLES.map(|table| COUNTS.map(|rows| insert(flavour, table, rows).into())).into(),
            mark: mark.into(),
            edit:
                "UPDATE jobs SET job = ?, retry_at = CASE WHEN state = 'queued' THEN ? ELSE retry_at END, updated = ? \
                   WHERE id = ? AND job_replay = ?"
                    .into(),
            unbury: "DELETE FROM dead WHERE job = ? AND replay <= ?".into(),
            remove_dead: "DELETE FROM dead WHERE job = ? AND replay = ? AND attempt = ?".into(),
            sweep_figures: "DELETE FROM figures WHERE minute < ?".into(),
            sweep_hours: "DELETE FROM figure_hours WHERE hour < ?".into(),
            replays: Texts::new(),
        }
    }

    /// The insert of [`COUNTS`]`[count]` rows into a table.
    pub fn insert(&self, table: Table, count: usize) -> &Sql {
        &self.texts[table as usize][count]
    }
}

fn insert(flavour: Flavour, table: Table, rows: usize) -> String {
    let columns = table.columns();
    let mut sql = format!("INSERT INTO {} ({}) VALUES ", table.name(), columns.join(", "));
    let row = format!("({})", holes(columns.len()));
    for at in 0..rows {
        sql.push_str(if at == 0 { "" } else { ", " });
        sql.push_str(&row);
    }
    match flavour {
        Flavour::Sqlite => sql.push_str(&format!(" ON CONFLICT ({}) DO ", table.key())),
        Flavour::MySql => sql.push_str(" AS new ON DUPLICATE KEY UPDATE "),
        Flavour::MariaDb => sql.push_str(" ON DUPLICATE KEY UPDATE "),
    }
    sql.push_str(&conflict(flavour, table));
    sql
}

/// What happens to a row that is there already.
fn conflict(flavour: Flavour, table: Table) -> String {
    let new = |column: &str| match flavour {
        Flavour::Sqlite => format!("excluded.{column}"),
        Flavour::MySql => format!("new.{column}"),
        Flavour::MariaDb => format!("VALUES({column})"),
    };
    let name = table.name();
    let assign = |columns: &[(&str, String)], guard: &str| {
        let mut set = String::from(if flavour == Flavour::Sqlite { "UPDATE SET " } else { "" });
        for (at, (column, when)) in columns.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            // Writing to a string cannot fail.
            let _ = write!(set, "{comma}{column} = CASE WHEN {when} THEN {} ELSE {name}.{column} END", new(column));
        }
        if flavour == Flavour::Sqlite {
            let _ = write!(set, " WHERE {guard}");
        }
        set
    };
    let all = |guard: &str, skip: usize| -> Vec<(&str, String)> {
        table.columns()[skip..].iter().map(|column| (*column, guard.to_owned())).collect()
    };
    match table {
        Table::Attempts | Table::Dead => match flavour {
            Flavour::Sqlite => "NOTHING".to_owned(),
            // Assigning a column to itself changes nothing; IGNORE would hide refused content.
            _ => format!("attempt = {name}.attempt"),
        },
        Table::Figures | Table::Hours | Table::Notices => {
            let set = if flavour == Flavour::Sqlite { "UPDATE SET " } else { "" };
            format!("{set}times = {name}.times + {}", new("times"))
        }
        Table::Steps => {
            let guard = format!("{} > steps.started", new("started"));
            assign(&all(&guard, 2), &guard)
        }
        Table::Runs => {
            let replay = new("replay");
            let guard = format!(
                "{replay} > runs.replay OR ({replay} = runs.replay AND runs.ended IS NULL AND {} IS NOT NULL)",
                new("ended")
            );
            assign(&all(&guard, 1), &guard)
        }
        Table::Jobs => {
            let place = new("place");
            let forward =
                format!("({place} > jobs.place AND ((jobs.place & 3) < 3 OR ({place} >> 34) > (jobs.place >> 34)))");
            let fill = format!("{} > jobs.job_replay", new("job_replay"));
            let columns: Vec<(&str, String)> = JOB_COLUMNS[1..]
                .iter()
                // The first word on `created` stands: it is carried on every copy.
                .filter(|column| **column != "created")
                .map(|column| {
                    let when = match *column {
                        "updated" => format!("{forward} OR {fill}"),
                        "job" | "job_replay" => fill.clone(),
                        "kind" | "queue" => format!("{forward} OR jobs.{column} = ''"),
                        _ => forward.clone(),
                    };
                    (*column, when)
                })
                .collect();
            assign(&columns, &format!("{forward} OR {fill} OR jobs.kind = '' OR jobs.queue = ''"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_flavour_gets_its_own_words_and_assigns_the_place_last() {
        for flavour in [Flavour::Sqlite, Flavour::MySql, Flavour::MariaDb] {
            let statements = Statements::new(flavour);
            let text = statements.insert(Table::Jobs, 3);
            assert_eq!(text.matches('?').count(), JOB_COLUMNS.len());
            assert_eq!(text.contains("AS new"), flavour == Flavour::MySql);
            assert_eq!(text.contains("VALUES(place)"), flavour == Flavour::MariaDb);
            assert_eq!(text.contains("excluded."), flavour == Flavour::Sqlite);
            let last = text.rfind(" = CASE").map(|at| text[..at].ends_with(" place"));
            assert_eq!(last, Some(true));
        }
    }
}
