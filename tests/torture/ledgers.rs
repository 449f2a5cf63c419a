//! The ledgers of a run, as they stand on disk. Owns their form; refuses to judge.

use std::{collections::BTreeMap, fs, path::Path};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use uuid::Uuid;

/// Seconds since the machine started: one clock for publisher, jobs and faults.
pub type Seconds = f64;

/// Now, by that clock. A shell reads it from the same place without starting a process.
pub fn now() -> Seconds {
    let text = fs::read_to_string("/proc/uptime").expect("/proc/uptime");
    text.split(' ').next().and_then(|seconds| seconds.parse().ok()).expect("a number")
}

/// One offered job, and what was asked of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Accepted {
    pub id: Uuid,
    /// The entry of the mix, for people.
    pub what: String,
    /// The broker has it, or nobody can tell.
    pub sure: bool,
    pub offered: Seconds,
    pub answered: Seconds,
    /// The final state it must reach.
    pub end: String,
    /// Attempts it may have; 0 = it must not run.
    pub attempts: u32,
    /// Steps that write a line each; above 1 = a plan.
    pub steps: u32,
    /// Rather lost than run twice.
    pub at_most_once: bool,
}

/// Somebody's wish that a job ends.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cancel {
    pub job: Uuid,
    pub asked: Seconds,
    pub answered: Seconds,
    /// It was accepted; else nobody can tell.
    pub sure: bool,
}

/// A start (or end) that a job's own process wrote.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    pub start: bool,
    pub job: Uuid,
    pub step: u32,
    pub boot: Uuid,
    pub execution: Uuid,
    /// The consumer that started it.
    pub consumer: u32,
    pub at: Seconds,
}

impl Line {
    /// Reads `S|E JOB STEP BOOT/EXECUTION CONSUMER SECONDS`; a plan's step adds `.STEP` to its execution.
    pub fn read(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let start = match words.next()? {
            "S" => true,
            "E" => false,
            _ => return None,
        };
        let job = words.next()?.parse().ok()?;
        let step = words.next()?.parse().ok()?;
        let (boot, execution) = words.next()?.split_once('/')?;
        let execution = execution.split('.').next()?;
        let line = Self {
            start,
            job,
            step,
            boot: boot.parse().ok()?,
            execution: execution.parse().ok()?,
            consumer: words.next()?.parse().ok()?,
            at: words.next()?.parse().ok()?,
        };
        words.next().is_none().then_some(line)
    }
}

/// A row of `jobs`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    pub job: Uuid,
    pub state: String,
}

/// A row of `attempts`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Attempt {
    pub job: Uuid,
    pub attempt: u32,
    pub execution: Uuid,
    pub state: String,
    pub maybe_rerun: bool,
}

/// A dead letter: a job that was taken out of the way, and why.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Letter {
    pub job: Uuid,
    pub reason: String,
}

/// Something that was done to a part.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Strike {
    pub fault: String,
    pub part: String,
    /// The process it hit, when it hit one of ours.
    pub pid: Option<u32>,
    pub begun: Seconds,
    pub ended: Seconds,
    pub wall: String,
}

/// Something found at the end that should not be there.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Left {
    pub what: String,
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub struct Ledgers {
    pub accepted: Vec<Accepted>,
    pub cancels: Vec<Cancel>,
    pub lines: Vec<Line>,
    pub jobs: Vec<Row>,
    pub attempts: Vec<Attempt>,
    pub letters: Vec<Letter>,
    pub strikes: Vec<Strike>,
    pub left: Vec<Left>,
}

impl Ledgers {
    /// Reads them from a directory.
    pub fn read(from: &Path) -> Self {
        let text = fs::read_to_string(from.join("executions")).expect("the executions");
        let (whole, torn) = text.rsplit_once('\n').unwrap_or_default();
        assert_eq!(torn, "", "a line is torn");
        let line = |text: &str| Line::read(text).unwrap_or_else(|| panic!("no line: {text:?}"));
        let mut lines: Vec<Line> = whole.lines().map(line).collect();
        one_consumer_a_life(&mut lines);
        Self {
            accepted: read(&from.join("accepted.ndjson")),
            cancels: read(&from.join("cancels.ndjson")),
            lines,
            jobs: read(&from.join("jobs.ndjson")),
            attempts: read(&from.join("attempts.ndjson")),
            letters: read(&from.join("letters.ndjson")),
            strikes: read(&from.join("fault-log.ndjson")),
            left: read(&from.join("left.ndjson")),
        }
    }
}

/// A shell that starts while its consumer is killed finds somebody else as its parent: the life
/// tells which consumer it was.
fn one_consumer_a_life(lines: &mut [Line]) {
    let mut said: BTreeMap<Uuid, BTreeMap<u32, usize>> = BTreeMap::new();
    for line in &*lines {
        *said.entry(line.boot).or_default().entry(line.consumer).or_default() += 1;
    }
    for line in lines {
        let most = said[&line.boot].iter().max_by_key(|(_, times)| **times);
        line.consumer = most.map_or(line.consumer, |(pid, _)| *pid);
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Vec<T> {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))).collect()
}

/// Writes rows as one ledger.
pub fn write<T: Serialize>(path: &Path, rows: &[T]) {
    let lines: Vec<String> = rows.iter().map(|row| serde_json::to_string(row).expect("JSON") + "\n").collect();
    fs::write(path, lines.concat()).expect("a ledger can be written");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_and_belongs_to_the_consumer_of_its_life() {
        let (job, boot, execution) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
        let line = |consumer| Line::read(&format!("S {job} 2 {boot}/{execution}.2 {consumer} 12.34")).expect("a line");
        assert_eq!(line(7), Line { start: true, job, step: 2, boot, execution, consumer: 7, at: 12.34 });
        let mut lines = [line(7), line(1), line(7)];
        one_consumer_a_life(&mut lines);
        assert!(lines.iter().all(|line| line.consumer == 7));
        assert_eq!(Line::read("S torn"), None);
    }
}
