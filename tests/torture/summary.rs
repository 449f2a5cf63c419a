//! What a run tells people: one JSON object, and the ledgers where they were asked for.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use serde_json::{Value, json};
use uuid::Uuid;

use super::{Form, ledgers::Ledgers, oracle::Problem, rules};

/// The ledgers in figures.
pub fn of(
    broker: &str,
    form: &Form,
    ledgers: &Ledgers,
    problems: &[Problem],
    struck: Duration,
    all: Duration,
) -> Value {
    let mut strikes: BTreeMap<&str, usize> = BTreeMap::new();
    ledgers.strikes.iter().for_each(|strike| *strikes.entry(&strike.fault).or_default() += 1);
    let mut ends: BTreeMap<&str, usize> = BTreeMap::new();
    ledgers.jobs.iter().for_each(|row| *ends.entry(&row.state).or_default() += 1);
    let executions: BTreeSet<Uuid> =
        ledgers.lines.iter().filter(|line| line.start).map(|line| line.execution).collect();
    let recorded: BTreeSet<Uuid> = ledgers.attempts.iter().map(|row| row.execution).collect();
    let lives: BTreeSet<Uuid> = ledgers.lines.iter().map(|line| line.boot).collect();
    json!({
        "broker": broker,
        "seed": form.seed,
        "planted": form.planted,
        "struck_s": struck.as_secs(),
        "whole_s": all.as_secs(),
        "accepted": ledgers.accepted.iter().filter(|job| job.sure).count(),
        "uncertain": ledgers.accepted.iter().filter(|job| !job.sure).count(),
        "cancels": ledgers.cancels.iter().filter(|cancel| cancel.sure).count(),
        "executions": executions.len(),
        "cut_executions": executions.difference(&recorded).count(),
        "marked_maybe_rerun": ledgers.attempts.iter().filter(|row| row.maybe_rerun).count(),
        "consumer_lives": lives.len(),
        "ends": ends,
        "strikes": strikes,
        "problems": problems.len(),
        "broken_rules": rules(problems).iter().map(|rule| format!("{rule:?}")).collect::<Vec<_>>(),
        "first_problems": problems.iter().take(10).map(|problem| format!("{:?}: {}", problem.rule, problem.text)).collect::<Vec<_>>(),
    })
}

/// Prints it, writes it beside the ledgers, and copies these where `SPINOR_TORTURE_OUT` says.
pub fn publish(summary: &Value, directory: &Path) {
    let text = serde_json::to_string_pretty(summary).expect("JSON");
    println!("{text}");
    std::fs::write(directory.join("summary.json"), &text).expect("written");
    let Some(out) = std::env::var_os("SPINOR_TORTURE_OUT") else { return };
    std::fs::create_dir_all(&out).expect("a directory");
    for name in [
        "summary.json",
        "accepted.ndjson",
        "cancels.ndjson",
        "executions",
        "jobs.ndjson",
        "attempts.ndjson",
        "fault-log.ndjson",
        "left.ndjson",
    ] {
        std::fs::copy(directory.join(name), Path::new(&out).join(name)).expect("copied");
    }
}
