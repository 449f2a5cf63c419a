//! The configuration: defaults, then a TOML file, then `SPINOR_` variables, then flags.
//!
//! Owns the typed [`Config`], how it is found and loaded, and its checks. All problems are
//! reported at once, each with its place; unknown keys are refused; secrets are never shown.
//! Refuses keys that change nothing: [`keys::KEYS`] is the whole list.

pub mod document;
pub mod keys;

mod api;
mod blobs;
mod check;
mod each;
mod endpoint;
mod form;
mod layers;
mod measure;
mod notify;
mod outbox;
mod programs;
mod proxy;
mod raw;
mod secrets;
mod triggers;

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use config::ValueKind;
use spinor_consumers::{
    blobs::{S3Address, S3Keys},
    marks::Bound,
    schedule::Spec,
};
use spinor_executors::{KindPattern, RetryPolicy, State, Timeout};

pub use api::{ApiConfig, TlsFiles};
pub use each::{AskedConfig, ItemsConfig};
pub use endpoint::Endpoint;
pub use measure::{duration, duration_text, rate, rate_text};
pub use notify::NotifyConfig;
pub use outbox::{OtherDatabase, OutboxConfig, has_form as is_database};
pub use programs::{Processes, ProgramConfig};
pub use proxy::{Network, ProxyConfig};

/// Everything a process needs to know before it starts.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where jobs wait.
    pub broker: BrokerChoice,
    /// What the names of our objects on a remote broker start with.
    pub broker_prefix: String,
    /// An authority to trust for the broker, beside the machine's own.
    pub broker_ca: Option<PathBuf>,
    /// Where results are recorded.
    pub results: ResultsChoice,
    /// An authority to trust for the results database; set, its connections are encrypted.
    pub results_ca: Option<PathBuf>,
    /// Where large args and values lie.
    pub blobs: BlobsChoice,
    /// An authority to trust for the server of a bucket, beside the machine's own.
    pub blobs_ca: Option<PathBuf>,
    /// The most bytes of a job's args, and of its value.
    pub max_args: usize,
    /// How long ended jobs are kept.
    pub keep: KeepConfig,
    /// Where state lives.
    pub state: StateChoice,
    /// The authority to trust for a Redis server.
    pub state_ca: Option<PathBuf>,
    /// The search index.
    pub search: SearchChoice,
    /// An authority to trust for the search server.
    pub search_ca: Option<PathBuf>,
    /// The directory of everything that lives on this machine.
    pub data: PathBuf,
    /// The part `consumer`.
    pub consumer: ConsumerConfig,
    /// What scales the group elsewhere, in place of processes started here.
    pub scaler: Option<Vec<String>>,
    /// Queues by short name.
    pub queues: BTreeMap<String, QueueConfig>,
    /// Limits by kind pattern.
    pub kinds: BTreeMap<String, KindConfig>,
    /// What jobs that name a limit share, by its name.
    pub limits: BTreeMap<String, Bound>,
    /// Triggers by name.
    pub triggers: BTreeMap<String, Spec>,
    /// Who tells the items of triggers, by their names.
    pub items: BTreeMap<String, ItemsConfig>,
    /// Who wants to hear of what ended badly, by name.
    pub notify: BTreeMap<String, NotifyConfig>,
    /// When the file was written.
    pub written: Written,
    /// The part `api`.
    pub api: ApiConfig,
    /// The part `recorder`.
    pub recorder: RecorderConfig,
    /// Outboxes to relay.
    pub outbox: OutboxConfig,
    /// Logging.
    pub log: LogConfig,
}

/// When a file was written, in microseconds since 1970; 0 when there is none. It says nothing, so that two
/// configurations that say the same are the same.
#[derive(Clone, Copy, Debug, Default, Eq)]
pub struct Written(pub i64);

impl PartialEq for Written {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

/// Where jobs wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BrokerChoice {
    /// In the data directory.
    Embedded,
    /// On a RabbitMQ server.
    RabbitMq(Endpoint),
}

/// Where results are recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResultsChoice {
    /// A file in the data directory.
    Sqlite,
    /// MySQL or MariaDB.
    MySql(Endpoint),
}

/// Where large args and values lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlobsChoice {
    /// In the results database.
    Results,
    /// Below a directory.
    Directory(PathBuf),
    /// In a bucket of S3, or of a server that speaks like it.
    S3 {
        /// Where it is.
        address: Box<S3Address>,
        /// Who asks; needed by who opens it.
        keys: Option<S3Keys>,
    },
}

/// How long ended jobs are kept, by how they ended; `None` is for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepConfig {
    /// Done.
    pub succeeded: Option<Duration>,
    /// The last attempt failed.
    pub failed: Option<Duration>,
    /// Their executor said: never again.
    pub discarded: Option<Duration>,
    /// Ended by a person.
    pub cancelled: Option<Duration>,
    /// Not started in time.
    pub expired: Option<Duration>,
    /// Not to be handled; dead letters, too.
    pub dead: Option<Duration>,
    /// At-most-once, and they may have run.
    pub lost: Option<Duration>,
    /// Not jobs: who did what.
    pub audit: Option<Duration>,
}

impl KeepConfig {
    /// Each final state with its time.
    pub const fn all(self) -> [(State, Option<Duration>); 7] {
        [
            (State::Succeeded, self.succeeded),
            (State::Failed, self.failed),
            (State::Discarded, self.discarded),
            (State::Cancelled, self.cancelled),
            (State::Expired, self.expired),
            (State::Dead, self.dead),
            (State::Lost, self.lost),
        ]
    }
}

/// Where state lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateChoice {
    /// Beside the results: in their database, or in a file of its own in the data directory.
    Results,
    /// On a Redis server.
    Redis(Endpoint),
}

/// The search index.
#[derive(Clone, PartialEq, Eq)]
pub enum SearchChoice {
    /// None; search falls back to the results database.
    Off,
    /// Elasticsearch or OpenSearch.
    Http {
        /// Its address; user and password inside, if any.
        endpoint: Endpoint,
        /// An API key instead of a user.
        api_key: Option<String>,
    },
}

impl fmt::Debug for SearchChoice {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => to.write_str("Off"),
            Self::Http { endpoint, api_key } => {
                write!(to, "Http({endpoint}{})", if api_key.is_some() { ", with an API key" } else { "" })
            }
        }
    }
}

/// The part `consumer`.
#[derive(Clone, Debug, PartialEq)]
pub struct ConsumerConfig {
    /// Consumers with the same work share a group.
    pub group: String,
    /// The queues it takes jobs from.
    pub queues: Vec<String>,
    /// The kinds it may run; `None` only with the embedded broker: all.
    pub kinds: Option<Vec<KindPattern>>,
    /// How many jobs run at once.
    pub slots: usize,
    /// A running job is held anew before its delivery is older than this.
    pub hold_after: Duration,
    /// Beyond so many bytes of reports that wait to be recorded it takes no more jobs.
    pub results_bound: Option<u64>,
    /// How long running jobs get to end.
    pub grace: Duration,
    /// Limits of jobs whose kind has none of its own.
    pub timeout: Timeout,
}

/// One queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueConfig {
    /// Somebody else's: consumed under exactly this name, never declared.
    pub foreign: bool,
    /// The kind of messages that name none.
    pub default_kind: Option<String>,
    /// Are jobs recorded when they are queued, or only when they have run?
    pub journal: Journal,
}

/// When a queue's jobs are recorded first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Journal {
    /// As soon as they are queued.
    #[default]
    Full,
    /// When they have run.
    Ends,
}

/// Limits of the kinds a pattern matches.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KindConfig {
    /// Time limits.
    pub timeout: Option<Timeout>,
    /// Retries.
    pub retry: Option<RetryPolicy>,
    /// What a job's processes may hold in memory together, in bytes.
    pub memory: Option<u64>,
    /// How many files each of its processes may have open.
    pub files: Option<u64>,
    /// The limits they count against, by name.
    pub limits: Option<Vec<String>>,
    /// Do they never run a second time?
    pub at_most_once: Option<bool>,
    /// The program that runs them; it counts for its own pattern only.
    pub program: Option<ProgramConfig>,
}

/// The part `recorder`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecorderConfig {
    /// Entries to a transaction, about.
    pub batch: usize,
}

/// Logging.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// `auto`, `human` or `json`.
    pub format: String,
    /// `error` to `trace`.
    pub level: String,
}

impl Config {
    /// The Unix socket of the process that owns the data directory.
    pub fn socket(&self) -> PathBuf {
        self.data.join("spinor.sock")
    }

    /// Is the broker one that others reach?
    pub const fn is_remote(&self) -> bool {
        matches!(self.broker, BrokerChoice::RabbitMq(_))
    }

    /// Beyond so many bytes of reports that wait to be recorded consumers take no more jobs. Of the
    /// disk of an embedded broker a tenth, if that is less.
    pub fn results_bound(&self) -> u64 {
        const MOST: u64 = 5 << 30;
        self.consumer.results_bound.unwrap_or_else(|| {
            let disk = if self.is_remote() { None } else { rustix::fs::statvfs(&self.data).ok() };
            disk.map_or(MOST, |disk| MOST.min(disk.f_blocks.saturating_mul(disk.f_frsize) / 10))
        })
    }

    /// How a queue is treated; one that is not configured is ours and journaled.
    pub fn queue(&self, name: &str) -> QueueConfig {
        self.queues.get(name).cloned().unwrap_or_default()
    }

    /// The limits of a kind: each from the longest pattern that matches and names it.
    pub fn limits_of(&self, kind: &str) -> KindConfig {
        let mut matching: Vec<_> = self
            .kinds
            .iter()
            .filter(|(pattern, _)| KindPattern::new(pattern.as_str()).is_ok_and(|pattern| pattern.matches(kind)))
            .collect();
        // An exact name is longer than each of its prefixes, but for `name*`: the `*` counts less.
        matching.sort_by_key(|(pattern, _)| (pattern.trim_end_matches('*').len(), !pattern.ends_with('*')));
        matching.into_iter().fold(KindConfig::default(), |limits, (_, kind)| KindConfig {
            timeout: kind.timeout.or(limits.timeout),
            retry: kind.retry.or(limits.retry),
            memory: kind.memory.or(limits.memory),
            files: kind.files.or(limits.files),
            limits: kind.limits.clone().or(limits.limits),
            at_most_once: kind.at_most_once.or(limits.at_most_once),
            program: None,
        })
    }
}

/// One thing wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// `file:line`, a variable or a flag.
    pub place: String,
    /// The key, what was found, what is expected.
    pub what: String,
}

/// All that is wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(|problem| format!("{}: {}", problem.place, problem.what)).collect();
        match lines.as_slice() {
            [one] => write!(to, "the configuration is wrong: {one}"),
            many => write!(to, "the configuration has {} problems:\n  {}", many.len(), many.join("\n  ")),
        }
    }
}

impl std::error::Error for Problems {}

/// What to load, and from what surroundings.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    /// The file that was named; searched for when `None`.
    pub file: Option<PathBuf>,
    /// Key, text and name of each flag that stands for a key.
    pub flags: Vec<(&'static str, String, &'static str)>,
    /// The environment.
    pub variables: BTreeMap<String, String>,
    /// Where a relative `./spinor.toml` is looked for.
    pub directory: PathBuf,
    /// Will the part `consumer` run? Then a remote broker needs `consumer.kinds`.
    pub consumes: bool,
}

/// One key as it came out.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Shown {
    /// Its dotted path.
    pub key: String,
    /// As TOML; secrets masked.
    pub value: String,
    /// `file:line`, a variable, a flag, or `default`.
    pub origin: String,
}

/// A configuration, and where it came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// The file that was read.
    pub file: Option<PathBuf>,
    /// Each key with its origin.
    pub shown: Vec<Shown>,
}

impl Ask {
    /// The process's own surroundings.
    pub fn here(file: Option<PathBuf>) -> Self {
        Self {
            file,
            // Variables that are no UTF-8 cannot be ours.
            variables: std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
                .collect(),
            directory: PathBuf::from("."),
            ..Self::default()
        }
    }

    /// Loads, checks, and reports every problem at once.
    pub fn load(&self) -> Result<Loaded, Problems> {
        let file = self.find();
        let mut problems = Vec::new();
        let mut layers = vec![layers::defaults()];
        match file.as_deref().map(layers::file) {
            Some(Ok(layer)) => layers.push(layer),
            Some(Err(problem)) => problems.push(problem),
            None => {}
        }
        layers.push(layers::environment(&self.variables));
        layers.push(layers::flags(&self.flags));
        check::leaves(&layers, &mut problems);
        let merged = check::merged(&layers);
        let secrets = match merged.iter().find(|leaf| leaf.path == ["secrets"]).map(|leaf| (&leaf.value, &leaf.origin))
        {
            Some((ValueKind::String(path), origin)) => secrets::read(Path::new(path), origin, &mut problems),
            _ => secrets::Secrets::default(),
        };
        if !problems.is_empty() {
            return Err(Problems(problems));
        }
        let raw = raw::read(&layers).map_err(|problem| Problems(vec![problem]))?;
        let mut config = raw::typed(raw, &secrets, self, &merged).map_err(Problems)?;
        config.written = file.as_deref().map(written).unwrap_or_default();
        let shown = check::shown(&config, merged, &secrets);
        Ok(Loaded { config, file, shown })
    }

    /// The file: the one named, `$SPINOR_CONFIG`, `./spinor.toml`, then the usual places.
    fn find(&self) -> Option<PathBuf> {
        let named = self.file.clone().or_else(|| self.variable("SPINOR_CONFIG"));
        named.or_else(|| {
            let home = self.variable("XDG_CONFIG_HOME").or_else(|| Some(self.variable("HOME")?.join(".config")));
            let places = [
                Some(self.directory.join("spinor.toml")),
                home.map(|home| home.join("spinor/config.toml")),
                Some(PathBuf::from("/etc/spinor/config.toml")),
            ];
            places.into_iter().flatten().find(|path| path.exists())
        })
    }

    /// A variable that holds a path; an empty one counts as unset.
    fn variable(&self, name: &str) -> Option<PathBuf> {
        self.variables.get(name).filter(|text| !text.is_empty()).map(PathBuf::from)
    }
}

fn written(file: &Path) -> Written {
    let changed = std::fs::metadata(file).and_then(|file| file.modified()).ok();
    let since = changed.and_then(|changed| changed.duration_since(std::time::UNIX_EPOCH).ok());
    Written(since.and_then(|since| i64::try_from(since.as_micros()).ok()).unwrap_or(0))
}
