//! What the jobs of a trigger wrote themselves, and the judgement over it.
//!
//! Owns the rule: each instant has one job, executed once and not early; a second execution only of a job
//! whose consumer was killed, and marked so.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::Value;

use crate::support::process::Spinor;

/// A job that writes down for which instant it was fired, which it is, and when it ran.
pub const JOB: &str = r#"job = { kind = 'command', queue = 'one', args = { shell = 'echo "$INSTANT $JOB $(date +%s.%N)" >> "$LEDGER"', env = { INSTANT = { "$trigger" = 'instant' }, JOB = { "$trigger" = 'job' }, LEDGER = 'PATH' } } }"#;

/// One execution.
#[derive(Clone, Debug)]
pub struct Line {
    pub instant: Timestamp,
    pub job: String,
    pub ran: f64,
}

/// The whole file; a last line that is being written is left out.
pub fn read(spinor: &Spinor) -> Vec<Line> {
    let text = std::fs::read_to_string(spinor.join("ledger")).unwrap_or_default();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let line = |line: &str| {
        let mut words = line.split(' ');
        let mut word = || words.next().unwrap_or_default();
        Line {
            instant: word().parse().unwrap_or_else(|error| panic!("{line}: {error}")),
            job: word().to_owned(),
            ran: word().parse().unwrap_or_else(|error| panic!("{line}: {error}")),
        }
    };
    whole.lines().map(line).collect()
}

/// All that is wrong. `ticks`: the history of the trigger, which fires each second; `again`: may this job
/// have run a second time?
pub fn problems(ticks: &[Value], ledger: &[Line], again: impl Fn(&str) -> bool) -> Vec<String> {
    let mut wrong = Vec::new();
    let instant = |tick: &Value| tick["instant"].as_str().and_then(|text| text.parse::<Timestamp>().ok()).unwrap();
    let Some(newest) = ledger.iter().map(|line| line.instant).max() else { return vec!["no job ran".to_owned()] };
    // What is on its way is not judged.
    let mut known: BTreeMap<Timestamp, &Value> = ticks.iter().map(|tick| (instant(tick), tick)).collect();
    known.retain(|at, _| *at <= newest);
    let mut before: Option<Timestamp> = None;
    for (at, tick) in &known {
        if let Some(before) = before.filter(|before| at.as_second() != before.as_second() + 1) {
            wrong.push(format!("between {before} and {at} there are instants without a tick"));
        }
        before = Some(*at);
        let jobs: BTreeSet<&str> =
            ledger.iter().filter(|line| line.instant == *at).map(|line| line.job.as_str()).collect();
        if jobs.len() != 1 || !tick["job"].as_str().is_some_and(|job| jobs.contains(job)) {
            wrong.push(format!("{at}: executed were {jobs:?}, and fired was {tick}"));
        }
    }
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for line in ledger {
        *counts.entry(&line.job).or_default() += 1;
        if line.ran < line.instant.as_microsecond() as f64 / 1e6 {
            wrong.push(format!("{line:?} ran early"));
        }
        if !known.contains_key(&line.instant) {
            wrong.push(format!("{line:?} was fired for an instant that nobody planned"));
        }
    }
    wrong.extend(
        counts
            .iter()
            .filter(|(job, count)| **count > 1 && !again(job))
            .map(|(job, count)| format!("{job} ran {count} times")),
    );
    wrong
}
