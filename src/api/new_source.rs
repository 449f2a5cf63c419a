//! What a trigger fires for: the items of a list, or who tells them.
//!
//! Owns the form of `each`, and what its fields may be. Refuses to ask: a job does, at each instant.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use spinor_consumers::{next::MOST_MEMBERS, schedule::Asks};
use spinor_executors::{Job, Json};

use super::{
    Problem, new_job,
    new_trigger::{duration, millis},
};
use crate::config;

/// Where items come from, asked at each instant: one of `sql` and `command`. For the configuration file alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NewSource {
    /// A question: an item for each row, with a field for each column.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sql: Option<String>,
    /// Whom it is for; the results database when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// A program with its arguments: an item for each line, as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// The queue of the job that asks; that of the jobs when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// For how long it may ask; 30 s when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// At most so many items are taken; 10 000 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// What there is a job for.
#[derive(Clone, Debug, PartialEq)]
pub enum NewItems {
    /// These; none means one job for the instant itself.
    List(Vec<Json>),
    /// What this tells.
    Asked(NewSource),
}

impl NewItems {
    /// A list, or a table of who tells one.
    pub fn read(each: &Json) -> Result<Self, Problem> {
        let wrong = |error: serde_json::Error| {
            let form = "expected a list of items, or in the configuration file a table with `sql` or `command`";
            Problem::field("each", format!("{form}: {error}"))
        };
        if each.text().trim_start().starts_with('{') {
            return each.read().map(Self::Asked).map_err(wrong);
        }
        each.read().map(Self::List).map_err(wrong)
    }
}

impl NewSource {
    /// The longest question, the default and the most items.
    const TIMES: (Duration, Duration) = (Duration::from_secs(3600), Duration::from_secs(30));

    /// At most so many items.
    pub fn most(&self) -> usize {
        self.limit.unwrap_or(MOST_MEMBERS)
    }

    /// The job that asks, beside the one that is fired.
    pub fn check(&self, job: &Job) -> Result<Asks, Problem> {
        let wrong = |why: &str| Err(Problem::field("each", why));
        match (&self.sql, &self.command) {
            (None, None) => return wrong("says neither `sql` nor `command`"),
            (Some(_), Some(_)) => return wrong("says both `sql` and `command`; keep one"),
            (Some(sql), None) if sql.trim().is_empty() => return wrong("has an empty `sql`"),
            (None, Some(command)) if command.first().is_none_or(|program| program.trim().is_empty()) => {
                return wrong(
                    "has an empty `command`; write a program and its arguments, such as [\"list-sites\", \"--json\"]",
                );
            }
            (None, Some(_)) if self.database.is_some() => return wrong("has a `database`, which is for `sql` alone"),
            _ => {}
        }
        if self.sql.iter().chain(self.command.iter().flatten()).any(|text| text.contains('\0')) {
            return wrong("holds a zero byte");
        }
        if self.database.as_deref().is_some_and(|text| !config::is_database(text)) {
            return wrong(
                "has a `database` that is no address such as \"mysql://user@host/database\" or \"sqlite:///srv/sites.db\"",
            );
        }
        if !(1..=MOST_MEMBERS).contains(&self.most()) {
            return Err(Problem::field(
                "each",
                format!("has the `limit` {}, expected 1 to {MOST_MEMBERS}", self.most()),
            ));
        }
        let timeout = self.timeout.as_deref().map_or(Ok(Self::TIMES.1), |text| duration("each", text))?;
        if timeout > Self::TIMES.0 || timeout < Duration::from_millis(100) {
            return wrong("has a `timeout` that is not from 100ms to 1h");
        }
        let queue = self.queue.clone().unwrap_or_else(|| job.queue.clone());
        new_job::name("queue", &queue).map_err(|problem| problem.within("each"))?;
        Ok(Asks { queue, timeout_ms: millis(timeout) })
    }
}
