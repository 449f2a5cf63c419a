//! The table `changes`: who changed what of triggers, when, and what it was before.
//!
//! Owns its rows: each is written in the transaction of the order or the file that made the change. The last
//! hundred of a name are kept, for a year.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use spinor_executors::Json;
use uuid::Uuid;

use super::{
    super::{
        Results, ResultsError,
        change::clip,
        database::{Column, Flavour, Value, Writing},
        read::json,
    },
    instant,
    row::Row,
    words,
};

/// So many are kept of a name.
const KEPT: usize = 100;
/// And none for longer, in microseconds.
const YEAR: i64 = 366 * 86_400_000_000;

/// Who wants a change, and why.
#[derive(Clone, Copy, Debug)]
pub struct By<'a> {
    /// A person, or the process that read a file.
    pub who: &'a str,
    /// In that person's words.
    pub why: Option<&'a str>,
}

/// What a trigger was before or after a change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Was {
    /// `active`, `paused`, `ended`, `retired`.
    pub state: String,
    /// `file` or `command`.
    pub origin: String,
    /// The job that the next one may not overlap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub busy: Option<Uuid>,
    /// When, what, and the policies, as it was asked for.
    pub asked: Json,
}

/// A change as people see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// When, by the database's clock.
    pub at: Timestamp,
    /// By whom.
    pub by: String,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// `added`, `edited`, `paused`, `resumed`, `freed`, `retired`, `removed`.
    pub what: String,
    /// What it was before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<Was>,
    /// And after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<Was>,
}

impl Was {
    pub(super) fn of(row: &Row) -> Self {
        let asked = row.spec.asked.clone();
        Self { state: row.state.clone(), origin: row.origin.clone(), busy: row.busy, asked }
    }
}

/// Writes a change down.
pub(super) async fn note(
    writing: &mut Writing,
    flavour: Flavour,
    (name, now): (&str, i64),
    by: By<'_>,
    what: &str,
    (old, new): (Option<Was>, Option<Was>),
) -> Result<(), ResultsError> {
    let text = |was: Option<Was>| {
        let text = was.map(|was| serde_json::to_string(&was)).transpose();
        text.map(Value::MaybeText).map_err(|error| ResultsError::Refused(error.to_string()))
    };
    let sql =
        "INSERT INTO changes (id, name, changed, who, why, what, old_spec, new_spec) VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
    let values = vec![
        Value::Id(Uuid::now_v7()),
        Value::Text(name.to_owned()),
        Value::Int(now),
        Value::Text(clip(by.who, 200)),
        Value::MaybeText(by.why.map(|why| clip(why, 1000))),
        Value::Text(what.to_owned()),
        text(old)?,
        text(new)?,
    ];
    writing.run(&words(flavour, sql), values).await?;
    writing.run(&words(flavour, "DELETE FROM changes WHERE changed < ?"), vec![Value::Int(now - YEAR)]).await?;
    let sql = format!("SELECT changed FROM changes WHERE name = ? ORDER BY changed DESC LIMIT 1 OFFSET {KEPT}");
    let rows = writing.fetch(&words(flavour, &sql), vec![Value::Text(name.to_owned())]).await?;
    let Some(oldest) = rows.first() else { return Ok(()) };
    let sql = words(flavour, "DELETE FROM changes WHERE name = ? AND changed <= ?");
    writing.run(&sql, vec![Value::Text(name.to_owned()), Value::Int(oldest.int(0)?)]).await.map(drop)
}

impl Results {
    /// The last changes of the triggers that had a name, the newest first.
    pub async fn trigger_changes(&self, name: &str, limit: u32) -> Result<Vec<Change>, ResultsError> {
        let sql = format!(
            "SELECT changed, who, why, what, old_spec, new_spec FROM changes WHERE name = ? \
             ORDER BY changed DESC, id DESC LIMIT {limit}"
        );
        let rows = self.0.database.ask(sql, vec![Value::Text(name.to_owned())]).await?;
        let change = |row: &Column| {
            Ok(Change {
                at: instant(row.int(0)?),
                by: row.text(1)?,
                why: row.maybe_text(2)?,
                what: row.text(3)?,
                old: row.maybe_text(4)?.as_deref().map(json).transpose()?,
                new: row.maybe_text(5)?.as_deref().map(json).transpose()?,
            })
        };
        rows.iter().map(change).collect()
    }
}
