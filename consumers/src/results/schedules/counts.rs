//! The table `counts`: how many instants fired, late or in time, and how many did not, over all processes and
//! for ever.
//!
//! Owns its few rows, which are there from the start. The history of instants is bounded, these are not.

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::{
    super::{
        Results, ResultsError, Store,
        database::{Value, Writing},
    },
    words,
};

/// What the broker had later than this after its time is late.
const LATE: Duration = Duration::from_secs(1);

/// An instant whose job is with the broker: its trigger, itself in microseconds, and when it was to be published.
pub type Published = (Uuid, i64, Option<Timestamp>);

/// Instants that were left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Nobody fired them in their time.
    pub missed: usize,
    /// An earlier job had not ended.
    pub overlap: usize,
    /// They lie in a blackout.
    pub blackout: usize,
}

/// How many instants there were since the database was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TickCounts {
    /// Their jobs were published.
    pub fired: u64,
    /// Of these, more than a second after their time.
    pub late: u64,
    /// Nobody fired them in their time.
    pub missed: u64,
    /// An earlier job had not ended.
    pub overlap: u64,
    /// They lie in a blackout.
    pub blackout: u64,
}

impl Results {
    /// What is counted of instants.
    pub async fn tick_counts(&self) -> Result<TickCounts, ResultsError> {
        let rows = self.0.database.ask("SELECT name, n FROM counts".to_owned(), Vec::new()).await?;
        let mut counts = TickCounts::default();
        for row in rows {
            let (name, count) = (row.text(0)?, row.int(1)?.unsigned_abs());
            match name.as_str() {
                "fired" => counts.fired = count,
                "late" => counts.late = count,
                "missed" => counts.missed = count,
                "overlap" => counts.overlap = count,
                "blackout" => counts.blackout = count,
                _ => {}
            }
        }
        Ok(counts)
    }
}

impl Store {
    /// Counts what was published, and tells how late the latest of them is.
    pub(super) async fn count_published(
        &self,
        writing: &mut Writing,
        of: &[Published],
    ) -> Result<Duration, ResultsError> {
        let rows = writing.fetch(&words(self.database.flavour(), "SELECT {now}"), Vec::new()).await?;
        let now = rows.first().map_or(Ok(0), |row| row.int(0))?;
        let after = |time: Timestamp| Duration::from_micros(u64::try_from(now - time.as_microsecond()).unwrap_or(0));
        let late: Vec<Duration> =
            of.iter().filter_map(|(.., time)| time.map(after)).filter(|after| *after > LATE).collect();
        self.add(writing, &[("fired", of.len()), ("late", late.len())]).await?;
        Ok(late.into_iter().max().unwrap_or_default())
    }

    /// Counts what was left out.
    pub(super) async fn count_left_out(&self, writing: &mut Writing, of: Counted) -> Result<(), ResultsError> {
        self.add(writing, &[("blackout", of.blackout), ("missed", of.missed), ("overlap", of.overlap)]).await
    }

    /// By name, so that two who count do not wait for each other.
    async fn add(&self, writing: &mut Writing, counts: &[(&str, usize)]) -> Result<(), ResultsError> {
        let sql = words(self.database.flavour(), "UPDATE counts SET n = n + ? WHERE name = ?");
        for (name, count) in counts.iter().filter(|(_, count)| *count > 0) {
            let count = Value::Int(i64::try_from(*count).unwrap_or(i64::MAX));
            writing.run(&sql, vec![count, Value::Text((*name).to_owned())]).await?;
        }
        Ok(())
    }
}
