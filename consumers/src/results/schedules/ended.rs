//! The job of an instant ended: what it held is free, and it is what the next one is told of.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::{
    super::{
        ResultsError,
        change::clip,
        database::{Flavour, Value, Writing},
        members::{AT_ONCE, list},
    },
    row::{COLUMNS, Row},
    word, words,
};
use crate::next::{CARRIED, End};

/// Writes the ends of jobs down that triggers may have fired; harmless for others, and for what was told before.
pub async fn ended(writing: &mut Writing, flavour: Flavour, ends: &[&End]) -> Result<(), ResultsError> {
    // In the order of the triggers, so that two who write ends do not wait for each other.
    let mut ticks: BTreeMap<(Uuid, i64), Vec<&End>> = BTreeMap::new();
    for some in ends.chunks(AT_ONCE) {
        let jobs: Vec<Uuid> = some.iter().map(|end| end.job).collect();
        let (holes, ids) = list(&jobs);
        let sql = format!("SELECT schedule, instant, job FROM ticks WHERE job IN {holes}");
        for row in writing.fetch(&sql.into(), ids.collect()).await? {
            let job = row.id(2)?;
            let of = some.iter().copied().filter(|end| end.job == job);
            ticks.entry((row.id(0)?, row.int(1)?)).or_default().extend(of);
        }
    }
    for (tick, ends) in ticks {
        for end in ends {
            one(writing, flavour, tick, end).await?;
        }
    }
    Ok(())
}

async fn one(
    writing: &mut Writing,
    flavour: Flavour,
    (schedule, at): (Uuid, i64),
    end: &End,
) -> Result<(), ResultsError> {
    // Whoever changes instants has the lock of their trigger.
    let sql = words(
        flavour,
        "SELECT busy, waiting, prev_instant, INSTR(spec, 'after_end'), {now} FROM schedules WHERE id = ?{lock}",
    );
    let rows = writing.fetch(&sql, vec![Value::Id(schedule)]).await?;
    let Some(row) = rows.first() else { return Ok(()) };
    let (busy, waiting, previous) = (row.maybe_id(0)?, row.maybe_int(1)?, row.maybe_int(2)?);
    let sql = words(
        flavour,
        "UPDATE ticks SET state = ?, ended = ?, note = COALESCE(?, note), due = NULL WHERE schedule = ? AND instant = ?",
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
        if row.int(3)? > 0 {
            count_on(writing, flavour, schedule, (end.ended.as_microsecond(), row.int(4)?)).await?;
        }
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

/// The next instant is counted from the end of a job.
async fn count_on(
    writing: &mut Writing,
    flavour: Flavour,
    schedule: Uuid,
    (ended, now): (i64, i64),
) -> Result<(), ResultsError> {
    let sql = format!("SELECT {COLUMNS} FROM schedules WHERE id = ?");
    let rows = writing.fetch(&sql.into(), vec![Value::Id(schedule)]).await?;
    let Some(mut row) = rows.first().map(Row::read).transpose()? else { return Ok(()) };
    match row.count_on(ended, now) {
        Ok(()) => row.write(writing, flavour, false).await,
        Err(error) => {
            tracing::error!(trigger = row.name, %error, "A trigger cannot be planned by this process.");
            Ok(())
        }
    }
}

/// The instant that waits is due now; tells its job.
pub async fn release(
    writing: &mut Writing,
    flavour: Flavour,
    schedule: Uuid,
    waiting: Option<i64>,
) -> Result<Option<Uuid>, ResultsError> {
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
