//! Executor processes: programs in any language that are started once and run many jobs, one at a
//! time each. `docs/protocol.md` is what they have to do.
//!
//! Owns a stage to a file: `frame` and `words` (what is said, and how it is written), `child` (one
//! process, its socket and output), `start` (until it said hello), `turn` (one job), `life` (all it
//! does between its start and its end), `pool` (how many there are, and who gets one), `serve` (the
//! executor), `ears` (where output goes). Whatever a program does is an event, never this process's end.

mod child;
mod ears;
mod frame;
mod life;
mod pool;
mod serve;
mod start;
mod turn;
mod words;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

pub use self::{pool::Places, serve::Programs};
use crate::{Job, KindPattern};

/// A program that serves kinds, and how many of it there are.
#[derive(Clone, Debug)]
pub struct Program {
    /// It and its arguments; no shell reads them.
    pub run: Vec<String>,
    /// Added to the environment.
    pub env: BTreeMap<String, String>,
    /// Where it starts; here when `None`.
    pub cwd: Option<PathBuf>,
    /// Open files of each of its processes.
    pub files: Option<u64>,
    /// The kinds that are run by it.
    pub kinds: Vec<KindPattern>,
    /// So many are kept, however little there is to do.
    pub min: usize,
    /// Never more than these.
    pub max: usize,
    /// Ended after so many jobs, and replaced.
    pub recycle_jobs: u64,
    /// Ended when it holds more memory than this after a job, and replaced.
    pub recycle_memory: Option<u64>,
    /// One that is not needed ends after this long without a job.
    pub idle: Duration,
    /// It says hello within this time.
    pub start_timeout: Duration,
    /// It is asked for a sign of life so often.
    pub ping: Duration,
    /// And gives one within this time.
    pub pong: Duration,
}

impl Program {
    /// A program by its words, everything else by default.
    pub fn new(run: Vec<String>, kinds: Vec<KindPattern>) -> Self {
        Self {
            run,
            env: BTreeMap::new(),
            cwd: None,
            files: None,
            kinds,
            min: 0,
            max: 1,
            recycle_jobs: 1000,
            recycle_memory: None,
            idle: Duration::from_secs(60),
            start_timeout: Duration::from_secs(30),
            ping: Duration::from_secs(15),
            pong: Duration::from_secs(30),
        }
    }

    /// Is a kind run by it?
    pub fn has(&self, kind: &str) -> bool {
        self.kinds.iter().any(|pattern| pattern.matches(kind))
    }

    /// For people: what is run.
    pub fn named(&self) -> String {
        self.run.join(" ")
    }
}

/// A job that leaves when the one that publishes it has succeeded.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The job.
    pub job: Job,
    /// Not before this long after.
    pub delay: Option<Duration>,
    /// Is it on record as soon as it is queued?
    pub journaled: bool,
}

/// Reads the jobs that a job publishes.
pub trait Drafts: Send + Sync {
    /// The jobs of a list, as the API takes it; the error names the field.
    fn read(&self, jobs: &[u8]) -> Result<Vec<Draft>, String>;
}

#[cfg(test)]
mod tests;
