//! What is shown of triggers.

use uuid::Uuid;

use super::{
    super::{
        Results, ResultsError,
        database::{Column, Value},
    },
    Leader, TickRow, TriggerRow, instant,
    row::{COLUMNS, Row},
    words,
};

impl Results {
    /// All triggers, by name.
    pub async fn triggers(&self) -> Result<Vec<TriggerRow>, ResultsError> {
        let sql = format!("SELECT {COLUMNS} FROM schedules ORDER BY name");
        let rows = self.0.database.ask(sql, Vec::new()).await?;
        rows.iter().map(|row| Row::read(row).map(Row::shown)).collect()
    }

    /// How many there are, by their state.
    pub async fn trigger_states(&self) -> Result<Vec<(String, u64)>, ResultsError> {
        let sql = "SELECT state, COUNT(*) FROM schedules GROUP BY state ORDER BY state".to_owned();
        let rows = self.0.database.ask(sql, Vec::new()).await?;
        rows.iter().map(|row| Ok((row.text(0)?, row.int(1)?.unsigned_abs()))).collect()
    }

    /// One of them.
    pub async fn trigger(&self, name: &str) -> Result<Option<TriggerRow>, ResultsError> {
        let sql = format!("SELECT {COLUMNS} FROM schedules WHERE name = ?");
        let rows = self.0.database.ask(sql, vec![Value::Text(name.to_owned())]).await?;
        rows.first().map(|row| Row::read(row).map(Row::shown)).transpose()
    }

    /// Its last instants, the newest first.
    pub async fn ticks(&self, schedule: Uuid, limit: u32) -> Result<Vec<TickRow>, ResultsError> {
        let sql = format!(
            "SELECT instant, job, state, published - fire_at, ended, note FROM ticks WHERE schedule = ? \
             ORDER BY instant DESC LIMIT {limit}"
        );
        let rows = self.0.database.ask(sql, vec![Value::Id(schedule)]).await?;
        let tick = |row: &Column| {
            Ok(TickRow {
                instant: instant(row.int(0)?),
                job: row.id(1)?,
                state: row.text(2)?,
                late_ms: row.maybe_int(3)?.map(|micros| micros / 1000),
                ended: row.maybe_int(4)?.map(instant),
                note: row.maybe_text(5)?,
            })
        };
        rows.iter().map(tick).collect()
    }

    /// Who fires.
    pub async fn leader(&self) -> Result<Option<Leader>, ResultsError> {
        let sql = words(
            self.0.database.flavour(),
            "SELECT who, since, until, epoch, {now} FROM leaders WHERE name = 'triggers' AND epoch > 0",
        )
        .to_string();
        let rows = self.0.database.ask(sql, Vec::new()).await?;
        let leader = |row: &Column| {
            Ok(Leader {
                who: row.text(0)?,
                since: instant(row.int(1)?),
                until: instant(row.int(2)?),
                epoch: row.int(3)?.unsigned_abs(),
                alive: row.int(2)? > row.int(4)?,
            })
        };
        rows.first().map(leader).transpose()
    }
}
