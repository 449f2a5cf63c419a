//! Every key of the configuration, once: name, form, default, meaning.
//!
//! The table is what checks a value, what fills in defaults, what `config init` and
//! `docs/config.md` are written from. A key that is not here is refused.

pub use super::form::{Form, is_name};

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
        "triggers.*.cron",
        Form::Text,
        "",
        r#""0 3 * * *""#,
        "When it fires: a cron expression of five fields, or six with the seconds first. One of `cron`, `every` and `at`; see `docs/triggers.md`.",
    ),
    key(
        "triggers.*.zone",
        Form::Text,
        "",
        r#""Europe/Paris""#,
        "The time zone of the cron expression and of `blackout`, by its name in the IANA's list. Unset: UTC.",
    ),
    key(
        "triggers.*.every",
        Form::Period(1000),
        "",
        r#""5m""#,
        "It fires at each multiple of this since 1970, or so long after each job.",
    ),
    key(
        "triggers.*.from",
        Form::Word(&["1970", "last-end"]),
        "",
        r#""last-end""#,
        "From where `every` counts: from 1970, or from the end of the job before. Unset: `1970`.",
    ),
    key("triggers.*.at", Form::Moment, "", "2030-01-31T12:00:00Z", "It fires once, then."),
    key(
        "triggers.*.job",
        Form::Job,
        "",
        r#"{ kind = "image.sweep", queue = "images" }"#,
        "What it fires: the fields of a job as `spinor publish` and `POST /jobs` take them, but for `id`, `delay`, `unique`, `run` and `member`.",
    ),
    key(
        "triggers.*.each",
        Form::Items,
        "",
        r#"["north", "south"]"#,
        "A job for each of these items, in one run; `{\"$item\": \".\"}` in its args is the item, `{\"$item\": \"a.b\"}` a field of it. Or who tells the items, asked by a job of the kind `spinor.each`: `{ sql = \"..\", database = \"mysql://..\" }` or `{ command = [..] }`, with `timeout`, `limit` and `queue`; see `docs/triggers.md`.",
    ),
    key(
        "triggers.*.misfire",
        Form::Word(&["skip", "once", "all"]),
        "",
        r#""once""#,
        "What is done about instants that nobody fired in their time: nothing, the last of them fires, or each (the last 100). Unset: `once`.",
    ),
    key(
        "triggers.*.overlap",
        Form::Word(&["allow", "skip", "queue"]),
        "",
        r#""skip""#,
        "What is done at an instant when the job of an earlier one has not ended: both run, the instant is skipped, or one waits. Unset: `skip`.",
    ),
    key("triggers.*.start", Form::Moment, "", "2030-01-01T00:00:00Z", "Nothing fires before this."),
    key("triggers.*.end", Form::Moment, "", "2030-12-31T00:00:00Z", "And nothing after this."),
    key(
        "triggers.*.blackout",
        Form::Blackouts,
        "",
        r#"["22:00-06:00", "sat,sun 00:00-24:00"]"#,
        "Windows in which nothing fires, by the clock of `zone`: each day, on days of the week, or once (`2026-12-24T00:00/2026-12-27T00:00`).",
    ),
    key(
        "triggers.*.jitter",
        Form::Period(0),
        "",
        r#""30s""#,
        "Each instant is put off by up to this long, drawn once for each.",
    ),
    key("triggers.*.max_runs", Form::Count(1, 1 << 40), "", "10", "It ends after so many jobs."),
    key("triggers.*.paused", Form::Flag, "", "true", "It begins paused."),
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
    key("keep.audit", Form::Keep, r#""365d""#, "", "How long it is kept who did what."),
    key(
        "api.listen",
        Form::Listen,
        "",
        r#""127.0.0.1:7070""#,
        "A TCP address for the API beside its Unix socket. Beyond this machine it needs `api.tls`.",
    ),
    key(
        "api.hosts",
        Form::Names,
        "",
        r#"["spinor.example.org"]"#,
        "The names that the API answers to, besides those of this machine and, beyond it, addresses.",
    ),
    key(
        "api.token",
        Form::Secret,
        "",
        r#""a long random text""#,
        "What a caller over TCP must show. Better kept in the secrets file.",
    ),
    key(
        "api.page",
        Form::Flag,
        "true",
        "",
        "With no `api.listen`, `spinor up` with all parts listens for the page on 127.0.0.1:7070 or, when that is taken, on another port; its token is made once and kept in the data directory. `false`: no TCP at all.",
    ),
    key("api.max_body", Form::Size(1 << 30), r#""65MiB""#, "", "The largest request the API takes."),
    key(
        "api.tls.cert",
        Form::Path,
        "",
        r#""/etc/spinor/cert.pem""#,
        "The certificate that the API shows, and those between it and its authority, as PEM; read again when the file changes.",
    ),
    key("api.tls.key", Form::Path, "", r#""/etc/spinor/key.pem""#, "Its private key, as PEM."),
    key(
        "recorder.batch",
        Form::Count(1, 100_000),
        "2000",
        "",
        "How many entries the recorder stores in one transaction, about.",
    ),
    key(
        "outbox.databases",
        Form::Databases,
        "",
        r#"["mysql://shop@db/shop", "sqlite:///srv/shop/shop.db"]"#,
        "Databases of programs that publish from inside a transaction: the part `recorder` publishes what they commit into the table of an outbox, see `docs/python.md`.",
    ),
    key(
        "outbox.table",
        Form::Name,
        r#""spinor_outbox""#,
        "",
        "The name of that table, the same in each of them; perhaps with a schema before a dot.",
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
