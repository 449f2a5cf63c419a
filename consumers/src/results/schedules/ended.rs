//! The job of an instant ended, or its run: what it held is free, and it is what the next one is told of.

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

/// Writes the ends of jobs, or of `runs`, down that triggers may have fired; harmless for others, and for what was
/// told before.
pub async fn ended(writing: &mut Writing, flavour: Flavour, ends: &[&End], runs: bool) -> Result<(), ResultsError> {
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
            if runs {
                let value = members(writing, end.job).await?;
                let noted = with(note(writing, end.job).await?, end.error.as_deref());
                one(writing, flavour, tick, &End { error: noted, ..end.clone() }, Some(value)).await?;
            } else {
                one(writing, flavour, tick, end, carried(end)).await?;
            }
        }
    }
    Ok(())
}

fn carried(end: &End) -> Option<String> {
    end.value.as_ref().map(|value| value.text().to_owned()).filter(|text| text.len() <= CARRIED)
}

/// The value of a run: how many of its jobs ended in which state.
async fn members(writing: &mut Writing, run: Uuid) -> Result<String, ResultsError> {
    let sql = "SELECT state, COUNT(*) FROM members WHERE run = ? GROUP BY state ORDER BY state";
    let rows = writing.fetch(&sql.into(), vec![Value::Id(run)]).await?;
    let counts = rows.iter().map(|row| Ok((row.text(0)?, row.int(1)?)));
    let counts = counts.collect::<Result<BTreeMap<_, _>, ResultsError>>()?;
    serde_json::to_string(&counts).map_err(|error| ResultsError::Refused(error.to_string()))
}

/// Notes of the instant of a run why it is not all that it could be.
pub async fn noted(writing: &mut Writing, flavour: Flavour, run: Uuid, why: &str) -> Result<(), ResultsError> {
    let rows = writing.fetch(&"SELECT schedule FROM ticks WHERE job = ?".into(), vec![Value::Id(run)]).await?;
    let Some(row) = rows.first() else { return Ok(()) };
    // Whoever changes instants has the lock of their trigger.
    let lock = words(flavour, "SELECT id FROM schedules WHERE id = ?{lock}");
    writing.fetch(&lock, vec![Value::Id(row.id(0)?)]).await?;
    let text = with(note(writing, run).await?, Some(why));
    let sql = "UPDATE ticks SET note = ? WHERE job = ?";
    writing.run(&sql.into(), vec![Value::MaybeText(text), Value::Id(run)]).await.map(drop)
}

/// What is noted of the instant of a job.
async fn note(writing: &mut Writing, job: Uuid) -> Result<Option<String>, ResultsError> {
    let rows = writing.fetch(&"SELECT note FROM ticks WHERE job = ?".into(), vec![Value::Id(job)]).await?;
    Ok(rows.first().map(|row| row.maybe_text(0)).transpose()?.flatten())
}

/// Both, each once.
fn with(note: Option<String>, why: Option<&str>) -> Option<String> {
    match (note, why) {
        (Some(note), Some(why)) if !note.contains(why) => Some(clip(&format!("{note}; {why}"), 500)),
        (Some(note), _) => Some(note),
        (None, why) => why.map(|why| clip(why, 500)),
    }
}

async fn one(
    writing: &mut Writing,
    flavour: Flavour,
    (schedule, at): (Uuid, i64),
    end: &End,
    value: Option<String>,
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
            count_on(writing, flavour, schedule, row.int(4)?).await?;
        }
    }
    if previous.is_none_or(|previous| previous <= at) {
        let sql = "UPDATE schedules SET prev_instant = ?, prev_state = ?, prev_value = ? WHERE id = ?";
        let state = Value::Text(end.state.word().to_owned());
        writing
            .run(&words(flavour, sql), vec![Value::Int(at), state, Value::MaybeText(value), Value::Id(schedule)])
            .await?;
    }
    Ok(())
}

/// The next instant is counted from the end of a job.
async fn count_on(writing: &mut Writing, flavour: Flavour, schedule: Uuid, now: i64) -> Result<(), ResultsError> {
    let sql = format!("SELECT {COLUMNS} FROM schedules WHERE id = ?");
    let rows = writing.fetch(&sql.into(), vec![Value::Id(schedule)]).await?;
    let Some(mut row) = rows.first().map(Row::read).transpose()? else { return Ok(()) };
    match row.count_on(now) {
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
