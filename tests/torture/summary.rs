//! What a run tells people: one JSON object, and a directory with the ledgers and logs.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};
use uuid::Uuid;

use super::{Form, ledgers::Ledgers, oracle::Problem, part::LOGS, rules};
use crate::support::scratch;

/// The ledgers in figures.
pub fn of(
    broker: &str,
    form: &Form,
    ledgers: &Ledgers,
    problems: &[Problem],
    struck: Duration,
    quiet: Duration,
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
        "quiet_after_s": quiet.as_secs(),
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

/// What is kept of a run: the ledgers, and what its parts said.
const KEPT: [&str; 9] = [
    "summary.json",
    "accepted.ndjson",
    "cancels.ndjson",
    "executions",
    "jobs.ndjson",
    "attempts.ndjson",
    "letters.ndjson",
    "fault-log.ndjson",
    "left.ndjson",
];

/// Prints it, and copies it with the ledgers and logs into a directory of its own, which outlives
/// the run whatever becomes of it: under `SPINOR_TORTURE_OUT`, else beside the other scratch data.
pub fn keep(summary: &Value, from: &Path) -> PathBuf {
    let text = serde_json::to_string_pretty(summary).expect("JSON");
    println!("{text}");
    fs::write(from.join("summary.json"), &text).expect("written");
    let parent = std::env::var_os("SPINOR_TORTURE_OUT").map_or_else(scratch::parent, PathBuf::from);
    let what = summary["planted"].as_str().unwrap_or("plain");
    let broker = summary["broker"].as_str().expect("a broker");
    let kept = parent.join(format!("torture-{broker}-{what}-{}-{}", summary["seed"], Uuid::now_v7().simple()));
    fs::create_dir_all(kept.join(LOGS)).expect("a directory");
    for name in KEPT {
        fs::copy(from.join(name), kept.join(name)).expect("copied");
    }
    for log in fs::read_dir(from.join(LOGS)).expect("the logs").map(|entry| entry.expect("an entry")) {
        fs::copy(log.path(), kept.join(LOGS).join(log.file_name())).expect("copied");
    }
    kept
}
