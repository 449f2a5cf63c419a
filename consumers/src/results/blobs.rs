//! Large args and values as rows: a part a row, so that no statement is larger than a server takes.
//!
//! Owns the table `blobs`. Refuses to judge what it reads: whoever asked for it checks the hash.

use bytes::Bytes;
use jiff::Timestamp;
use spinor_executors::BlobRef;
use uuid::Uuid;

use super::{
    Results, ResultsError,
    database::{Flavour, Sql, Value, holes},
};

/// The size of a part. Servers take statements of 1 MiB and more.
const PART: usize = 512 << 10;
/// Parts to a transaction or a question: none takes long.
const AT_ONCE: usize = 8;

impl Results {
    /// Stores a blob of a job; again is harmless, and mends what was damaged. Durable when it returns.
    pub async fn put_blob(&self, job: Uuid, blob: &BlobRef, bytes: &Bytes) -> Result<(), ResultsError> {
        let text = put(self.0.database.flavour());
        let at = Timestamp::now().as_microsecond();
        let parts: Vec<&[u8]> = bytes.chunks(PART).collect();
        for (group, parts) in parts.chunks(AT_ONCE).enumerate() {
            let mut writing = self.0.database.begin().await?;
            for (place, part) in parts.iter().enumerate() {
                let values = vec![
                    Value::Id(job),
                    Value::Blob(blob.sha256.0.to_vec()),
                    number(group * AT_ONCE + place),
                    Value::Int(at),
                    Value::Blob(part.to_vec()),
                ];
                writing.run(&text, values).await?;
            }
            writing.commit().await?;
        }
        Ok(())
    }

    /// Reads a blob of a job; `None` when not all of it is there.
    pub async fn blob(&self, job: Uuid, blob: &BlobRef) -> Result<Option<Bytes>, ResultsError> {
        let sql = "SELECT data FROM blobs WHERE job = ? AND sha256 = ? AND part >= ? AND part < ? ORDER BY part";
        let mut found: Vec<u8> = Vec::new();
        let parts = usize::try_from(blob.size).unwrap_or(usize::MAX).div_ceil(PART);
        for from in (0..parts).step_by(AT_ONCE) {
            let to = (from + AT_ONCE).min(parts);
            let values = vec![Value::Id(job), Value::Blob(blob.sha256.0.to_vec()), number(from), number(to)];
            let rows = self.0.database.ask(sql.to_owned(), values).await?;
            // The size was said by somebody else: what is not there ends the search.
            if rows.len() != to - from {
                return Ok(None);
            }
            for row in rows {
                found.extend(row.blob(0)?);
            }
        }
        Ok(Some(found.into()))
    }

    /// How many blobs these jobs have, and their bytes.
    pub async fn count_blobs(&self, jobs: &[Uuid]) -> Result<(u64, u64), ResultsError> {
        let (mut blobs, mut bytes) = (0, 0);
        for job in self.with_blobs(jobs).await? {
            // A sum would be a decimal on MySQL.
            let sql = "SELECT COUNT(DISTINCT sha256), CAST(COALESCE(SUM(LENGTH(data)), 0) AS SIGNED) FROM blobs WHERE job = ?";
            if let Some(row) = self.0.database.ask(sql.to_owned(), vec![Value::Id(job)]).await?.first() {
                blobs += row.int(0)?.unsigned_abs();
                bytes += row.int(1)?.unsigned_abs();
            }
        }
        Ok((blobs, bytes))
    }

    /// Removes all blobs of these jobs.
    pub async fn forget_blobs(&self, jobs: &[Uuid]) -> Result<(), ResultsError> {
        let delete: Sql = "DELETE FROM blobs WHERE job = ?".into();
        for job in self.with_blobs(jobs).await? {
            // One job in each transaction: its blobs may be large.
            let mut writing = self.0.database.begin().await?;
            writing.run(&delete, vec![Value::Id(job)]).await?;
            writing.commit().await?;
        }
        Ok(())
    }

    /// Some jobs after this one, by id, with blobs older than an instant.
    pub async fn old_blobs(&self, before: Timestamp, after: Uuid) -> Result<Vec<Uuid>, ResultsError> {
        let sql = "SELECT DISTINCT job FROM blobs WHERE at < ? AND job > ? ORDER BY job LIMIT 200";
        let values = vec![Value::Int(before.as_microsecond()), Value::Id(after)];
        self.0.database.ask(sql.to_owned(), values).await?.iter().map(|row| row.id(0)).collect()
    }

    /// Those of these jobs of which neither a job nor a letter is recorded, and which do not wait for their time.
    pub async fn unrecorded(&self, jobs: &[Uuid]) -> Result<Vec<Uuid>, ResultsError> {
        let mut rest = jobs.to_vec();
        // A job that waits for its time is recorded beside, and that may have failed.
        let tables = [
            "SELECT id FROM jobs WHERE id",
            "SELECT DISTINCT job FROM dead WHERE job",
            "SELECT job FROM timers WHERE job",
        ];
        for table in tables {
            if rest.is_empty() {
                break;
            }
            let rows = self.0.database.ask(format!("{table} IN ({})", holes(rest.len())), ids(&rest)).await?;
            let found = rows.iter().map(|row| row.id(0)).collect::<Result<Vec<_>, _>>()?;
            rest.retain(|job| !found.contains(job));
        }
        Ok(rest)
    }

    /// Those of these jobs that have blobs: few, mostly none.
    async fn with_blobs(&self, jobs: &[Uuid]) -> Result<Vec<Uuid>, ResultsError> {
        if jobs.is_empty() {
            return Ok(Vec::new());
        }
        let sql = format!("SELECT DISTINCT job FROM blobs WHERE job IN ({})", holes(jobs.len()));
        self.0.database.ask(sql, ids(jobs)).await?.iter().map(|row| row.id(0)).collect()
    }
}

/// Ids as values.
pub(super) fn ids(ids: &[Uuid]) -> Vec<Value> {
    ids.iter().map(|id| Value::Id(*id)).collect()
}

fn number(place: usize) -> Value {
    Value::Int(i64::try_from(place).unwrap_or(i64::MAX))
}

fn put(flavour: Flavour) -> Sql {
    let insert = "INSERT INTO blobs (job, sha256, part, at, data) VALUES (?, ?, ?, ?, ?)";
    match flavour {
        Flavour::Sqlite => {
            format!("{insert} ON CONFLICT (job, sha256, part) DO UPDATE SET at = excluded.at, data = excluded.data")
        }
        Flavour::MySql => format!("{insert} AS new ON DUPLICATE KEY UPDATE at = new.at, data = new.data"),
        Flavour::MariaDb => format!("{insert} ON DUPLICATE KEY UPDATE at = VALUES(at), data = VALUES(data)"),
    }
    .into()
}
