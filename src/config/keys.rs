//! Every key of the configuration, once: name, form, default, meaning.
//!
//! The table is what checks a value, what fills in defaults, what `config init` and
//! `docs/config.md` are written from. A key that is not here is refused.

use config::{Value, ValueKind};
use spinor_executors::KindPattern;

use super::{blobs, endpoint, measure};

/// One key. A `*` in its path stands for a name of the user's.
#[derive(Debug)]
pub struct Key {
    /// Dotted path.
    pub path: &'static str,
    /// What its value must be.
    pub form: Form,
    /// As TOML; empty when there is none.
    pub default: &'static str,
    /// What is shown in place of a default that is worked out or absent.
    pub example: &'static str,
    /// What it does, in a sentence or two.
    pub meaning: &'static str,
}

/// What a value must look like.
#[derive(Clone, Copy, Debug)]
pub enum Form {
    /// Text that is not empty.
    Text,
    /// A name: letters, digits, `.`, `_`, `-`, at most 100.
    Name,
    /// One of these words.
    Word(&'static [&'static str]),
    /// True or false.
    Flag,
    /// A whole number within bounds.
    Count(i64, i64),
    /// A number within bounds.
    Number(f64, f64),
    /// A duration of at least so many milliseconds, at most a week.
    Duration(u64),
    /// So many in each such time.
    Rate,
    /// A size up to so many bytes.
    Size(u64),
    /// A list of names.
    Names,
    /// A list of kind patterns.
    Patterns,
    /// A program and its arguments.
    Words,
    /// A path.
    Path,
    /// `embedded`, or an AMQP address.
    Broker,
    /// `sqlite`, or a MySQL address.
    Results,
    /// `results`, or the address of a directory or of a bucket.
    Blobs,
    /// A duration without a bound, or `forever`.
    Keep,
    /// `results`, or a Redis address.
    State,
    /// `off`, or a search address.
    Search,
    /// An address and port to listen on.
    Listen,
    /// Text that is never shown.
    Secret,
}

const fn key(
    path: &'static str,
    form: Form,
    default: &'static str,
    example: &'static str,
    meaning: &'static str,
) -> Key {
    Key { path, form, default, example, meaning }
}

/// The table, in the order of the written file.
pub const KEYS: &[Key] = &[
    key(
        "broker",
        Form::Broker,
        r#""embedded""#,
        r#""amqps://user@mq1/vhost""#,
        "Where jobs wait: `embedded` (in the data directory), or the address of a RabbitMQ server, `amqp://` or `amqps://`.",
    ),
    key(
        "broker_prefix",
        Form::Name,
        r#""spinor""#,
        "",
        "What the names of our objects on a RabbitMQ server start with.",
    ),
    key(
        "broker_ca",
        Form::Path,
        "",
        r#""/etc/spinor/ca.pem""#,
        "A PEM file with the authority that signed the certificate of an `amqps://` broker; it counts beside those this machine trusts.",
    ),
    key(
        "results",
        Form::Results,
        r#""sqlite""#,
        r#""mysql://user@db/spinor""#,
        "Where results are recorded: `sqlite` (a file in the data directory), or `mysql://` for MySQL 8 and MariaDB 10.6 or later.",
    ),
    key(
        "results_ca",
        Form::Path,
        "",
        r#""/etc/spinor/ca.pem""#,
        "The same for `mysql://`. Once set, the connection must be encrypted, and the certificate valid for the host's name.",
    ),
    key(
        "blobs",
        Form::Blobs,
        r#""results""#,
        r#""file:///srv/spinor/blobs""#,
        "Where args and values larger than 256 KiB lie: `results` (in the results database), a directory that every process of this installation sees under this name, or a bucket of S3: `s3://BUCKET/PREFIX?region=REGION`, for another server than Amazon's with `&endpoint=http://HOST:PORT` (and `&path_style=false`, if it wants each bucket as a host). Its keys are in the secrets file, or in `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`.",
    ),
    key(
        "blobs_ca",
        Form::Path,
        "",
        r#""/etc/spinor/ca.pem""#,
        "The same as `broker_ca`, for the `https://` server of a bucket.",
    ),
    key(
        "max_args",
        Form::Size(1 << 30),
        r#""64MiB""#,
        "",
        "The largest args of a job that are taken, and the largest value that is put beside its report. Requests are bounded by `api.max_body`, too.",
    ),
    key(
        "state",
        Form::State,
        r#""results""#,
        r#""redis://redis""#,
        "Where cancels, pauses, unique keys, limits and leases live: `results` (beside the results: in their database, or in a file of its own), or `redis://` or `rediss://` for a Redis that keeps what it is told (`appendonly yes`).",
    ),
    key(
        "state_ca",
        Form::Path,
        "",
        r#""/etc/spinor/ca.pem""#,
        "The same for a `rediss://` server; it counts in place of those this machine trusts.",
    ),
    key(
        "search",
        Form::Search,
        r#""off""#,
        r#""https://user@es:9200""#,
        "The search index: `off`, or the address of Elasticsearch or OpenSearch.",
    ),
    key("search_ca", Form::Path, "", r#""/etc/spinor/ca.pem""#, "The same for an `https://` search server."),
    key(
        "data",
        Form::Path,
        "",
        r#""/var/lib/spinor""#,
        "The directory of everything that lives on this machine. Unset: `$XDG_STATE_HOME/spinor`, else `~/.local/state/spinor`.",
    ),
    key(
        "secrets",
        Form::Path,
        "",
        r#""/etc/spinor/secrets.toml""#,
        "A file with passwords, readable by its owner only; see below.",
    ),
    key("consumer.group", Form::Name, r#""default""#, "", "Consumers with the same work share a group."),
    key("consumer.queues", Form::Names, r#"["default"]"#, "", "The queues it takes jobs from."),
    key(
        "consumer.kinds",
        Form::Patterns,
        "",
        r#"["image.*", "noop"]"#,
        "The kinds it may run: a kind, `prefix*` or `*`. Unset: all when the broker is embedded; it must be set with a broker that others reach.",
    ),
    key("consumer.slots", Form::Count(1, 4096), "", "8", "How many jobs run at once. Unset: one for each core."),
    key(
        "consumer.hold_after",
        Form::Duration(1000),
        r#""5m""#,
        "",
        "Over RabbitMQ: a job that runs longer is held in a queue of its consumer's, anew each time so much has passed. Keep it below half of the server's `consumer_timeout`.",
    ),
    key(
        "consumer.results_bound",
        Form::Size(1 << 50),
        "",
        r#""5GiB""#,
        "When more reports than this wait to be recorded, about, it takes no more jobs until the recorder has caught up. Unset: 5 GiB; embedded a tenth of the disk, if that is less.",
    ),
    key(
        "consumer.grace",
        Form::Duration(0),
        r#""60s""#,
        "",
        "How long running jobs get to end when the process is asked to stop.",
    ),
    key(
        "consumer.timeout.soft",
        Form::Duration(1),
        r#""55m""#,
        "",
        "A job of a kind without limits of its own is asked to end after this long.",
    ),
    key(
        "consumer.timeout.hard",
        Form::Duration(1),
        r#""1h""#,
        "",
        "And is ended, with all its processes, after this long.",
    ),
    key(
        "scaler.command",
        Form::Words,
        "",
        r#"["scale-systemd.sh", "{group}", "{replicas}"]"#,
        "A program that gives the group `consumer.group` so many consumers elsewhere, run when the wanted number changes, in place of processes started here.",
    ),
    key(
        "queues.*.foreign",
        Form::Flag,
        "",
        "true",
        "Somebody else's queue: consumed under exactly this name, never declared.",
    ),
    key(
        "queues.*.default_kind",
        Form::Name,
        "",
        r#""image.resize""#,
        "The kind of messages on this queue that name none.",
    ),
    key(
        "queues.*.journal",
        Form::Word(&["full", "ends"]),
        "",
        r#""ends""#,
        "`full`: jobs are in every list as soon as they are queued. `ends`: only when they have run, which is faster.",
    ),
    key(
        "kinds.*.timeout.soft",
        Form::Duration(1),
        "",
        r#""4m""#,
        "Jobs of these kinds are asked to end after this long. The longest pattern that matches counts.",
    ),
    key(
        "kinds.*.timeout.hard",
        Form::Duration(1),
        "",
        r#""5m""#,
        "And are ended, with all their processes, after this long.",
    ),
    key("kinds.*.retry.max", Form::Count(0, 1000), "", "5", "How many retries follow a failed first attempt."),
    key("kinds.*.retry.first", Form::Duration(0), "", r#""10s""#, "The wait before the first retry."),
    key("kinds.*.retry.factor", Form::Number(1.0, 100.0), "", "2.0", "Each wait is this many times the one before."),
    key("kinds.*.retry.jitter", Form::Number(0.0, 1.0), "", "0.2", "Each wait is drawn from this share around itself."),
    key(
        "kinds.*.memory",
        Form::Size(1 << 50),
        "",
        r#""512MiB""#,
        "What the processes of one such job may hold in memory together; beyond it they are ended.",
    ),
    key(
        "kinds.*.files",
        Form::Count(3, 1 << 30),
        "",
        "1024",
        "How many files each process of such a job may have open.",
    ),
    key(
        "kinds.*.limits",
        Form::Names,
        "",
        r#"["mail"]"#,
        "The limits, of those under `limits`, that jobs of these kinds count against.",
    ),
    key(
        "kinds.*.at_most_once",
        Form::Flag,
        "",
        "true",
        "Jobs of these kinds never run a second time: one whose end is not known after a fault is *lost*.",
    ),
    key(
        "kinds.*.run",
        Form::Words,
        "",
        r#"["python", "-m", "images.jobs"]"#,
        "The program whose processes run jobs of these kinds, and its arguments; no shell reads them. It speaks the protocol of `docs/protocol.md`. Kinds with the same `run`, `cwd` and `env` share its processes.",
    ),
    key("kinds.*.cwd", Form::Path, "", r#""/srv/images""#, "Where the program starts."),
    key(
        "kinds.*.env.*",
        Form::Secret,
        "",
        r#""some text""#,
        "A variable of its environment; its value is never shown.",
    ),
    key(
        "kinds.*.processes.min",
        Form::Count(0, 4096),
        "",
        "1",
        "So many of its processes are kept, however little there is to do. Unset: none; one starts with the consumer and says what it serves.",
    ),
    key(
        "kinds.*.processes.max",
        Form::Count(1, 4096),
        "",
        "8",
        "Never more than these; a job waits for a process that is free. Unset: as many as the consumer has slots, and all programs together have no more than that.",
    ),
    key(
        "kinds.*.processes.recycle_jobs",
        Form::Count(1, 1 << 40),
        "",
        "1000",
        "A process is replaced after so many jobs. Unset: 1000.",
    ),
    key(
        "kinds.*.processes.recycle_memory",
        Form::Size(1 << 50),
        "",
        r#""512MiB""#,
        "A process that holds more memory than this after a job, with its children, is replaced.",
    ),
    key(
        "kinds.*.processes.idle",
        Form::Duration(1),
        "",
        r#""60s""#,
        "A process beyond `min` ends after this long without a job. Unset: 60s.",
    ),
    key(
        "kinds.*.processes.start_timeout",
        Form::Duration(1),
        "",
        r#""30s""#,
        "The program says hello within this time of its start. Unset: 30s.",
    ),
    key(
        "limits.*.at_once",
        Form::Count(0, 1_000_000),
        "",
        "3",
        "So many jobs that name this limit run at once, over all consumers. 0: none.",
    ),
    key(
        "limits.*.rate",
        Form::Rate,
        "",
        r#""100/1m""#,
        "So many of them start in each such time. Both can be changed while it runs: `spinor locks`.",
    ),
    key(
        "keep.succeeded",
        Form::Keep,
        r#""30d""#,
        "",
        "How long jobs that succeeded are kept, with their executions, steps, large args and values.",
    ),
    key("keep.failed", Form::Keep, r#""90d""#, "", "The same for jobs that failed."),
    key("keep.discarded", Form::Keep, r#""90d""#, "", "The same for jobs whose executor said: never again."),
    key("keep.cancelled", Form::Keep, r#""90d""#, "", "The same for jobs that a person ended."),
    key("keep.expired", Form::Keep, r#""90d""#, "", "The same for jobs that did not start in time."),
    key("keep.dead", Form::Keep, r#""90d""#, "", "The same for jobs that could not be handled, and for dead letters."),
    key("keep.lost", Form::Keep, r#""90d""#, "", "The same for at-most-once jobs that may have run."),
    key(
        "api.listen",
        Form::Listen,
        "",
        r#""127.0.0.1:7070""#,
        "A TCP address for the API beside its Unix socket. Only this machine's own addresses are taken.",
    ),
    key(
        "api.token",
        Form::Secret,
        "",
        r#""a long random text""#,
        "What a caller over TCP must show. Better kept in the secrets file.",
    ),
    key("api.max_body", Form::Size(1 << 30), r#""65MiB""#, "", "The largest request the API takes."),
    key(
        "recorder.batch",
        Form::Count(1, 100_000),
        "2000",
        "",
        "How many entries the recorder stores in one transaction, about.",
    ),
    key(
        "log.format",
        Form::Word(&["auto", "human", "json"]),
        r#""auto""#,
        "",
        "`auto` is `human` on a terminal and `json` elsewhere.",
    ),
    key(
        "log.level",
        Form::Word(&["error", "warn", "info", "debug", "trace"]),
        r#""info""#,
        "",
        "The least severe level that is written. Also `SPINOR_LOG`.",
    ),
];

/// The keys of the secrets file, and where each goes.
pub const SECRETS: &[(&str, &str)] = &[
    ("broker_password", "into the address of `broker`"),
    ("results_password", "into the address of `results`"),
    ("state_password", "into the address of `state`"),
    ("blobs_access_key", "the key of the bucket in `blobs`, in place of `AWS_ACCESS_KEY_ID`"),
    ("blobs_secret_key", "its secret, in place of `AWS_SECRET_ACCESS_KEY`"),
    ("blobs_session_token", "the token of keys that are valid for a while, in place of `AWS_SESSION_TOKEN`"),
    ("search_password", "into the address of `search`"),
    ("search_api_key", "the API key of `search`, instead of a user and a password"),
    ("api_token", "in place of `api.token`"),
];

impl Key {
    /// Is this the key at a path?
    pub fn is_at(&self, path: &[String]) -> bool {
        let parts: Vec<&str> = self.path.split('.').collect();
        parts.len() == path.len() && parts.iter().zip(path).all(|(part, name)| *part == "*" || part == name)
    }

    /// Does a table at this path hold the key?
    pub fn is_below(&self, path: &[String]) -> bool {
        let parts: Vec<&str> = self.path.split('.').collect();
        parts.len() > path.len() && parts.iter().zip(path).all(|(part, name)| *part == "*" || part == name)
    }
}

/// The key at a path.
pub fn find(path: &[String]) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.is_at(path))
}

impl Form {
    /// What is expected, for people; goes on after "expected".
    pub fn expected(self) -> String {
        match self {
            Self::Text | Self::Secret => "text that is not empty".to_owned(),
            Self::Name => "a name of letters, digits, `.`, `_` and `-`, at most 100".to_owned(),
            Self::Word(words) => format!("one of {}", words.join(", ")),
            Self::Flag => "true or false".to_owned(),
            Self::Count(low, high) => format!("a whole number from {low} to {high}"),
            Self::Number(low, high) => format!("a number from {low} to {high}"),
            Self::Duration(0) => "a duration such as \"250ms\", \"60s\" or \"5m\", at most 7d".to_owned(),
            Self::Duration(low) => format!("a duration such as \"250ms\", \"60s\" or \"5m\", from {low}ms to 7d"),
            Self::Rate => "so many in each such time, such as \"100/1m\"".to_owned(),
            Self::Size(high) => format!("a size such as \"64KiB\" or \"8MiB\", at most {}", bound(high)),
            Self::Names => "a list of names, such as [\"default\", \"images\"]".to_owned(),
            Self::Patterns => "a list of kinds, `prefix*` or `*`, such as [\"image.*\", \"noop\"]".to_owned(),
            Self::Words => "a program and its arguments, such as [\"python\", \"-m\", \"images.jobs\"]".to_owned(),
            Self::Path => "a path".to_owned(),
            Self::Broker => "\"embedded\", or an address such as \"amqp://user@host/vhost\"".to_owned(),
            Self::Results => "\"sqlite\", or an address such as \"mysql://user@host/database\"".to_owned(),
            Self::Blobs => "\"results\", a directory such as \"file:///srv/spinor/blobs\", or a bucket such as \"s3://bucket/prefix?region=eu-central-1\"".to_owned(),
            Self::Keep => "a duration such as \"12h\" or \"30d\", or \"forever\"".to_owned(),
            Self::State => "\"results\", or an address such as \"redis://host\"".to_owned(),
            Self::Search => "\"off\", or an address such as \"https://host:9200\"".to_owned(),
            Self::Listen => "an address and port, such as \"127.0.0.1:7070\"".to_owned(),
        }
    }

    /// Does a value have this form?
    pub fn takes(self, value: &ValueKind) -> bool {
        let all = |check: &dyn Fn(&str) -> bool| match value {
            ValueKind::Array(items) => {
                !items.is_empty()
                    && items.iter().all(|item| matches!(&item.kind, ValueKind::String(text) if check(text)))
            }
            _ => false,
        };
        match (self, value) {
            (Self::Names, _) => all(&is_name),
            (Self::Patterns, _) => all(&|text| KindPattern::new(text).is_ok()),
            (Self::Words, _) => all(&|text| !text.contains('\0')),
            (Self::Flag, ValueKind::Boolean(_)) => true,
            (Self::Count(low, high), ValueKind::I64(number)) => (low..=high).contains(number),
            (Self::Number(low, high), ValueKind::Float(number)) => (low..=high).contains(number),
            (Self::Number(low, high), ValueKind::I64(number)) => (low..=high).contains(&(*number as f64)),
            (_, ValueKind::String(text)) => self.takes_text(text),
            _ => false,
        }
    }

    fn takes_text(self, text: &str) -> bool {
        match self {
            Self::Text | Self::Secret | Self::Path => !text.trim().is_empty() && !text.contains('\0'),
            Self::Name => is_name(text),
            Self::Word(words) => words.contains(&text),
            Self::Duration(low) => measure::duration(text)
                .is_some_and(|time| time.as_millis() >= low.into() && time.as_secs() <= 7 * 86_400),
            Self::Rate => measure::rate(text).is_some(),
            Self::Size(high) => measure::size(text).is_some_and(|size| size > 0 && size <= high),
            Self::Broker => text == "embedded" || endpoint::is(text, &["amqp", "amqps"]),
            Self::Results => text == "sqlite" || endpoint::is(text, &["mysql"]),
            Self::Blobs => blobs::has_form(text),
            Self::Keep => text == "forever" || measure::duration(text).is_some_and(|time| !time.is_zero()),
            Self::State => text == "results" || endpoint::is(text, &["redis", "rediss"]),
            Self::Search => text == "off" || endpoint::is(text, &["http", "https"]),
            Self::Listen => text.parse::<std::net::SocketAddr>().is_ok(),
            Self::Flag | Self::Count(..) | Self::Number(..) | Self::Names | Self::Words | Self::Patterns => false,
        }
    }

    /// The value a text of the environment or of a flag stands for.
    pub fn value(self, text: &str) -> ValueKind {
        let parsed = match self {
            Self::Flag => text.parse().ok().map(ValueKind::Boolean),
            Self::Count(..) => text.parse().ok().map(ValueKind::I64),
            Self::Number(..) => text.parse().ok().map(ValueKind::Float),
            Self::Names | Self::Words | Self::Patterns => Some(ValueKind::Array(
                text.split(',')
                    .map(str::trim)
                    .filter(|part| !part.is_empty())
                    .map(|part| Value::new(None, part))
                    .collect(),
            )),
            _ => None,
        };
        parsed.unwrap_or_else(|| ValueKind::String(text.to_owned()))
    }
}

/// A largest size, for people.
fn bound(bytes: u64) -> String {
    if bytes >= 1 << 40 { format!("{}TiB", bytes >> 40) } else { format!("{}MiB", bytes >> 20) }
}

/// Is it a name: of a queue, a group, a kind?
pub fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 100
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
        // `.` and `..` mean something else in every path.
        && text.chars().any(|c| c != '.')
}
