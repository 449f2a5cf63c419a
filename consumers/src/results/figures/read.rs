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

const SUMS: &str = "what, bucket, CAST(SUM(times) AS SIGNED) FROM figures WHERE minute BETWEEN ? AND ?";

impl Store {
    /// By span: the number of spans of `step` minutes since `from`.
    pub(in crate::results) async fn figures_by_time(
        &self,
        filter: &FigureFilter,
        step: i64,
    ) -> Result<BTreeMap<i64, Figure>, ResultsError> {
        let from = minute(filter.from);
        let of = if filter.kind.is_some() { " AND kind = ?" } else { "" };
        // Whole numbers on each database: a division would not be one on some.
        let sql = format!("SELECT minute - (minute - {from}) % {step}, {SUMS}{of} GROUP BY 1, what, bucket");
        let mut figures = BTreeMap::new();
        for row in self.database.ask(sql, filter.values()).await? {
            add(figures.entry((row.int(0)? - from) / step).or_default(), &row)?;
        }
        Ok(figures)
    }

    /// By kind.
    pub(in crate::results) async fn figures_by_kind(
        &self,
        filter: &FigureFilter,
    ) -> Result<BTreeMap<String, Figure>, ResultsError> {
        let of = if filter.kind.is_some() { " AND kind = ?" } else { "" };
        let sql = format!("SELECT kind, {SUMS}{of} GROUP BY kind, what, bucket");
        let mut figures = BTreeMap::new();
        for row in self.database.ask(sql, filter.values()).await? {
            add(figures.entry(row.text(0)?).or_default(), &row)?;
        }
        Ok(figures)
    }
}

impl FigureFilter {
    fn values(&self) -> Vec<Value> {
        let span = [minute(self.from), minute(self.to)].map(Value::Int);
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
