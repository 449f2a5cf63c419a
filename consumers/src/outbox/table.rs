//! The table of an outbox, in a database of somebody else's.
//!
//! Owns every statement, and what an error means. Refuses to make or change the table, and to know what a job is:
//! whatever stands in a row, it can be read, removed and set aside.

use std::{collections::BTreeMap, time::Duration};

use super::{OutboxSettings, OutboxTarget};
use crate::{
    database::{Database, Flavour, Keys, Sql, Value, holes},
    results::ResultsError,
};

/// Rows that are read at once have no more bytes than this together, but for a single one.
const BYTES: i64 = 4 << 20;
/// A row holds a little more than the args.
const AROUND_ARGS: usize = 1 << 20;
/// Nobody counts further.
const MOST: i64 = 10_000;
/// A reason is cut after so many characters.
const WHY: usize = 1000;

const KEYS: Keys = Keys {
    address: "outbox.databases",
    password: "outbox_password",
    authority: "the parameter `ssl-ca` in `outbox.databases`",
};

/// Why an outbox cannot be used. Named by what the caller does next.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// Wait and try again.
    #[error("`outbox.databases`: {place}: {why}")]
    Away {
        /// The database, without a password.
        place: String,
        /// What happened.
        why: String,
    },
    /// Ask a person, and try again.
    #[error("`outbox.databases`: {place}: {why}")]
    Wrong {
        /// The database, without a password.
        place: String,
        /// What is wrong, and what to do.
        why: String,
    },
}

impl OutboxError {
    /// Must a person mend something?
    pub const fn is_for_people(&self) -> bool {
        matches!(self, Self::Wrong { .. })
    }
}

/// What is in an outbox; numbers up to 10 000.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Rows to be published.
    pub waiting: u64,
    /// Rows that were set aside.
    pub refused: u64,
    /// The first of these: its id and the reason.
    pub first: Option<(String, String)>,
}

/// A row that may be read.
pub struct Head {
    seq: i64,
    id: Vec<u8>,
    bytes: i64,
    age: Duration,
}

/// A row.
pub struct Row {
    pub seq: i64,
    /// As it stands there, whatever it is.
    pub id: Vec<u8>,
    /// How long ago it was written, by the database's own clock.
    pub age: Duration,
    pub job: Vec<u8>,
}

/// The table, connected.
pub struct Table {
    database: Database,
    name: String,
    place: String,
}

impl Table {
    /// Connects; the table is not looked at.
    pub async fn open(settings: &OutboxSettings) -> Result<Self, OutboxError> {
        let place = settings.place.clone();
        let opened = match &settings.target {
            OutboxTarget::Sqlite(path) => Database::sqlite_of_others(path).await,
            OutboxTarget::MySql(url) => Database::mysql(url, &KEYS).await,
        };
        let name = settings.table.split('.').map(|part| format!("`{part}`")).collect::<Vec<_>>().join(".");
        match opened {
            Ok(database) => Ok(Self { database, name, place }),
            Err(error) => Err(meaning(place, error)),
        }
    }

    pub async fn close(&self) {
        self.database.close().await;
    }

    /// The first rows that are to be published, in order, without their jobs.
    pub async fn heads(&self, most: u32) -> Result<Vec<Head>, OutboxError> {
        let (number, bytes) = (self.number("seq"), self.bytes("id"));
        let (length, age) = match self.database.flavour() {
            Flavour::Sqlite => {
                ("LENGTH(CAST(job AS BLOB))", "CAST((julianday('now') - julianday(added)) * 86400000000 AS INTEGER)")
            }
            _ => ("LENGTH(job)", "TIMESTAMPDIFF(MICROSECOND, added, UTC_TIMESTAMP(6))"),
        };
        let sql = format!(
            "SELECT {number}, {bytes}, {length}, {age} FROM {} WHERE refused IS NULL ORDER BY seq LIMIT {most}",
            self.name
        );
        let read = async {
            let rows = self.database.ask(sql, Vec::new()).await?;
            let head = |row: &crate::database::Column| {
                let age = u64::try_from(row.maybe_int(3)?.unwrap_or(0)).unwrap_or(0);
                let bytes = row.maybe_int(2)?.unwrap_or(0);
                Ok(Head { seq: row.int(0)?, id: row.blob(1)?, bytes, age: Duration::from_micros(age) })
            };
            rows.iter().map(head).collect::<Result<_, _>>()
        };
        read.await.map_err(|error: ResultsError| self.meaning(error))
    }

    /// The first of these rows, with their jobs, as far as they fit in memory; and those that are larger than any
    /// job may be, as they are to be set aside.
    pub async fn rows(
        &self,
        heads: Vec<Head>,
        max_args: usize,
    ) -> Result<(Vec<Row>, Vec<(i64, Vec<u8>, String)>), OutboxError> {
        let most = i64::try_from(max_args.saturating_add(AROUND_ARGS)).unwrap_or(i64::MAX);
        let (mut taken, mut refused, mut sum) = (Vec::new(), Vec::new(), 0);
        for head in heads {
            if head.bytes > most {
                let why = format!("{} bytes, more than any job may have (`max_args`)", head.bytes);
                refused.push((head.seq, head.id, why));
                continue;
            }
            sum += head.bytes;
            if sum > BYTES && !taken.is_empty() {
                break;
            }
            taken.push(head);
        }
        if taken.is_empty() {
            return Ok((Vec::new(), refused));
        }
        let (number, bytes) = (self.number("seq"), self.bytes("job"));
        let sql = format!("SELECT {number}, {bytes} FROM {} WHERE seq IN ({})", self.name, holes(taken.len()));
        let values = taken.iter().map(|head| Value::Int(head.seq)).collect();
        let read = async {
            let rows = self.database.ask(sql, values).await?;
            rows.iter().map(|row| Ok((row.int(0)?, row.maybe_blob(1)?.unwrap_or_default()))).collect()
        };
        let read: Result<BTreeMap<i64, Vec<u8>>, ResultsError> = read.await;
        let mut jobs = read.map_err(|error| self.meaning(error))?;
        // One that is gone by now was taken by somebody else.
        let rows = taken.into_iter().filter_map(|Head { seq, id, age, .. }| {
            let job = jobs.remove(&seq)?;
            Some(Row { seq, id, age, job })
        });
        Ok((rows.collect(), refused))
    }

    /// Removes what was published, and sets aside what never will be, in one transaction.
    pub async fn settle(
        &self,
        published: &[(i64, Vec<u8>)],
        refused: &[(i64, Vec<u8>, String)],
    ) -> Result<(), OutboxError> {
        let write = async {
            // By both: a table that was emptied meanwhile may have begun to count anew.
            let id = self.bytes("id");
            let mut writing = self.database.begin().await?;
            if !published.is_empty() {
                let holes = holes(published.len());
                let sql: Sql = format!("DELETE FROM {} WHERE seq IN ({holes}) AND {id} IN ({holes})", self.name).into();
                let numbers = published.iter().map(|(seq, _)| Value::Int(*seq));
                let ids = published.iter().map(|(_, id)| Value::Blob(id.clone()));
                writing.run(&sql, numbers.chain(ids).collect()).await?;
            }
            let sql: Sql = format!("UPDATE {} SET refused = ? WHERE seq = ? AND {id} = ?", self.name).into();
            for (seq, id, why) in refused {
                let why = why.chars().take(WHY).collect();
                writing.run(&sql, vec![Value::Text(why), Value::Int(*seq), Value::Blob(id.clone())]).await?;
            }
            writing.commit().await
        };
        let written: Result<(), ResultsError> = write.await;
        written.map_err(|error| self.meaning(error))
    }

    /// What is in it.
    pub async fn waiting(&self) -> Result<Waiting, OutboxError> {
        let count = |is: &str| {
            let sql = format!("SELECT 1 FROM {} WHERE refused IS {is} LIMIT {MOST}", self.name);
            format!("SELECT COUNT(*) FROM ({sql}) AS some")
        };
        let first = format!(
            "SELECT {}, {} FROM {} WHERE refused IS NOT NULL ORDER BY seq LIMIT 1",
            self.bytes("id"),
            self.bytes("refused"),
            self.name
        );
        let read = async {
            let number = async |sql| match self.database.ask(sql, Vec::new()).await?.first() {
                Some(row) => row.int(0).map(i64::unsigned_abs),
                None => Ok(0),
            };
            let (waiting, refused) = (number(count("NULL")).await?, number(count("NOT NULL")).await?);
            let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
            let first = match self.database.ask(first, Vec::new()).await?.first() {
                Some(row) => Some((text(row.blob(0)?), text(row.blob(1)?))),
                None => None,
            };
            Ok(Waiting { waiting, refused, first })
        };
        read.await.map_err(|error: ResultsError| self.meaning(error))
    }

    fn number(&self, column: &str) -> String {
        match self.database.flavour() {
            Flavour::Sqlite => column.to_owned(),
            _ => format!("CAST({column} AS SIGNED)"),
        }
    }

    /// A column as its bytes, whatever stands in it.
    fn bytes(&self, column: &str) -> String {
        match self.database.flavour() {
            Flavour::Sqlite => format!("CAST({column} AS BLOB)"),
            _ => format!("CAST({column} AS BINARY)"),
        }
    }

    fn meaning(&self, error: ResultsError) -> OutboxError {
        meaning(self.place.clone(), error)
    }
}

/// The errors of a database speak of the record, which this is not.
fn meaning(place: String, error: ResultsError) -> OutboxError {
    match error {
        ResultsError::Unavailable(why) => OutboxError::Away { place, why },
        ResultsError::Misconfigured(why) if is_without_table(&why) => {
            let why = format!(
                "{why}; make the table with the statement that `spinor_jobs.outbox.ddl` gives (docs/python.md)"
            );
            OutboxError::Wrong { place, why }
        }
        ResultsError::Misconfigured(why) | ResultsError::Refused(why) => OutboxError::Wrong { place, why },
    }
}

fn is_without_table(why: &str) -> bool {
    why.contains("no such table") || why.contains("doesn't exist")
}
