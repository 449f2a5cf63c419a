//! When a trigger fires, and what it fires.
//!
//! Owns schedules and their instants: cron in a time zone, an interval, one moment; when nothing fires; with the
//! policies for what was missed and for what still runs. Refuses to know who fires, and where that is written down.

mod blackout;
mod cron;
mod field;
mod spec;
#[cfg(test)]
mod tests;

pub use blackout::Blackout;
pub use cron::Cron;
pub use spec::{Asks, Misfire, Overlap, Schedule, Spec, SpecError, Timing, following_id, tick_id};

/// What is wrong with a cron expression, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}, column {column}: {what}")]
pub struct CronError {
    /// The column of the first character that is wrong, from 1.
    pub column: usize,
    /// The field it stands in.
    pub field: &'static str,
    /// For people.
    pub what: String,
}
