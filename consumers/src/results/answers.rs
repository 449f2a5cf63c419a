//! The table `answers`: what was answered to a request that may be sent again under the same key.
//!
//! Owns its rows, with a schema of their own: a key is claimed before the work, by one process alone, and holds the answer
//! afterwards, for a day. Keys and requests come here as their hashes. Refuses to do the work, and to judge whether
//! what nobody finished may be done again: who claims says so.

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::{
    Results, ResultsError,
    database::{Column, Database, Value, migrations::Schema},
    read::time,
};

const SCHEMA: Schema = Schema {
    what: "table of answers in the results database",
    table: "spinor_answers_schema",
    sqlite: &[include_str!("answers/sqlite_0001.sql")],
    mysql: &[include_str!("answers/mysql_0001.sql")],
};

/// Answers are kept for so long, in microseconds.
const KEPT: i64 = 86_400_000_000;
/// A claim that nobody renews counts for so long.
pub const CLAIMED: Duration = Duration::from_secs(60);
/// What has more bytes is large.
const LARGE: usize = 64 << 10;
/// A larger answer is not kept: only that there was one.
const LARGEST: usize = 4 << 20;
/// So many small ones are kept, and so many large ones: the newest.
const MOST: [(i64, u32); 2] = [(0, 200_000), (1, 1000)];
/// So many go in a transaction.
const CHUNK: u32 = 1000;
/// Somebody else may be at the same key.
const TRIES: usize = 4;

pub(super) async fn migrate(database: &Database) -> Result<(), ResultsError> {
    SCHEMA.migrate(database).await
}

/// A request under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keyed {
    /// The hash of the key, and of whose it is.
    pub name: [u8; 32],
    /// The hash of what is asked under it.
    pub request: [u8; 32],
}

/// What is known of a request when it comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// It is to be done, by who claimed it now.
    Mine {
        /// The same each time that it is to be done.
        seed: Uuid,
        /// It was begun before, and may have been done.
        again: bool,
    },
    /// It is being done.
    InWork,
    /// It was done.
    Answered {
        /// The status of the answer.
        status: u16,
        /// The answer; none when it was too large to be kept.
        body: Option<Vec<u8>>,
    },
    /// The key is that of another request.
    Other,
    /// Who did it since this instant died before its end.
    Lost(Timestamp),
}

struct Row {
    request: Vec<u8>,
    seed: Uuid,
    holder: Uuid,
    at: i64,
    until: i64,
    status: i64,
    body: Vec<u8>,
}

impl Results {
    /// Claims a request for `holder`. `anew`: what somebody began who died may be done again.
    pub async fn claim_answer(&self, keyed: &Keyed, holder: Uuid, anew: bool) -> Result<Claimed, ResultsError> {
        let name = || Value::Blob(keyed.name.to_vec());
        for _ in 0..TRIES {
            let now = Timestamp::now().as_microsecond();
            let until = now.saturating_add(claimed());
            let insert = "{insert} INTO answers (name, request, seed, holder, at, until, status, large, body) \
                          VALUES (?, ?, ?, ?, ?, ?, 0, 0, ?)";
            let values = vec![
                name(),
                Value::Blob(keyed.request.to_vec()),
                Value::Id(holder),
                Value::Id(holder),
                Value::Int(now),
                Value::Int(until),
                Value::Blob(Vec::new()),
            ];
            // A question first: a request that comes again writes nothing.
            let Some(row) = self.answer(keyed).await? else {
                if self.changes(insert, values).await? {
                    return Ok(Claimed::Mine { seed: holder, again: false });
                }
                continue;
            };
            if row.at < now.saturating_sub(KEPT) && row.until < now {
                let over = vec![name(), Value::Int(row.at)];
                self.changes("DELETE FROM answers WHERE name = ? AND at = ?", over).await?;
                continue;
            }
            if row.request != keyed.request {
                return Ok(Claimed::Other);
            }
            if row.status != 0 {
                let status = u16::try_from(row.status).unwrap_or(500);
                return Ok(Claimed::Answered { status, body: Some(row.body).filter(|body| !body.is_empty()) });
            }
            if row.until >= now {
                return Ok(Claimed::InWork);
            }
            // Given back by who could not do it, or left behind.
            if row.until != 0 && !anew {
                return Ok(Claimed::Lost(time(row.at)?));
            }
            let take =
                "UPDATE answers SET holder = ?, until = ? WHERE name = ? AND holder = ? AND until = ? AND status = 0";
            let values =
                vec![Value::Id(holder), Value::Int(until), name(), Value::Id(row.holder), Value::Int(row.until)];
            if self.changes(take, values).await? {
                return Ok(Claimed::Mine { seed: row.seed, again: true });
            }
        }
        // Somebody was faster each time.
        Ok(Claimed::InWork)
    }

    async fn answer(&self, keyed: &Keyed) -> Result<Option<Row>, ResultsError> {
        let sql = "SELECT request, seed, holder, at, until, status, body FROM answers WHERE name = ?";
        let rows = self.0.database.ask(sql.to_owned(), vec![Value::Blob(keyed.name.to_vec())]).await?;
        rows.first().map(row).transpose()
    }

    /// Says that the work is still being done; `false` when the claim is somebody else's by now.
    pub async fn renew_answer(&self, keyed: &Keyed, holder: Uuid) -> Result<bool, ResultsError> {
        let until = Timestamp::now().as_microsecond().saturating_add(claimed());
        let values = vec![Value::Int(until), Value::Blob(keyed.name.to_vec()), Value::Id(holder)];
        self.changes("UPDATE answers SET until = ? WHERE name = ? AND holder = ? AND status = 0", values).await
    }

    /// Keeps the answer.
    pub async fn keep_answer(&self, keyed: &Keyed, holder: Uuid, status: u16, body: &[u8]) -> Result<(), ResultsError> {
        let body = if body.len() > LARGEST { &[] } else { body };
        let values = vec![
            Value::Int(status.into()),
            Value::Int((body.len() > LARGE).into()),
            Value::Blob(body.to_vec()),
            Value::Blob(keyed.name.to_vec()),
            Value::Id(holder),
        ];
        let sql = "UPDATE answers SET status = ?, large = ?, body = ? WHERE name = ? AND holder = ? AND status = 0";
        self.changes(sql, values).await.map(drop)
    }

    /// The work could not be done, and is to be done when it is asked for again.
    pub async fn give_answer_back(&self, keyed: &Keyed, holder: Uuid) -> Result<(), ResultsError> {
        let values = vec![Value::Blob(keyed.name.to_vec()), Value::Id(holder)];
        self.changes("UPDATE answers SET until = 0 WHERE name = ? AND holder = ? AND status = 0", values)
            .await
            .map(drop)
    }

    /// Nothing was done, and the key is nobody's.
    pub async fn forget_answer(&self, keyed: &Keyed, holder: Uuid) -> Result<(), ResultsError> {
        let values = vec![Value::Blob(keyed.name.to_vec()), Value::Id(holder)];
        self.changes("DELETE FROM answers WHERE name = ? AND holder = ? AND status = 0", values).await.map(drop)
    }

    /// Removes answers that are older than a day, and the oldest of too many.
    pub async fn prune_answers(&self) -> Result<(), ResultsError> {
        let old = Timestamp::now().as_microsecond().saturating_sub(KEPT);
        for (large, most) in MOST {
            let large = || Value::Int(large);
            let sql = format!("SELECT at FROM answers WHERE large = ? ORDER BY at DESC LIMIT 1 OFFSET {most}");
            let rows = self.0.database.ask(sql, vec![large()]).await?;
            let over = rows.first().map(|row| row.int(0)).transpose()?;
            let cut = over.map_or(old, |over| over.saturating_add(1).max(old));
            loop {
                let sql = format!(
                    "SELECT at FROM answers WHERE large = ? AND at < ? ORDER BY at LIMIT 1 OFFSET {}",
                    CHUNK - 1
                );
                let rows = self.0.database.ask(sql, vec![large(), Value::Int(cut)]).await?;
                let to = rows.first().map(|row| row.int(0)).transpose()?;
                let before = to.map_or(cut, |to| to.saturating_add(1));
                self.changes("DELETE FROM answers WHERE large = ? AND at < ?", vec![large(), Value::Int(before)])
                    .await?;
                if to.is_none() {
                    break;
                }
            }
        }
        Ok(())
    }
}

fn claimed() -> i64 {
    i64::try_from(CLAIMED.as_micros()).unwrap_or(i64::MAX)
}

fn row(row: &Column) -> Result<Row, ResultsError> {
    Ok(Row {
        request: row.blob(0)?,
        seed: row.id(1)?,
        holder: row.id(2)?,
        at: row.int(3)?,
        until: row.int(4)?,
        status: row.int(5)?,
        body: row.blob(6)?,
    })
}
