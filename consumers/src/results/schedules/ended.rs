//! The job of an instant ended: what it held is free, and it is what the next one is told of.

use super::{
    super::{
        ResultsError,
        change::clip,
        database::{Flavour, Value, Writing},
    },
    word, words,
};
use crate::next::{CARRIED, End};

/// Writes the end of a job down that a trigger may have fired; harmless when it did not, or when it was told before.
pub async fn ended(writing: &mut Writing, flavour: Flavour, end: &End) -> Result<(), ResultsError> {
    let sql = words(flavour, "SELECT schedule, instant FROM ticks WHERE job = ?");
    let rows = writing.fetch(&sql, vec![Value::Id(end.job)]).await?;
    let Some(tick) = rows.first() else { return Ok(()) };
    let (schedule, at) = (tick.id(0)?, tick.int(1)?);
    // Whoever changes instants has the lock of their trigger.
    let sql = words(flavour, "SELECT busy, waiting, prev_instant FROM schedules WHERE id = ?{lock}");
    let rows = writing.fetch(&sql, vec![Value::Id(schedule)]).await?;
    let Some(row) = rows.first() else { return Ok(()) };
    let (busy, waiting, previous) = (row.maybe_id(0)?, row.maybe_int(1)?, row.maybe_int(2)?);
    let sql = words(
        flavour,
        "UPDATE ticks SET state = ?, ended = ?, note = ?, due = NULL WHERE schedule = ? AND instant = ?",
    );
    let values = vec![
        Value::Text(end.state.word().to_owned()),
        Value::Int(end.ended.as_microsecond()),
        Value::MaybeText(end.error.as_deref().map(|error| clip(error, 500))),
        Value::Id(schedule),
        Value::Int(at),
    ];
    writing.run(&sql, values).await?;
    if busy == Some(end.job) {
        let next = release(writing, flavour, schedule, waiting).await?;
        let sql = words(flavour, "UPDATE schedules SET busy = ?, waiting = NULL WHERE id = ?");
        writing.run(&sql, vec![Value::MaybeId(next), Value::Id(schedule)]).await?;
    }
    if previous.is_none_or(|previous| previous <= at) {
        let value = end.value.as_ref().map(|value| value.text().to_owned()).filter(|text| text.len() <= CARRIED);
        let sql = "UPDATE schedules SET prev_instant = ?, prev_state = ?, prev_value = ? WHERE id = ?";
        let state = Value::Text(end.state.word().to_owned());
        writing
            .run(&words(flavour, sql), vec![Value::Int(at), state, Value::MaybeText(value), Value::Id(schedule)])
            .await?;
    }
    Ok(())
}

/// The instant that waits is due now; tells its job.
pub async fn release(
    writing: &mut Writing,
    flavour: Flavour,
    schedule: uuid::Uuid,
    waiting: Option<i64>,
) -> Result<Option<uuid::Uuid>, ResultsError> {
    let Some(at) = waiting else { return Ok(None) };
    let key = || vec![Value::Id(schedule), Value::Int(at)];
    let sql = format!(
        "UPDATE ticks SET state = '{}', due = 0 WHERE schedule = ? AND instant = ? AND state = '{}'",
        word::DUE,
        word::WAITING
    );
    writing.run(&words(flavour, &sql), key()).await?;
    let sql = words(flavour, "SELECT job FROM ticks WHERE schedule = ? AND instant = ?");
    let rows = writing.fetch(&sql, key()).await?;
    rows.first().map(|row| row.id(0)).transpose()
}
