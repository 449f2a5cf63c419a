//! The table `audit`: each action, by whom, from where, on what, with what came of it.
//!
//! A row is written once its end is known, and before it only when that may never come: then the end, if it comes all the
//! same, is put in, with the name that the action said it was done under. Written again it changes nothing.

use std::sync::Arc;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::super::{
    Page, Results, ResultsError,
    change::clip,
    database::{Column, Value},
    read::{Where, cursor, page, rows_asked, time},
};

const ROW: &str = "id, at, who, how, place, action, target, outcome";
/// What stands for an end that is not known.
const BEGUN: &str = "begun";
/// So many go at once.
const CHUNK: u32 = 500;

/// An action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditRow {
    /// UUIDv7.
    pub id: Uuid,
    /// When it was asked for.
    pub at: Timestamp,
    /// Who asked, as far as that is known.
    pub who: String,
    /// How that is known: `socket`, `token`, `session`, or `nobody`.
    pub how: String,
    /// From where: an address, or the user of this machine.
    pub place: String,
    /// The operation.
    pub action: String,
    /// On what.
    pub target: String,
    /// `done`, or why not; `begun` when that is not known.
    pub outcome: String,
}

/// Which actions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AuditFilter {
    /// By this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub who: Option<String>,
    /// This operation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// At most so many; 0 means 50, at most 1000.
    pub limit: u32,
    /// Where a page before this one ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

impl AuditRow {
    /// Is its end not known?
    pub fn is_begun(&self) -> bool {
        self.outcome == BEGUN
    }

    /// Nothing is known of its end yet.
    pub fn begun(mut self) -> Self {
        BEGUN.clone_into(&mut self.outcome);
        self
    }
}

impl Results {
    /// Writes rows, those that are there already included.
    pub async fn audit(&self, rows: &[AuditRow]) -> Result<(), ResultsError> {
        let database = &self.0.database;
        let insert = Arc::from(
            database.flavour().words(&format!("{{insert}} INTO audit ({ROW}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)")),
        );
        let end = Arc::from(format!("UPDATE audit SET outcome = ?, who = ? WHERE id = ? AND outcome = '{BEGUN}'"));
        let mut writing = database.begin().await?;
        for row in rows {
            let short = |text: &str, most| Value::Text(clip(text, most));
            let values = vec![
                Value::Id(row.id),
                Value::Int(row.at.as_microsecond()),
                short(&row.who, 100),
                short(&row.how, 20),
                short(&row.place, 255),
                short(&row.action, 100),
                short(&row.target, 1000),
                short(&row.outcome, 1000),
            ];
            if writing.run(&insert, values).await? == 0 && !row.is_begun() {
                let values = vec![short(&row.outcome, 1000), short(&row.who, 100), Value::Id(row.id)];
                writing.run(&end, values).await?;
            }
        }
        writing.commit().await
    }

    /// Actions, the newest first.
    pub async fn actions(&self, filter: &AuditFilter) -> Result<Page<AuditRow>, ResultsError> {
        let mut asked = Where::default();
        for (test, wanted) in [("who = ?", &filter.who), ("action = ?", &filter.action)] {
            if let Some(wanted) = wanted {
                asked.and(test, [Value::Text(wanted.clone())]);
            }
        }
        asked.before("at", "id", filter.cursor.as_deref())?;
        let limit = rows_asked(filter.limit);
        let sql = format!("SELECT {ROW} FROM audit{asked} ORDER BY at DESC, id DESC LIMIT {}", limit + 1);
        let rows = self.0.database.ask(sql, asked.values).await?;
        page(&rows, limit, action, |row| cursor(row.at, row.id))
    }

    /// Removes some of the actions from before this instant; 0: there are none any more.
    pub async fn forget_actions(&self, before: Timestamp) -> Result<u64, ResultsError> {
        let database = &self.0.database;
        let before = Value::Int(before.as_microsecond());
        let find = format!("SELECT id FROM audit WHERE at < ? ORDER BY at LIMIT {CHUNK}");
        let rows = database.ask(find, vec![before]).await?;
        let ids: Vec<Value> = rows.iter().map(|row| row.id(0).map(Value::Id)).collect::<Result<_, _>>()?;
        if ids.is_empty() {
            return Ok(0);
        }
        let mut writing = database.begin().await?;
        let sql = format!("DELETE FROM audit WHERE id IN ({})", super::super::database::holes(ids.len()));
        let gone = writing.run(&Arc::from(sql), ids).await?;
        writing.commit().await?;
        Ok(gone)
    }
}

fn action(row: &Column) -> Result<AuditRow, ResultsError> {
    Ok(AuditRow {
        id: row.id(0)?,
        at: time(row.int(1)?)?,
        who: row.text(2)?,
        how: row.text(3)?,
        place: row.text(4)?,
        action: row.text(5)?,
        target: row.text(6)?,
        outcome: row.text(7)?,
    })
}
