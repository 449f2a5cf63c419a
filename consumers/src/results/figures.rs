//! Figures over time: how jobs ended, how long they waited and how long they ran, by minute and kind.
//!
//! The recorder counts them with the rows they tell of, in the same transaction, so that to read a day costs the
//! same after a thousand jobs and after a billion. They are kept by the hour, too, for questions about days. What comes again marked so is counted once; a pack of reports that
//! was sent again because its confirm got lost bears no mark, and is counted twice. Owns measures and
//! buckets; refuses more kinds than a chart has room for.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
};

use jiff::Timestamp;
use spinor_executors::{Report, State};
use uuid::Uuid;

use super::{DeadLetter, change::clip, database::Value};
use crate::entry::Entry;

mod read;
mod spread;

pub use read::{BY_HOURS, Figure, FigureFilter};
pub use spread::Spread;

/// Minutes that are kept: 72 hours.
pub const KEPT: i64 = 72 * 60;
/// Kinds that a process tells apart; whatever comes after them counts as [`OTHERS`].
const MOST_KINDS: usize = 200;
/// The kinds beyond those.
pub const OTHERS: &str = "*others";
/// Minutes between two looks for what is too old.
const SWEEP: i64 = 10;
/// Recorders that count at once rarely meet in a row.
const SHARDS: u128 = 64;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    /// Executions and dead letters, by the state that the job then has.
    Ended(State),
    /// Executions, by the time that they took.
    Ran(u8),
    /// First executions, by the time since their job was created.
    Waited(u8),
}

impl What {
    fn values(self) -> [Value; 2] {
        let (word, bucket) = match self {
            Self::Ended(state) => (state.word(), 0),
            Self::Ran(bucket) => ("ran", bucket),
            Self::Waited(bucket) => ("waited", bucket),
        };
        [Value::Text(word.to_owned()), Value::Int(bucket.into())]
    }
}

/// An execution, as the record knows it.
pub type Key = (Uuid, u32, u32, Uuid);

/// What one batch adds.
#[derive(Debug, Default)]
pub struct Batch {
    times: BTreeMap<(i64, String, What), i64>,
    sums: BTreeMap<String, [f64; 2]>,
}

/// What this process has counted since it started, of one kind.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// By the state that the job then had.
    pub ended: BTreeMap<State, u64>,
    /// How long executions took.
    pub ran: Timed,
    /// How long jobs waited for their first one.
    pub waited: Timed,
}

/// Times of one sort.
#[derive(Clone, Debug, Default)]
pub struct Timed {
    /// How they are spread.
    pub spread: Spread,
    /// The seconds of all together.
    pub seconds: f64,
}

/// Counts for one process.
#[derive(Debug)]
pub struct Counting {
    shard: i64,
    swept: AtomicI64,
    kinds: Mutex<BTreeSet<String>>,
    totals: Mutex<BTreeMap<String, Totals>>,
}

impl Counting {
    pub fn new() -> Self {
        let shard = (Uuid::now_v7().as_u128() % SHARDS) as i64;
        Self { shard, swept: AtomicI64::new(0), kinds: Mutex::default(), totals: Mutex::default() }
    }

    /// Those of the entries that are executions and not yet `known`.
    pub fn entries(&self, entries: &[Entry], known: &HashSet<Key>) -> Batch {
        let mut batch = Batch::default();
        let mut seen = HashSet::new();
        for entry in entries {
            // A dead one is counted by its letter.
            let Entry::Report(report) = entry else { continue };
            let key = (report.job, report.replay, report.attempt, report.execution);
            if report.state.rank() < 2 || report.state == State::Dead || known.contains(&key) || !seen.insert(key) {
                continue;
            }
            self.report(&mut batch, report);
        }
        batch
    }

    /// Dead letters that are not yet `known`.
    pub fn letters<'a>(&self, letters: impl Iterator<Item = &'a DeadLetter>, known: &HashSet<Key>) -> Batch {
        let mut batch = Batch::default();
        let mut seen = HashSet::new();
        for letter in letters {
            let key = (letter.job, letter.replay, letter.attempt, Uuid::nil());
            // A line of a pack is no job.
            if letter.attempt > 0 && !known.contains(&key) && seen.insert(key) {
                batch.add(minute(letter.at), self.kind(&letter.kind), What::Ended(State::Dead));
            }
        }
        batch
    }

    fn report(&self, batch: &mut Batch, report: &Report) {
        let (kind, at) = (self.kind(&report.kind), minute(report.ended));
        batch.add(at, kind.clone(), What::Ended(report.state));
        if report.execution.is_nil() {
            return;
        }
        // What is negative, by clocks that differ, is no time.
        let ran = report.ended.duration_since(report.started).as_secs_f64().max(0.0);
        let sums = batch.sums.entry(kind.clone()).or_default();
        sums[0] += ran;
        let waited = (report.attempt == 1 && report.replay == 0)
            .then(|| report.started.duration_since(report.created).as_secs_f64().max(0.0));
        sums[1] += waited.unwrap_or(0.0);
        if let Some(waited) = waited {
            batch.add(at, kind.clone(), What::Waited(spread::bucket(waited)));
        }
        batch.add(at, kind, What::Ran(spread::bucket(ran)));
    }

    /// The kind itself, while there are few.
    fn kind(&self, kind: &str) -> String {
        let mut kinds = lock(&self.kinds);
        if kinds.contains(kind) {
            return kind.to_owned();
        }
        if kinds.len() == MOST_KINDS {
            return OTHERS.to_owned();
        }
        let kind = clip(kind, 255);
        kinds.insert(kind.clone());
        kind
    }

    /// The rows of a batch by minute and by hour, in the order of their keys.
    pub fn rows(&self, batch: &Batch) -> [Vec<Vec<Value>>; 2] {
        let mut hours: BTreeMap<(i64, &String, What), i64> = BTreeMap::new();
        for ((minute, kind, what), times) in &batch.times {
            *hours.entry((minute.div_euclid(60), kind, *what)).or_default() += times;
        }
        let row = |at: i64, kind: &String, what: What, times: i64| {
            let ([word, bucket], shard) = (what.values(), Value::Int(self.shard));
            vec![Value::Int(at), Value::Text(kind.clone()), word, bucket, shard, Value::Int(times)]
        };
        [
            batch.times.iter().map(|((minute, kind, what), times)| row(*minute, kind, *what, *times)).collect(),
            hours.into_iter().map(|((hour, kind, what), times)| row(hour, kind, what, times)).collect(),
        ]
    }

    /// Takes a batch that is recorded into what this process has counted.
    pub fn recorded(&self, batch: Batch) {
        let mut totals = lock(&self.totals);
        for ((_, kind, what), times) in batch.times {
            let (of, times) = (totals.entry(kind).or_default(), times.unsigned_abs());
            match what {
                What::Ended(state) => *of.ended.entry(state).or_default() += times,
                What::Ran(bucket) => of.ran.spread.add(bucket, times),
                What::Waited(bucket) => of.waited.spread.add(bucket, times),
            }
        }
        for (kind, [ran, waited]) in batch.sums {
            let of = totals.entry(kind).or_default();
            of.ran.seconds += ran;
            of.waited.seconds += waited;
        }
    }

    /// What this process has counted since it started, by kind.
    pub fn totals(&self) -> BTreeMap<String, Totals> {
        lock(&self.totals).clone()
    }

    /// Minutes before this one go, told now and then.
    pub fn sweeps(&self) -> Option<i64> {
        let (now, last) = (minute(Timestamp::now()), self.swept.load(Ordering::Relaxed));
        let due = now >= last + SWEEP;
        if due {
            self.swept.store(now, Ordering::Relaxed);
        }
        due.then_some(now - KEPT)
    }
}

impl Batch {
    fn add(&mut self, minute: i64, kind: String, what: What) {
        *self.times.entry((minute, kind, what)).or_default() += 1;
    }
}

/// Minutes since 1970.
fn minute(at: Timestamp) -> i64 {
    at.as_second().div_euclid(60)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
