//! The servers of a test run, and private ones that a fault test may kill, freeze and restart.
//!
//! Owns the names of the environment variables by which `make test` hands servers over. Refuses to
//! start or know a server itself: `deploy/servers` does, the same script people use.

use std::{collections::BTreeMap, path::PathBuf, process::Stdio};

use super::scratch;

/// The shared RabbitMQ: `amqp://user:password@host:port/%2f`. Tests keep apart by a name prefix each.
pub fn rabbitmq_url() -> String {
    required("SPINOR_TEST_RABBITMQ_URL")
}

/// The shared MariaDB or MySQL: `mysql://user:password@host:port/database`. Tests make databases of their own.
pub fn mysql_url() -> String {
    required("SPINOR_TEST_MYSQL_URL")
}

/// The shared search server: `http://host:port`. Tests keep apart by an index prefix each.
pub fn search_url() -> String {
    required("SPINOR_TEST_SEARCH_URL")
}

/// The shared Redis: `redis://:password@host:port/0`. Tests keep apart by a key prefix each.
pub fn redis_url() -> String {
    required("SPINOR_TEST_REDIS_URL")
}

/// The shared server of S3: `http://key:secret@host:port`. Tests keep apart by a bucket each.
pub fn s3_url() -> String {
    required("SPINOR_TEST_S3_URL")
}

/// Where it keeps each bucket as a directory.
pub fn s3_buckets() -> PathBuf {
    required("SPINOR_TEST_S3_BUCKETS").into()
}

fn required(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!("{variable} is not set: run `make test`, or `deploy/test.sh TEST-NAME`, which start the servers")
    })
}

fn kind(variable: &str, ordinary: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| ordinary.to_owned())
}

/// A server of this test alone. Dropped = killed, and its data removed unless the test is failing.
pub struct PrivateServer {
    directory: PathBuf,
    details: BTreeMap<String, String>,
}

impl PrivateServer {
    /// The kind of database this run is about: MariaDB, or what `SPINOR_TEST_SQL` names.
    pub async fn sql() -> Self {
        Self::start(&kind("SPINOR_TEST_SQL", "mariadb")).await
    }

    /// The kind of search server this run is about: Elasticsearch, or what `SPINOR_TEST_ENGINE` names.
    pub async fn search() -> Self {
        Self::start(&kind("SPINOR_TEST_ENGINE", "elasticsearch")).await
    }

    /// Starts a server by its name (`rabbitmq`, `mariadb`, `redis`, `s3`, `elasticsearch`, `opensearch`) and awaits its readiness.
    pub async fn start(name: &str) -> Self {
        Self::start_with(name, &[]).await
    }

    /// The same with options of `deploy/servers`, such as `["--set", "consumer_timeout = 70000"]`.
    pub async fn start_with(name: &str, options: &[&str]) -> Self {
        let directory = scratch::parent().join(format!("{name}-{}", uuid::Uuid::now_v7().simple()));
        let mut server = Self { directory, details: BTreeMap::new() };
        let owner = std::process::id().to_string();
        let directory = server.directory.display().to_string();
        let arguments = [&["start", name, &directory, "--owner", &owner], options].concat();
        server.details = parse(&run(&arguments).await);
        server
    }

    /// How a client reaches it, with its password; the same after a restart.
    pub fn url(&self) -> &str {
        self.detail("url").expect("a started server has a url")
    }

    /// `host:port`, for a [`super::proxy::CutProxy`] in front of it.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.detail("port").expect("a started server has a port"))
    }

    /// Another detail that `deploy/servers` names, such as `management`.
    pub fn detail(&self, name: &str) -> Option<&str> {
        self.details.get(name).map(String::as_str)
    }

    /// Ends all its processes at once, without a word; the data stay.
    pub async fn kill9(&self) {
        self.command("kill").await;
    }

    /// Ends it in an orderly way; the data stay.
    pub async fn stop(&self) {
        self.command("stop").await;
    }

    /// Stops all its processes where they are: connections stay open and nothing answers.
    pub async fn freeze(&self) {
        self.command("freeze").await;
    }

    /// Lets them go on.
    pub async fn thaw(&self) {
        self.command("thaw").await;
    }

    /// Starts it again on its port and data, ending it first if it lives, and awaits its readiness.
    pub async fn restart(&self) {
        self.command("restart").await;
    }

    /// Runs `rabbitmqctl` with these arguments on it and returns what it printed.
    pub async fn ctl(&self, arguments: &[&str]) -> String {
        run(&[&["ctl", &self.directory.display().to_string()], arguments].concat()).await
    }

    async fn command(&self, verb: &str) {
        run(&[verb, &self.directory.display().to_string()]).await;
    }
}

impl Drop for PrivateServer {
    fn drop(&mut self) {
        let verb = if std::thread::panicking() { "leave" } else { "remove" };
        let removed = std::process::Command::new(script()).arg(verb).arg(&self.directory).status();
        if !removed.is_ok_and(|status| status.success()) {
            eprintln!("{} could not be removed", self.directory.display());
        }
    }
}

fn script() -> PathBuf {
    std::env::var_os("SPINOR_TEST_SERVERS")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("deploy/servers"), PathBuf::from)
}

async fn run(arguments: &[&str]) -> String {
    let mut command = tokio::process::Command::new(script());
    let done = command.args(arguments).stdin(Stdio::null()).output().await.expect("deploy/servers can be run");
    let log = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "deploy/servers {}: {}\n{log}", arguments.join(" "), done.status);
    String::from_utf8_lossy(&done.stdout).into_owned()
}

fn parse(lines: &str) -> BTreeMap<String, String> {
    lines.lines().filter_map(|line| line.split_once('=')).map(|(name, value)| (name.into(), value.into())).collect()
}
