//! The keys of a kind that is run by a program of the user's: which, and how many processes.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::Deserialize;

use super::{KindConfig, measure, raw::Rules};

/// A program that runs jobs of some kinds.
#[derive(Clone, PartialEq, Eq)]
pub struct ProgramConfig {
    /// It and its arguments.
    pub run: Vec<String>,
    /// Where it starts.
    pub cwd: Option<PathBuf>,
    /// Added to its environment.
    pub env: BTreeMap<String, String>,
    /// How many of it.
    pub processes: Processes,
}

impl std::fmt::Debug for ProgramConfig {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The values of the environment may be secrets.
        let names: Vec<&String> = self.env.keys().collect();
        write!(to, "Program({:?} in {:?} with {names:?}, {:?})", self.run, self.cwd, self.processes)
    }
}

/// How many processes of a program, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Processes {
    /// So many stay.
    pub min: usize,
    /// Never more; as many as there are slots when `None`.
    pub max: Option<usize>,
    /// Replaced after so many jobs.
    pub recycle_jobs: u64,
    /// Replaced when it holds more memory.
    pub recycle_memory: Option<u64>,
    /// Ended after this long without a job.
    pub idle: Duration,
    /// Says hello within this time.
    pub start_timeout: Duration,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawProcesses {
    min: Option<usize>,
    max: Option<usize>,
    recycle_jobs: Option<u64>,
    #[serde(deserialize_with = "measure::read_optional_size")]
    recycle_memory: Option<u64>,
    #[serde(deserialize_with = "measure::read_optional")]
    idle: Option<Duration>,
    #[serde(deserialize_with = "measure::read_optional")]
    start_timeout: Option<Duration>,
}

impl From<RawProcesses> for Processes {
    fn from(raw: RawProcesses) -> Self {
        Self {
            min: raw.min.unwrap_or(0),
            max: raw.max,
            recycle_jobs: raw.recycle_jobs.unwrap_or(1000),
            recycle_memory: raw.recycle_memory,
            idle: raw.idle.unwrap_or(Duration::from_secs(60)),
            start_timeout: raw.start_timeout.unwrap_or(Duration::from_secs(30)),
        }
    }
}

impl ProgramConfig {
    /// Do they share their processes?
    pub fn is_same(&self, other: &Self) -> bool {
        (&self.run, &self.cwd, &self.env) == (&other.run, &other.cwd, &other.env)
    }
}

impl Rules<'_> {
    /// The program of one kind.
    pub(super) fn program(
        &mut self,
        key: &str,
        run: Option<Vec<String>>,
        cwd: Option<PathBuf>,
        env: Option<BTreeMap<String, String>>,
        processes: Option<RawProcesses>,
    ) -> Option<ProgramConfig> {
        let Some(run) = run else {
            for (name, is_set) in [("cwd", cwd.is_some()), ("env", env.is_some()), ("processes", processes.is_some())] {
                if is_set {
                    self.add(
                        &format!("{key}.{name}"),
                        format_args!("is of no use without `{key}.run`; name the program"),
                    );
                }
            }
            return None;
        };
        if run.first().is_none_or(String::is_empty) {
            self.add(&format!("{key}.run"), "has an empty first word; name a program");
        }
        let env = env.unwrap_or_default();
        if let Some(name) = env.keys().find(|name| name.is_empty() || name.contains(['=', '\0'])) {
            self.add(&format!("{key}.env"), format_args!("has the name `{name}`, which no variable can have"));
        }
        Some(ProgramConfig { run, cwd, env, processes: processes.unwrap_or_default().into() })
    }

    /// What holds between kinds: one program has one set of numbers.
    pub(super) fn programs(&mut self, kinds: &BTreeMap<String, KindConfig>, slots: usize) {
        let programs: Vec<_> =
            kinds.iter().filter_map(|(pattern, kind)| Some((pattern, kind.program.as_ref()?))).collect();
        for (at, (pattern, program)) in programs.iter().enumerate() {
            let key = format!("kinds.{pattern}.processes");
            let Processes { min, max, .. } = program.processes;
            let most = max.unwrap_or(slots).min(slots);
            if min > most {
                let why = if max.is_some_and(|max| max < slots) { "processes.max" } else { "consumer.slots" };
                self.add(&key, format_args!("`min` is {min}, more than `{why}` with {most}"));
            }
            let other = programs[..at].iter().find(|(_, other)| other.is_same(program));
            if let Some((first, other)) = other
                && other.processes != program.processes
            {
                let what =
                    format!("differ from those of `kinds.{first}`, which has the same program; make them the same");
                self.add(&key, what);
            }
        }
    }
}
