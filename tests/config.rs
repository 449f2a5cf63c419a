//! The configuration: what wins, what is refused and how, and that its documents are true.

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt, path::Path};

use spinor::config::{Ask, Config, KindConfig, Loaded, Problems, document, keys::KEYS};

use crate::support::scratch::Scratch;

mod secrets;

/// What to load: a file with this text, in surroundings that hold nothing else.
struct Case {
    scratch: Scratch,
    ask: Ask,
}

impl Case {
    fn new(toml: &str) -> Self {
        let scratch = Scratch::new("config");
        scratch.write("spinor.toml", toml);
        let variables = BTreeMap::from([("HOME".to_owned(), "/home/me".to_owned())]);
        let ask = Ask { directory: scratch.path().to_owned(), variables, ..Ask::default() };
        Self { scratch, ask }
    }

    fn set(mut self, name: &str, value: &str) -> Self {
        self.ask.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    fn secrets(self, toml: &str, mode: u32) -> Self {
        let path = self.scratch.write("secrets.toml", toml);
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        self.set("SPINOR_SECRETS", path.to_str().unwrap())
    }

    fn load(&self) -> Result<Loaded, Problems> {
        self.ask.load()
    }

    fn config(&self) -> Config {
        self.load().unwrap_or_else(|problems| panic!("{problems}")).config
    }

    /// Every problem as `place: what`, the scratch directory taken out.
    fn problems(&self) -> Vec<String> {
        let directory = format!("{}/", self.scratch.path().display());
        let problems = self.load().expect_err("it is wrong").0;
        let line =
            |problem: spinor::config::Problem| format!("{}: {}", problem.place, problem.what).replace(&directory, "");
        problems.into_iter().map(line).collect()
    }
}

/// For each key, TOML that sets it to something that is not its default.
const OTHER: &[(&str, &str)] = &[
    ("broker", "broker = 'amqp://u:p@mq/v'"),
    ("broker_prefix", "broker_prefix = 'other'"),
    ("results", "results = 'mysql://u:p@db/spinor'"),
    ("blobs", "blobs = 'file:///b'"),
    ("blobs_ca", "blobs_ca = 'ca.pem'"),
    ("max_args", "max_args = '1MiB'"),
    ("state", "state = 'redis://r'"),
    ("search", "search = 'http://es:9200'"),
    // Nothing speaks TLS in a configuration without servers, so the file is not looked at.
    ("broker_ca", "broker_ca = 'ca.pem'"),
    ("results_ca", "results_ca = 'ca.pem'"),
    ("state_ca", "state_ca = 'ca.pem'"),
    ("search_ca", "search_ca = 'ca.pem'"),
    ("data", "data = '/elsewhere'"),
    ("consumer.group", "[consumer]\ngroup = 'images'"),
    ("consumer.queues", "[consumer]\nqueues = ['images']"),
    ("consumer.kinds", "[consumer]\nkinds = ['image.*']"),
    ("consumer.slots", "[consumer]\nslots = 1234"),
    ("consumer.hold_after", "[consumer]\nhold_after = '1m'"),
    ("consumer.results_bound", "[consumer]\nresults_bound = '1GiB'"),
    ("consumer.grace", "[consumer]\ngrace = '1s'"),
    ("consumer.timeout.soft", "[consumer]\ntimeout.soft = '1s'"),
    ("consumer.timeout.hard", "[consumer]\ntimeout.hard = '2h'"),
    ("outbox.databases", "[outbox]\ndatabases = ['sqlite:///srv/shop.db', 'mysql://u@db/shop']"),
    ("outbox.table", "[outbox]\ntable = 'shop.outbox'"),
    ("scaler.command", "[scaler]\ncommand = ['scale', '{replicas}']"),
    ("queues.*.foreign", "[queues.images]\nforeign = true"),
    ("queues.*.default_kind", "[queues.images]\ndefault_kind = 'image.resize'"),
    ("queues.*.journal", "[queues.images]\njournal = 'ends'"),
    ("kinds.*.timeout.soft", "[kinds.'image.*'.timeout]\nsoft = '1s'\nhard = '2s'"),
    ("kinds.*.timeout.hard", "[kinds.'image.*'.timeout]\nhard = '2s'"),
    ("kinds.*.retry.max", "[kinds.'image.*'.retry]\nmax = 3"),
    ("kinds.*.retry.first", "[kinds.'image.*'.retry]\nmax = 0\nfirst = '3s'"),
    ("kinds.*.retry.factor", "[kinds.'image.*'.retry]\nmax = 0\nfactor = 3.5"),
    ("kinds.*.retry.jitter", "[kinds.'image.*'.retry]\nmax = 0\njitter = 0.9"),
    ("kinds.*.memory", "[kinds.'image.*']\nmemory = '512MiB'"),
    ("kinds.*.files", "[kinds.'image.*']\nfiles = 100"),
    ("keep.succeeded", "[keep]\nsucceeded = 'forever'"),
    ("keep.failed", "[keep]\nfailed = 'forever'"),
    ("keep.discarded", "[keep]\ndiscarded = 'forever'"),
    ("keep.cancelled", "[keep]\ncancelled = 'forever'"),
    ("keep.expired", "[keep]\nexpired = 'forever'"),
    ("keep.dead", "[keep]\ndead = 'forever'"),
    ("keep.lost", "[keep]\nlost = 'forever'"),
    ("keep.audit", "[keep]\naudit = 'forever'"),
    ("kinds.*.limits", "[kinds.'image.*']\nlimits = ['mail']\n[limits.mail]\nat_once = 1"),
    ("kinds.*.at_most_once", "[kinds.'image.*']\nat_most_once = true"),
    ("kinds.*.run", "[kinds.'image.*']\nrun = ['p']"),
    ("kinds.*.cwd", "[kinds.'image.*']\nrun = ['p']\ncwd = '/x'"),
    ("kinds.*.env.*", "[kinds.'image.*']\nrun = ['p']\nenv.MODE = 'Fast'"),
    ("kinds.*.processes.min", "[kinds.'image.*']\nrun = ['p']\nprocesses.min = 1"),
    ("kinds.*.processes.max", "[kinds.'image.*']\nrun = ['p']\nprocesses.max = 1"),
    ("kinds.*.processes.recycle_jobs", "[kinds.'image.*']\nrun = ['p']\nprocesses.recycle_jobs = 7"),
    ("kinds.*.processes.recycle_memory", "[kinds.'image.*']\nrun = ['p']\nprocesses.recycle_memory = '1GiB'"),
    ("kinds.*.processes.idle", "[kinds.'image.*']\nrun = ['p']\nprocesses.idle = '1s'"),
    ("kinds.*.processes.start_timeout", "[kinds.'image.*']\nrun = ['p']\nprocesses.start_timeout = '1s'"),
    ("limits.*.at_once", "[limits.mail]\nat_once = 3"),
    ("limits.*.rate", "[limits.mail]\nrate = '100/1m'"),
    ("triggers.*.cron", "[triggers.t]\ncron = '@daily'\njob.kind = 'noop'"),
    ("triggers.*.zone", "[triggers.t]\ncron = '@daily'\nzone = 'Europe/Berlin'\njob.kind = 'noop'"),
    ("triggers.*.every", "[triggers.t]\nevery = '5m'\njob.kind = 'noop'"),
    ("triggers.*.from", "[triggers.t]\nevery = '5m'\nfrom = 'last-end'\njob.kind = 'noop'"),
    ("triggers.*.at", "[triggers.t]\nat = 2030-01-31T12:00:00Z\njob.kind = 'noop'"),
    ("triggers.*.job", "[triggers.t]\nevery = '5m'\njob = { kind = 'noop', args = { a = [1, { b = 2.5 }] } }"),
    ("triggers.*.each", "[triggers.t]\nevery = '5m'\neach = ['a', { b = [1, 2.5] }]\njob.kind = 'noop'"),
    ("triggers.*.misfire", "[triggers.t]\nevery = '5m'\nmisfire = 'all'\njob.kind = 'noop'"),
    ("triggers.*.overlap", "[triggers.t]\nevery = '5m'\noverlap = 'queue'\njob.kind = 'noop'"),
    ("triggers.*.start", "[triggers.t]\nevery = '5m'\nstart = '2030-01-31T12:00:00Z'\njob.kind = 'noop'"),
    ("triggers.*.end", "[triggers.t]\nevery = '5m'\nend = '2030-01-31T12:00:00Z'\njob.kind = 'noop'"),
    ("triggers.*.blackout", "[triggers.t]\nevery = '5m'\nblackout = ['22:00-06:00']\njob.kind = 'noop'"),
    ("triggers.*.jitter", "[triggers.t]\nevery = '5m'\njitter = '30s'\njob.kind = 'noop'"),
    ("triggers.*.max_runs", "[triggers.t]\nevery = '5m'\nmax_runs = 3\njob.kind = 'noop'"),
    ("triggers.*.paused", "[triggers.t]\nevery = '5m'\npaused = true\njob.kind = 'noop'"),
    ("notify.*.url", "[notify.ops]\nurl = 'https://chat/hook'"),
    ("notify.*.mail", "[notify.ops]\nmail = 'a@b.org'\nsmtp = 'smtp://mail'\nfrom = 'c@b.org'"),
    ("notify.*.smtp", "[notify.ops]\nmail = 'a@b.org'\nsmtp = 'smtp://mail'\nfrom = 'c@b.org'"),
    ("notify.*.from", "[notify.ops]\nmail = 'a@b.org'\nsmtp = 'smtp://mail'\nfrom = 'c@b.org'"),
    ("notify.*.on", "[notify.ops]\nurl = 'https://chat/hook'\non = ['lost']"),
    ("notify.*.kinds", "[notify.ops]\nurl = 'https://chat/hook'\nkinds = ['image.*']"),
    ("notify.*.queues", "[notify.ops]\nurl = 'https://chat/hook'\nqueues = ['images']"),
    ("notify.*.groups", "[notify.ops]\nurl = 'https://chat/hook'\ngroups = ['images']"),
    ("notify.*.window", "[notify.ops]\nurl = 'https://chat/hook'\nwindow = '1h'"),
    ("api.listen", "[api]\nlisten = '127.0.0.1:7070'\ntoken = 't'"),
    ("api.token", "[api]\ntoken = 't'"),
    ("api.page", "[api]\npage = false"),
    ("api.hosts", "[api]\nhosts = ['spinor.example']"),
    ("api.tls.cert", "[api]\ntls = { cert = '/c', key = '/k' }"),
    ("api.proxy.header", "[api.proxy]\nheader = 'X-User'\nfrom = ['::1']"),
    ("api.proxy.from", "[api.proxy]\nheader = 'X-User'\nfrom = ['127.0.0.1']"),
    ("api.proxy.roles", "[api.proxy]\nheader = 'X-User'\nfrom = ['::1']\nroles = ['viewer']"),
    ("api.tls.key", "[api]\ntls = { cert = '/c', key = '/k' }"),
    ("api.max_body", "[api]\nmax_body = '1MiB'"),
    ("recorder.batch", "[recorder]\nbatch = 7"),
    ("log.format", "[log]\nformat = 'json'"),
    ("log.level", "[log]\nlevel = 'debug'"),
];

#[test]
fn every_key_changes_something_and_is_shown_with_its_line() {
    let base = Case::new("").config();
    for key in KEYS.iter().filter(|key| key.path != "secrets") {
        let (_, toml) =
            OTHER.iter().find(|(path, _)| *path == key.path).unwrap_or_else(|| panic!("no case for {}", key.path));
        let loaded = Case::new(toml).load().unwrap_or_else(|problems| panic!("{}: {problems}", key.path));
        assert_ne!(loaded.config, base, "{} changes nothing", key.path);
        assert!(loaded.shown.iter().any(|line| line.origin.contains("spinor.toml:")), "{} is not shown", key.path);
    }
    assert_eq!(OTHER.len() + 1, KEYS.len(), "a case for a key that is gone");
}

#[test]
fn a_retry_key_alone_changes_the_policy() {
    let policy = |toml: &str| Case::new(toml).config().limits_of("image.resize").retry;
    let base = policy("[kinds.'image.*'.retry]\nmax = 0");
    for (path, toml) in OTHER.iter().filter(|(path, _)| path.starts_with("kinds.*.retry.")) {
        assert_ne!(policy(toml), base, "{path}");
    }
}

#[test]
fn a_program_keeps_the_names_of_its_environment_and_what_makes_no_sense_is_refused() {
    let toml =
        "[kinds.'image.*']\nrun = ['p', 'a b']\nenv.MODE = 'Fast'\n[kinds.x]\nrun = ['p', 'a b']\nenv.MODE = 'Fast'";
    let case = Case::new(toml);
    let kinds = case.config().kinds;
    let program = kinds["image.*"].program.as_ref().unwrap();
    assert_eq!((program.run.join("|"), program.env["MODE"].as_str()), ("p|a b".to_owned(), "Fast"));
    assert!(kinds["x"].program.as_ref().is_some_and(|other| other.is_same(program)));
    let shown = case.load().unwrap().shown;
    assert!(shown.iter().all(|line| !line.value.contains("Fast")), "{shown:?}");
    for (toml, word) in [
        ("[kinds.x]\ncwd = '/x'", "`kinds.x.cwd`: is of no use without"),
        ("[kinds.x]\nrun = ['']", "empty first word"),
        ("[kinds.x]\nrun = []", "a program and its arguments"),
        ("[kinds.x]\nrun = ['p']\nprocesses = { min = 3, max = 2 }", "`min` is 3, more than"),
        ("[kinds.x]\nrun = ['p']\n[kinds.y]\nrun = ['p']\nprocesses.max = 1", "`kinds.y.processes`: differ from"),
        ("[kinds.x]\nrun = ['p']\nprocesses.most = 1", "`kinds.x.processes.most` is no key"),
    ] {
        let problems = Case::new(toml).problems();
        assert!(problems.len() == 1 && problems[0].contains(word), "{toml}: {problems:?}");
    }
}

#[test]
fn the_written_file_loads_and_changes_nothing() {
    let base = Case::new("").config();
    assert_eq!(Case::new(&document::file()).config(), base);
    // With every comment of a value taken away, each line must still be a key with a good value.
    let open: String = document::file()
        .lines()
        .map(|line| {
            line.strip_prefix("# ").filter(|rest| rest.contains(" = ") || rest.starts_with('[')).unwrap_or(line)
        })
        .filter(|line| !line.contains(" is slots in "))
        .fold(String::new(), |text, line| text + line + "\n");
    // A trigger fires in one of three ways, and a notice goes to a web-hook or to people.
    let people = ["every", "at", "mail", "smtp", "from"];
    for others in [&people[..], &["cron", "zone", "at", "url"], &["cron", "zone", "every", "url"]] {
        let is_other = |line: &&str| !others.iter().any(|other| line.starts_with(&format!("{other} = ")));
        let open: String = open.lines().filter(is_other).fold(String::new(), |text, line| text + line + "\n");
        let case = Case::new(&open.replace("/etc/spinor/secrets.toml", "secrets.toml"));
        let problems = case.load().map_or_else(|problems| problems.0, |_| Vec::new());
        assert!(problems.iter().all(|problem| problem.what.contains("`secrets`")), "{problems:#?}\n{open}");
    }
}

#[test]
fn the_page_on_the_configuration_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/config.md");
    if std::env::var_os("WRITE_DOCS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, document::page()).unwrap();
    }
    let page = fs::read_to_string(&path).unwrap_or_default();
    assert!(page == document::page(), "docs/config.md is not what the keys say; WRITE_DOCS=1 cargo test writes it");
}

#[test]
fn flags_win_over_variables_and_variables_over_the_file() {
    let toml = "[consumer]\nslots = 1\ngroup = 'file'\nqueues = ['file']\n";
    let mut case = Case::new(toml)
        .set("SPINOR_CONSUMER__GROUP", "variable")
        .set("SPINOR_CONSUMER__QUEUES", "a, b")
        .set("SPINOR_LOG", "warn");
    case.ask.flags.push(("consumer.queues", "flag".to_owned(), "--queues"));
    let loaded = case.load().unwrap();
    let consumer = &loaded.config.consumer;
    assert_eq!(
        (consumer.slots, consumer.group.as_str(), consumer.queues.as_slice()),
        (1, "variable", &["flag".to_owned()][..])
    );
    let origin = |key: &str| loaded.shown.iter().find(|line| line.key == key).map(|line| line.origin.clone()).unwrap();
    assert!(origin("consumer.slots").ends_with("spinor.toml:2"));
    assert_eq!(origin("consumer.group"), "SPINOR_CONSUMER__GROUP");
    assert_eq!(origin("consumer.queues"), "--queues");
    assert_eq!(origin("consumer.grace"), "default");
    assert_eq!((origin("log.level"), loaded.config.log.level), ("SPINOR_LOG".to_owned(), "warn".to_owned()));
    assert_eq!(Case::new("").set("SPINOR_CONSUMER__QUEUES", "a, b").config().consumer.queues, ["a", "b"]);
}

#[test]
fn the_first_file_that_is_there_is_read() {
    let case = Case::new("broker_prefix = 'here'");
    let other = case.scratch.write("other.toml", "broker_prefix = 'variable'");
    let named = case.scratch.write("named.toml", "broker_prefix = 'flag'");
    fs::create_dir_all(case.scratch.join("xdg/spinor")).unwrap();
    case.scratch.write("xdg/spinor/config.toml", "broker_prefix = 'xdg'");
    let mut case = case.set("XDG_CONFIG_HOME", "");
    let xdg = case.scratch.join("xdg").to_str().unwrap().to_owned();
    case = case.set("XDG_CONFIG_HOME", &xdg);
    assert_eq!(case.config().broker_prefix, "here");
    case.ask.directory = case.scratch.join("nowhere");
    assert_eq!(case.config().broker_prefix, "xdg");
    case = case.set("SPINOR_CONFIG", other.to_str().unwrap());
    assert_eq!(case.config().broker_prefix, "variable");
    case.ask.file = Some(named);
    assert_eq!(case.config().broker_prefix, "flag");
    case.ask.file = Some(case.scratch.join("missing.toml"));
    assert_eq!(case.problems(), ["missing.toml: cannot be read: No such file or directory (os error 2)"]);
}

#[test]
fn every_problem_is_reported_at_once_and_at_its_place() {
    let toml = "\
broker = \"ampq://user:hush@mq\"
[consumer]
slots = \"many\"
grace = 60
qeues = [\"a\"]
queues = []
[kinds.\"*.resize\".timeout]
hard = \"1s\"
[queues.\"a b\"]
journal = \"half\"
[consumre]
slots = 1
";
    let mut case = Case::new(toml).set("SPINOR_CONSUMER__SLOTS", "0").set("SPINOR_COLOUR", "red");
    case.ask.flags.push(("log.level", "loud".to_owned(), "--log-level"));
    let problems = case.problems();
    let expect = [
        "spinor.toml:1: `broker` is \"ampq://user:***@mq\", expected \"embedded\", or an address such as",
        "spinor.toml:3: `consumer.slots` is \"many\", expected a whole number from 1 to 4096",
        "spinor.toml:4: `consumer.grace` is 60, expected a duration such as \"250ms\", \"60s\" or \"5m\"",
        "spinor.toml:5: `consumer.qeues` is no key; did you mean `consumer.queues`?",
        "spinor.toml:6: `consumer.queues` is [], expected a list of names",
        "spinor.toml:10: `queues.a b.journal` is \"half\", expected one of full, ends",
        "spinor.toml:12: `consumre.slots` is no key; did you mean `consumer.slots`?",
        "SPINOR_CONSUMER__SLOTS: `consumer.slots` is 0, expected a whole number from 1 to 4096",
        "SPINOR_COLOUR: `colour` is no key",
        "--log-level: `log.level` is \"loud\", expected one of error, warn, info, debug, trace",
    ];
    for start in expect {
        assert!(problems.iter().any(|problem| problem.starts_with(start)), "{start}\nnot in\n{problems:#?}");
    }
    assert_eq!(problems.len(), expect.len(), "{problems:#?}");
    assert!(!problems.join("\n").contains("hush"));
}

#[test]
fn rules_between_keys_are_reported_at_once_too() {
    let toml = "\
broker = 'amqp://mq'
[api]
listen = '0.0.0.0:7070'
[kinds.'a.*'.timeout]
soft = '1m'
[kinds.'*.b'.timeout]
soft = '2m'
hard = '1m'
[kinds.c.retry]
first = '1s'
";
    let mut case = Case::new(toml);
    case.ask.consumes = true;
    let problems = case.problems();
    for part in [
        "spinor.toml:1: `broker`: with a broker that others reach, `consumer.kinds` must list",
        "spinor.toml:3: `api.listen`: 0.0.0.0:7070 can be reached from other machines",
        "spinor.toml:3: `api.listen`: needs a token",
        "spinor.toml:5: `kinds.a.*.timeout`: has no `hard` limit",
        "`kinds.*.b`: `*.b`: a `*` may stand only at the end",
        "`soft` is 2m, later than `hard` with 1m",
        "spinor.toml:10: `kinds.c.retry`: has no `max`",
    ] {
        assert!(problems.iter().any(|problem| problem.contains(part)), "{part}\nnot in\n{problems:#?}");
    }
    assert_eq!(problems.len(), 7, "{problems:#?}");
}

#[test]
fn what_is_wrong_with_a_trigger_is_told_with_its_field_and_line() {
    let table = [
        ("every = '5m'", "spinor.toml:2: `triggers.t.job`: is missing"),
        ("job.kind = 'noop'", "spinor.toml:2: `triggers.t.cron`: is missing, and so are `every` and `at`"),
        ("cron = '0 25 * * *'\njob.kind = 'noop'", "spinor.toml:2: `triggers.t.cron`: hour, column 3: 25 is not"),
        ("zone = 'Moon'\ncron = '@daily'\njob.kind = 'noop'", "spinor.toml:2: `triggers.t.zone`: `Moon` is no time"),
        ("every = '5m'\njob = { kind = 'noop', delay = '5m' }", "spinor.toml:3: `triggers.t.job`: `job.delay` is not"),
        ("every = '5m'\njob = 'noop'", "spinor.toml:3: `triggers.t.job` is \"noop\", expected a job, such as"),
        ("every = '5m'\nat = 2030-01-31T12:00:00Z\njob.kind = 'noop'", "spinor.toml:2: `triggers.t.every`: stands"),
        (
            "every = '8d'\njob = { kind = 'command', args = { argv = 7 } }",
            "spinor.toml:3: `triggers.t.job`: `job.args.argv` expected",
        ),
        (
            "every = '5m'\neach = { sql = 'SELECT 1', database = 'pg://u:geheim@h/d' }\njob.kind = 'noop'",
            "spinor.toml:3: `triggers.t.each`: has a `database` that is no address",
        ),
        ("every = '5m'\neach = { limit = 1 }\njob.kind = 'noop'", "spinor.toml:3: `triggers.t.each`: says neither"),
        ("evry = '5m'", "spinor.toml:2: `triggers.t.evry` is no key; did you mean `triggers.*.every`?"),
    ];
    for (lines, start) in table {
        let problems = Case::new(&format!("[triggers.t]\n{lines}\n")).problems();
        assert!(problems.len() == 1 && problems[0].starts_with(start), "{lines}: {problems:#?}");
        assert!(!problems[0].contains("geheim"), "{problems:#?}");
    }
    let problems = Case::new("[triggers.'a b']\nevery = '5m'\njob.kind = 'noop'").problems();
    assert!(problems[0].contains("`triggers.a b`: expected a name"), "{problems:?}");
}

#[test]
fn what_is_no_toml_is_told_with_line_and_column() {
    let problems = Case::new("[api]\nlisten = 127\n\nx = = 1\n").problems();
    assert_eq!(problems.len(), 1);
    assert!(problems[0].starts_with("spinor.toml:4:5: is no TOML here: "), "{problems:?}");
}

#[test]
fn the_longest_pattern_counts_and_an_exact_kind_before_all() {
    let toml = "\
[kinds.'*'.timeout]
hard = '9s'
[kinds.'image.*'.retry]
max = 3
[kinds.'image.*'.timeout]
hard = '2s'
[kinds.'image.resize'.timeout]
hard = '1s'
";
    let config = Case::new(toml).config();
    let seconds = |limits: KindConfig| limits.timeout.map(|timeout| timeout.hard.as_secs());
    assert_eq!(seconds(config.limits_of("image.resize")), Some(1));
    assert_eq!(seconds(config.limits_of("image.crop")), Some(2));
    assert_eq!(seconds(config.limits_of("noop")), Some(9));
    assert_eq!(config.limits_of("image.resize").retry.map(|retry| retry.max()), Some(3));
}

#[test]
fn a_queue_is_not_named_like_a_lane_unless_it_is_somebody_elses() {
    let toml = "[consumer]
queues = ['a.high', 'b.low', 'c']
[queues.'b.low']
foreign = true
[queues.'d.low']
journal = 'ends'
";
    let problems = Case::new(toml).problems();
    let expect = [
        "spinor.toml:2: `consumer.queues`: names a queue `a.high`; names that end in `.high` or `.low` are kept",
        "spinor.toml:6: `queues.d.low`: names a queue `d.low`",
    ];
    assert_eq!(problems.len(), expect.len(), "{problems:#?}");
    for (problem, start) in problems.iter().zip(expect) {
        assert!(problem.starts_with(start), "{start}\nnot in\n{problems:#?}");
    }
}
