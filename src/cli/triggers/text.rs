//! Triggers as people read them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use spinor_consumers::results::{Change, Leader, TriggerRow, Was};

use crate::{
    api::{
        NewTrigger, TriggerShown, Triggers,
        new_job::{self, NewJob},
        new_source::NewItems,
        new_trigger::CountsFrom,
    },
    cli::table::{Table, clean, maybe, moment},
};

/// When it fires, in a few words.
fn when(asked: &NewTrigger) -> String {
    match (&asked.cron, &asked.every, &asked.at) {
        (Some(cron), ..) => format!("{cron} {}", asked.zone.as_deref().unwrap_or("UTC")),
        (_, Some(every), _) if asked.from == Some(CountsFrom::LastEnd) => format!("{every} after each end"),
        (_, Some(every), _) => format!("every {every}"),
        (_, _, Some(at)) => format!("at {at}"),
        _ => "-".to_owned(),
    }
}

fn parts(row: &TriggerRow) -> (NewTrigger, NewJob) {
    let asked: NewTrigger = row.asked.read().unwrap_or_default();
    let job = asked.job.as_ref().and_then(|job| new_job::read(job.bytes()).ok()).and_then(|(mut jobs, _)| jobs.pop());
    (asked, job.unwrap_or_default())
}

fn last(row: &TriggerRow) -> String {
    let Some(previous) = &row.previous else { return "-".to_owned() };
    format!("{} {}", previous.outcome, moment(previous.instant))
}

pub(crate) fn leader(leader: Option<&Leader>) -> String {
    match leader {
        Some(leader) => {
            let gone = if leader.alive { "" } else { ", which does not answer" };
            format!("fired by {} since {} (epoch {}){gone}\n", clean(&leader.who), moment(leader.since), leader.epoch)
        }
        None => "no process with the part `trigger` has fired yet\n".to_owned(),
    }
}

/// `triggers ls`.
pub fn list(listed: &Triggers) -> String {
    let mut table = Table::new(&["NAME", "STATE", "NEXT", "KIND", "FIRED", "LAST", "FROM", "WHEN"]);
    for row in &listed.triggers {
        let (asked, job) = parts(row);
        table.row(vec![
            row.name.clone(),
            row.state.clone(),
            maybe(row.next),
            job.kind,
            row.fired.to_string(),
            last(row),
            row.origin.clone(),
            when(&asked),
        ]);
    }
    format!("{}\n{}", table.text("no triggers"), leader(listed.leader.as_ref()))
}

/// After a change.
pub fn one(row: &TriggerRow) -> String {
    let (asked, _) = parts(row);
    clean(&format!("{}: {}, {}, next {}", row.name, row.state, when(&asked), maybe(row.next)))
}

/// A change in a line: what it was, and what it became, field by field.
fn what(change: &Change) -> String {
    let fields = |was: Option<&Was>| -> BTreeMap<String, String> {
        let Some(was) = was else { return BTreeMap::new() };
        let asked: serde_json::Value = was.asked.read().unwrap_or_default();
        let asked = asked.as_object().cloned().unwrap_or_default();
        let said = |value: serde_json::Value| match value {
            serde_json::Value::String(text) => text,
            value => value.to_string(),
        };
        let own = [("state", Some(was.state.clone())), ("busy", was.busy.map(|job| job.to_string()))];
        let own = own.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        asked.into_iter().map(|(name, value)| (name, said(value))).chain(own).collect()
    };
    let (old, new) = (fields(change.old.as_ref()), fields(change.new.as_ref()));
    let mut parts = Vec::new();
    if change.old.is_some() && change.new.is_some() {
        let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        let of = |fields: &BTreeMap<String, String>, name: &String| {
            let text: String = fields.get(name).map_or("-", String::as_str).chars().take(60).collect();
            text
        };
        parts.extend(
            names
                .into_iter()
                .filter(|name| old.get(*name) != new.get(*name))
                .map(|name| format!("{name} {} -> {}", of(&old, name), of(&new, name))),
        );
    }
    let parts = if parts.is_empty() { String::new() } else { format!(": {}", parts.join(", ")) };
    format!("{}{parts}", change.what)
}

/// `triggers show`.
pub fn shown(shown: &TriggerShown) -> String {
    let row = &shown.trigger;
    let (asked, job) = parts(row);
    let mut text = format!("{}\n", one(row));
    let queue = job.queue.as_deref().unwrap_or("default");
    let _ = writeln!(text, "fires {} on {}, {} jobs so far", clean(&job.kind), clean(queue), row.fired);
    let _ = writeln!(
        text,
        "misfire {}, overlap {}{}",
        format!("{:?}", asked.misfire.unwrap_or_default()).to_lowercase(),
        format!("{:?}", asked.overlap.unwrap_or_default()).to_lowercase(),
        asked.jitter.as_ref().map(|jitter| format!(", jitter {jitter}")).unwrap_or_default()
    );
    let _ = writeln!(
        text,
        "revision {}, from {}, changed {} by {}",
        row.revision,
        row.origin,
        moment(row.changed),
        clean(&row.changed_by)
    );
    match asked.items() {
        Ok(NewItems::List(items)) if !items.is_empty() => {
            let _ = writeln!(text, "a run with a job for each of {} items", items.len());
        }
        Ok(NewItems::Asked(source)) => {
            let whom = source.database.as_deref().unwrap_or("the results database");
            let of = match (&source.sql, &source.command) {
                (Some(sql), _) => format!("row that {whom} has for `{}`", clean(sql)),
                (None, command) => format!("line of `{}`", clean(&command.as_deref().unwrap_or_default().join(" "))),
            };
            let _ = writeln!(text, "a run with a job for each {of}, at most {}", source.most());
        }
        _ => {}
    }
    if !asked.blackout.is_empty() {
        let zone = asked.zone.as_deref().unwrap_or("UTC");
        let _ = writeln!(text, "blackout {} ({})", clean(&asked.blackout.join(", ")), clean(zone));
    }
    if let Some(busy) = row.busy {
        let waits = row.waiting.map(|at| format!("; {} waits for its end", moment(at))).unwrap_or_default();
        let _ = writeln!(text, "job {busy} has not ended{waits}");
    }
    let mut ticks = Table::new(&["INSTANT", "STATE", "LATE", "JOB", "NOTE"]);
    for tick in &shown.ticks {
        ticks.row(vec![
            tick.instant.to_string(),
            tick.state.clone(),
            tick.late_ms.map_or_else(|| "-".to_owned(), |late| format!("{late}ms")),
            tick.job.to_string(),
            tick.note.clone().unwrap_or_default(),
        ]);
    }
    let mut changes = Table::new(&["CHANGED", "BY", "WHAT", "WHY"]);
    for change in &shown.changes {
        let why = change.why.clone().unwrap_or_default();
        changes.row(vec![change.at.to_string(), change.by.clone(), what(change), why]);
    }
    let mut coming = Table::new(&["COMING"]);
    shown.coming.iter().for_each(|at| coming.row(vec![at.to_string()]));
    format!(
        "{text}\n{}\n{}\n{}\n{}",
        coming.text("nothing is to come"),
        ticks.text("no instants yet"),
        changes.text("no changes"),
        leader(shown.leader.as_ref())
    )
}
