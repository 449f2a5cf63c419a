//! Reading figures: sums over spans of time, or over kinds.

use std::collections::BTreeMap;

use jiff::Timestamp;
use spinor_executors::State;

use super::{Spread, minute};
use crate::{
    database::{Column, Value},
    results::{ResultsError, Store, read::foreign},
};

/// Which figures.
#[derive(Clone, Debug)]
pub struct FigureFilter {
    /// From the minute of this instant on.
    pub from: Timestamp,
    /// Up to that of this one, included.
    pub to: Timestamp,
    /// Of this kind; of all when absent.
    pub kind: Option<String>,
}

/// What happened in one span, or to one kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figure {
    /// Executions that ended and letters that were buried, by the state that the job then had.
    pub ended: BTreeMap<State, u64>,
    /// How long executions took.
    pub ran: Spread,
    /// How long jobs waited for their first execution since they were created.
    pub waited: Spread,
}

const SUMS: &str = "what, bucket, CAST(SUM(times) AS SIGNED) FROM";

/// By the hour a question about so many minutes or more is answered, where it asks for whole hours.
pub const BY_HOURS: i64 = 3 * 60;

impl Store {
    /// By span: the number of spans of `step` minutes since `from`.
    pub(in crate::results) async fn figures_by_time(
        &self,
        filter: &FigureFilter,
        step: i64,
    ) -> Result<BTreeMap<i64, Figure>, ResultsError> {
        let Unit { table, column, minutes } = filter.unit(step);
        let (from, step) = (minute(filter.from) / minutes, step / minutes);
        let tests = filter.tests(column);
        // Whole numbers on each database: a division would not be one on some.
        let sql =
            format!("SELECT {column} - ({column} - {from}) % {step}, {SUMS} {table}{tests} GROUP BY 1, what, bucket");
        let mut figures = BTreeMap::new();
        for row in self.database.ask(sql, filter.values(minutes)).await? {
            add(figures.entry((row.int(0)? - from) / step).or_default(), &row)?;
        }
        Ok(figures)
    }

    /// By kind.
    pub(in crate::results) async fn figures_by_kind(
        &self,
        filter: &FigureFilter,
    ) -> Result<BTreeMap<String, Figure>, ResultsError> {
        let Unit { table, column, minutes } = filter.unit(60);
        let sql = format!("SELECT kind, {SUMS} {table}{} GROUP BY kind, what, bucket", filter.tests(column));
        let mut figures = BTreeMap::new();
        for row in self.database.ask(sql, filter.values(minutes)).await? {
            add(figures.entry(row.text(0)?).or_default(), &row)?;
        }
        Ok(figures)
    }
}

/// Where figures are read from.
struct Unit {
    table: &'static str,
    column: &'static str,
    minutes: i64,
}

impl FigureFilter {
    /// Hours, for spans of whole hours that begin with one, of a question about a long time.
    fn unit(&self, step: i64) -> Unit {
        let (from, to) = (minute(self.from), minute(self.to));
        if step % 60 == 0 && from % 60 == 0 && to - from >= BY_HOURS {
            return Unit { table: "figure_hours", column: "hour", minutes: 60 };
        }
        Unit { table: "figures", column: "minute", minutes: 1 }
    }

    fn tests(&self, column: &str) -> String {
        let of = if self.kind.is_some() { " AND kind = ?" } else { "" };
        format!(" WHERE {column} BETWEEN ? AND ?{of}")
    }

    fn values(&self, minutes: i64) -> Vec<Value> {
        let span = [minute(self.from), minute(self.to)].map(|minute| Value::Int(minute.div_euclid(minutes)));
        span.into_iter().chain(self.kind.clone().map(Value::Text)).collect()
    }
}

fn add(figure: &mut Figure, row: &Column) -> Result<(), ResultsError> {
    let (what, times) = (row.text(1)?, row.int(3)?.unsigned_abs());
    let bucket = u8::try_from(row.int(2)?).map_err(|_| foreign("a figure's bucket"))?;
    match what.as_str() {
        "ran" => figure.ran.add(bucket, times),
        "waited" => figure.waited.add(bucket, times),
        word => {
            let state = State::of(word).ok_or_else(|| foreign(&format!("the figure `{word}`")))?;
            *figure.ended.entry(state).or_default() += times;
        }
    }
    Ok(())
}
