//! From merged values to the typed [`Config`].
//!
//! Owns the serde form of the file and the rules between keys. Refuses to look at the table of
//! keys: that check has passed before.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::Deserialize;
use spinor_consumers::{
    broker::{RESERVED, is_reserved},
    marks::Bound,
};
use spinor_executors::{KindPattern, RetryPolicy, Timeout};

use super::{
    Ask, BlobsChoice, BrokerChoice, Config, ConsumerConfig, Endpoint, Journal, KeepConfig, KindConfig, LogConfig,
    Problem, QueueConfig, RecorderConfig, ResultsChoice, SearchChoice, StateChoice, Written,
    api::RawApi,
    blobs,
    layers::{Layer, Leaf},
    measure,
    notify::RawNotify,
    outbox::RawOutbox,
    programs::RawProcesses,
    secrets::Secrets,
    triggers::RawTrigger,
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    broker: String,
    broker_prefix: String,
    broker_ca: Option<PathBuf>,
    results: String,
    results_ca: Option<PathBuf>,
    blobs: String,
    blobs_ca: Option<PathBuf>,
    #[serde(deserialize_with = "measure::read_size")]
    max_args: u64,
    keep: RawKeep,
    state: String,
    state_ca: Option<PathBuf>,
    search: String,
    search_ca: Option<PathBuf>,
    data: Option<PathBuf>,
    #[serde(rename = "secrets")]
    _secrets: Option<PathBuf>,
    consumer: RawConsumer,
    #[serde(default)]
    scaler: RawScaler,
    #[serde(default)]
    queues: BTreeMap<String, RawQueue>,
    #[serde(default)]
    kinds: BTreeMap<String, RawKind>,
    #[serde(default)]
    limits: BTreeMap<String, RawLimit>,
    #[serde(default)]
    triggers: BTreeMap<String, RawTrigger>,
    #[serde(default)]
    notify: BTreeMap<String, RawNotify>,
    api: RawApi,
    recorder: RawRecorder,
    outbox: RawOutbox,
    log: RawLog,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConsumer {
    group: String,
    queues: Vec<String>,
    kinds: Option<Vec<String>>,
    slots: Option<usize>,
    #[serde(deserialize_with = "measure::read_duration")]
    hold_after: Duration,
    #[serde(default, deserialize_with = "measure::read_optional_size")]
    results_bound: Option<u64>,
    #[serde(deserialize_with = "measure::read_duration")]
    grace: Duration,
    timeout: RawTimeout,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawScaler {
    command: Option<Vec<String>>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawTimeout {
    #[serde(deserialize_with = "measure::read_optional")]
    soft: Option<Duration>,
    #[serde(deserialize_with = "measure::read_optional")]
    hard: Option<Duration>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawQueue {
    foreign: bool,
    default_kind: Option<String>,
    journal: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawLimit {
    at_once: Option<u32>,
    rate: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawKind {
    timeout: Option<RawTimeout>,
    retry: Option<RawRetry>,
    #[serde(deserialize_with = "measure::read_optional_size")]
    memory: Option<u64>,
    files: Option<u64>,
    limits: Option<Vec<String>>,
    at_most_once: Option<bool>,
    run: Option<Vec<String>>,
    cwd: Option<PathBuf>,
    env: Option<BTreeMap<String, String>>,
    processes: Option<RawProcesses>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawRetry {
    max: Option<u32>,
    #[serde(deserialize_with = "measure::read_optional")]
    first: Option<Duration>,
    factor: Option<f64>,
    jitter: Option<f64>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawKeep {
    succeeded: String,
    failed: String,
    discarded: String,
    cancelled: String,
    expired: String,
    dead: String,
    lost: String,
    audit: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRecorder {
    batch: usize,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLog {
    format: String,
    level: String,
}

/// Merges the layers and reads them as the file's form.
pub(super) fn read(layers: &[Layer]) -> Result<Raw, Problem> {
    let mut builder = config::Config::builder();
    for layer in layers {
        builder = builder.add_source(layer.clone());
    }
    builder
        .build()
        .and_then(config::Config::try_deserialize)
        .map_err(|error| Problem { place: "configuration".to_owned(), what: error.to_string() })
}

/// The rules between keys, and the typed form.
pub(super) fn typed(raw: Raw, secrets: &Secrets, ask: &Ask, merged: &[Leaf]) -> Result<Config, Vec<Problem>> {
    let mut rules = Rules { merged, problems: Vec::new() };
    let broker = rules.broker(&raw.broker, secrets);
    let kinds = raw.kinds.into_iter().map(|(pattern, kind)| {
        let limits = rules.kind(&pattern, kind);
        (pattern, limits)
    });
    let kinds: BTreeMap<String, KindConfig> = kinds.collect();
    rules.programs(&kinds, raw.consumer.slots.unwrap_or_else(cores));
    let limits: BTreeMap<_, _> =
        raw.limits.iter().map(|(name, limit)| (name.clone(), rules.limit(name, limit))).collect();
    for (pattern, kind) in &kinds {
        for name in kind.limits.iter().flatten().filter(|name| !limits.contains_key(*name)) {
            let known = limits.keys().cloned().collect::<Vec<_>>().join(", ");
            let known = if known.is_empty() { "none are set".to_owned() } else { format!("there are {known}") };
            rules.add(&format!("kinds.{pattern}.limits"), format_args!("`{name}` is no limit; {known}"));
        }
    }
    if ask.consumes && raw.consumer.kinds.is_none() && broker != BrokerChoice::Embedded {
        rules.add("broker", "with a broker that others reach, `consumer.kinds` must list the kinds to run here");
    }
    rules.lane_names(&raw.consumer.queues, &raw.queues);
    let broker_ca = rules.authority("broker", &raw.broker, raw.broker_ca);
    let results_ca = rules.authority("results", &raw.results, raw.results_ca);
    let state_ca = rules.authority("state", &raw.state, raw.state_ca);
    let search_ca = rules.authority("search", &raw.search, raw.search_ca);
    let blobs = blobs::choice(&raw.blobs, secrets, &ask.variables).unwrap_or_else(|why| {
        rules.add("blobs", why);
        BlobsChoice::Results
    });
    let plain = matches!(&blobs, BlobsChoice::S3 { address, .. } if address.is_plain());
    let blobs_ca = rules.authority("blobs", if plain { "http://" } else { &raw.blobs }, raw.blobs_ca);
    let (triggers, items) = rules.triggers(raw.triggers, secrets);
    let config = Config {
        broker,
        broker_ca,
        broker_prefix: raw.broker_prefix,
        results_ca,
        results: match raw.results.as_str() {
            "sqlite" => ResultsChoice::Sqlite,
            address => ResultsChoice::MySql(with_password(address, secrets.results_password.as_deref())),
        },
        blobs,
        blobs_ca,
        max_args: usize::try_from(raw.max_args).unwrap_or(usize::MAX),
        keep: raw.keep.into(),
        state_ca,
        state: match raw.state.as_str() {
            "results" => StateChoice::Results,
            address => StateChoice::Redis(with_password(address, secrets.state_password.as_deref())),
        },
        search: rules.search(&raw.search, secrets),
        search_ca,
        data: rules.data(raw.data, ask),
        consumer: ConsumerConfig {
            group: raw.consumer.group,
            queues: raw.consumer.queues,
            kinds: raw.consumer.kinds.map(|kinds| kinds.into_iter().flat_map(KindPattern::new).collect()),
            slots: raw.consumer.slots.unwrap_or_else(cores),
            hold_after: raw.consumer.hold_after,
            results_bound: raw.consumer.results_bound,
            grace: raw.consumer.grace,
            timeout: rules.timeout("consumer.timeout", raw.consumer.timeout).unwrap_or(NO_TIMEOUT),
        },
        scaler: rules.scaler(raw.scaler),
        queues: raw.queues.into_iter().map(|(name, queue)| (name, queue.into())).collect(),
        kinds,
        limits,
        triggers,
        items,
        notify: rules.notify(raw.notify, secrets),
        written: Written::default(),
        api: rules.api(raw.api, secrets),
        recorder: RecorderConfig { batch: raw.recorder.batch },
        outbox: rules.outbox(raw.outbox, secrets),
        log: LogConfig { format: raw.log.format, level: raw.log.level },
    };
    if rules.problems.is_empty() { Ok(config) } else { Err(rules.problems) }
}

/// Never used: a timeout without a problem is `Some`.
const NO_TIMEOUT: Timeout = Timeout { soft: Duration::ZERO, hard: Duration::ZERO };

pub(super) struct Rules<'a> {
    merged: &'a [Leaf],
    problems: Vec<Problem>,
}

impl Rules<'_> {
    pub(super) fn add(&mut self, key: &str, what: impl std::fmt::Display) {
        let place = self.place(&[key]);
        self.add_at(&place, key, what);
    }

    pub(super) fn add_at(&mut self, place: &str, key: &str, what: impl std::fmt::Display) {
        self.problems.push(Problem { place: place.to_owned(), what: format!("`{key}`: {what}") });
    }

    /// Where the first of these keys that stands somewhere does.
    pub(super) fn place(&self, keys: &[&str]) -> String {
        let at = |key: &&str| {
            let at = |leaf: &&Leaf| leaf.path.join(".") == *key || leaf.path.join(".").starts_with(&format!("{key}."));
            self.merged.iter().rev().find(at)
        };
        keys.iter().find_map(at).map_or("configuration", |leaf| leaf.origin.as_str()).to_owned()
    }

    fn broker(&self, text: &str, secrets: &Secrets) -> BrokerChoice {
        match text {
            "embedded" => BrokerChoice::Embedded,
            address => BrokerChoice::RabbitMq(with_password(address, secrets.broker_password.as_deref())),
        }
    }

    /// A queue named like a lane of another would get the other's jobs. Somebody else's has no lanes.
    fn lane_names(&mut self, listed: &[String], tables: &BTreeMap<String, RawQueue>) {
        let listed = listed.iter().map(|name| ("consumer.queues".to_owned(), name));
        let tables_of = tables.keys().map(|name| (format!("queues.{name}"), name));
        for (key, name) in listed.chain(tables_of).filter(|(_, name)| is_reserved(name)) {
            if tables.get(name).is_none_or(|queue| !queue.foreign) {
                self.add(&key, format_args!("names a queue `{name}`; {RESERVED}"));
            }
        }
    }

    fn search(&mut self, text: &str, secrets: &Secrets) -> SearchChoice {
        if text == "off" {
            return SearchChoice::Off;
        }
        let endpoint = with_password(text, secrets.search_password.as_deref());
        if secrets.search_api_key.is_some() && endpoint.has_user() {
            self.add("search", "has a user, and the secrets file an API key as well; keep one of them");
        }
        SearchChoice::Http { endpoint, api_key: secrets.search_api_key.clone() }
    }

    /// The file must hold certificates, and something must use them: a check that never happens is
    /// worse than none.
    fn authority(&mut self, server: &str, address: &str, file: Option<PathBuf>) -> Option<PathBuf> {
        let file = file?;
        let key = format!("{server}_ca");
        match address.split_once("://").map(|(scheme, _)| scheme) {
            Some(plain @ ("amqp" | "http" | "redis")) => {
                self.add(&key, format_args!("is never used, because `{server}` is {plain}://; make it {plain}s://"));
            }
            Some("mysql") if address.contains("ssl-mode=") || address.contains("ssl-ca=") => {
                self.add(&key, format_args!("and `ssl-mode` or `ssl-ca` in `{server}` say different things; keep one"));
            }
            Some(_) => {
                if let Err(why) = spinor_consumers::read_ca_file(&file) {
                    self.add(&key, why);
                }
            }
            // Everything on this machine, for once: the file has no say.
            None => {}
        }
        Some(file)
    }

    fn data(&mut self, given: Option<PathBuf>, ask: &Ask) -> PathBuf {
        let state = || ask.variable("XDG_STATE_HOME").or_else(|| Some(ask.variable("HOME")?.join(".local/state")));
        match given.or_else(|| Some(state()?.join("spinor"))) {
            Some(path) => path,
            None => {
                self.add("data", "is not set, and neither are $XDG_STATE_HOME and $HOME; name a directory");
                PathBuf::new()
            }
        }
    }

    fn kind(&mut self, pattern: &str, kind: RawKind) -> KindConfig {
        let key = format!("kinds.{pattern}");
        if let Err(why) = KindPattern::new(pattern) {
            self.add(&key, why);
        }
        KindConfig {
            timeout: kind.timeout.and_then(|timeout| self.timeout(&format!("{key}.timeout"), timeout)),
            retry: kind.retry.and_then(|retry| self.retry(&format!("{key}.retry"), retry)),
            memory: kind.memory,
            files: kind.files,
            limits: kind.limits,
            at_most_once: kind.at_most_once,
            program: self.program(&key, kind.run, kind.cwd, kind.env, kind.processes),
        }
    }

    fn scaler(&mut self, raw: RawScaler) -> Option<Vec<String>> {
        let command = raw.command?;
        if !command.iter().any(|word| word.contains("{replicas}")) {
            self.add("scaler.command", "has no `{replicas}`; say where the number goes");
        }
        Some(command)
    }

    fn limit(&mut self, name: &str, limit: &RawLimit) -> Bound {
        if limit.at_once.is_none() && limit.rate.is_none() {
            self.add(&format!("limits.{name}"), "bounds nothing; say `at_once`, `rate` or both");
        }
        Bound { at_once: limit.at_once, rate_ms: limit.rate.as_deref().and_then(measure::rate) }
    }

    fn timeout(&mut self, key: &str, raw: RawTimeout) -> Option<Timeout> {
        let Some(hard) = raw.hard else {
            self.add(key, "has no `hard` limit; name one");
            return None;
        };
        let soft = raw.soft.unwrap_or(hard);
        if soft > hard {
            let (soft, hard) = (measure::duration_text(soft), measure::duration_text(hard));
            self.add(key, format_args!("`soft` is {soft}, later than `hard` with {hard}"));
            return None;
        }
        Some(Timeout { soft, hard })
    }

    fn retry(&mut self, key: &str, raw: RawRetry) -> Option<RetryPolicy> {
        let Some(max) = raw.max else {
            self.add(key, "has no `max`; say how many retries follow at most");
            return None;
        };
        let first = raw.first.unwrap_or(Duration::from_secs(10));
        match RetryPolicy::new(max, first, raw.factor.unwrap_or(2.0), raw.jitter.unwrap_or(0.2)) {
            Ok(policy) => Some(policy),
            Err(why) => {
                self.add(key, why);
                None
            }
        }
    }
}

impl From<RawQueue> for QueueConfig {
    fn from(raw: RawQueue) -> Self {
        let journal = if raw.journal.as_deref() == Some("ends") { Journal::Ends } else { Journal::Full };
        Self { foreign: raw.foreign, default_kind: raw.default_kind, journal }
    }
}

impl From<RawKeep> for KeepConfig {
    fn from(raw: RawKeep) -> Self {
        // What is no duration is `forever`: the table of keys lets nothing else through.
        let time = |text: &str| measure::duration(text);
        Self {
            succeeded: time(&raw.succeeded),
            failed: time(&raw.failed),
            discarded: time(&raw.discarded),
            cancelled: time(&raw.cancelled),
            expired: time(&raw.expired),
            dead: time(&raw.dead),
            lost: time(&raw.lost),
            audit: time(&raw.audit),
        }
    }
}

pub(super) fn with_password(address: &str, password: Option<&str>) -> Endpoint {
    let endpoint = Endpoint::new(address);
    password.map_or(endpoint.clone(), |password| endpoint.with_password(password))
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
