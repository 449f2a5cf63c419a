//! One round's own place: a directory, a configuration, names on the broker, a child process.
//!
//! Owns making and removing them. Refuses to use the names or the directory of a running Spinor.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::{self, File, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use spinor_consumers::broker::{AnyBroker, Broker, QueueSpec};
use spinor_executors::KindPattern;
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Place, Request, Workload, floors, programs};
use crate::{
    app::{App, Parts, Role},
    client::Client,
    config::{Config, Journal, QueueConfig, ResultsChoice, SearchChoice},
};

/// The work queue of every round.
pub const QUEUE: &str = "bench";
const PATIENCE: Duration = Duration::from_secs(30);

/// One round's own place.
pub struct Site {
    /// Removed with the whole run's directory.
    pub dir: PathBuf,
    /// What the product is told.
    pub config: Arc<Config>,
    /// The same as a file, for a child.
    pub file: PathBuf,
}

impl Site {
    /// Makes it.
    pub fn new(place: &Place, request: &Request) -> Result<Self> {
        let id = Uuid::now_v7().simple().to_string();
        // The end of the id is random; its start is the time.
        let dir = place.scratch.join(&id[20..]);
        fs::create_dir_all(&dir)?;
        let mut config = (*place.config).clone();
        config.broker_prefix = format!("spinor-bench-{}", &id[20..]);
        config.data = dir.join("data");
        config.search = SearchChoice::Off;
        config.api.listen = None;
        config.consumer.queues = vec![QUEUE.to_owned()];
        config.consumer.kinds = Some(vec![KindPattern::new(kind(request)).map_err(anyhow::Error::msg)?]);
        config.consumer.slots = request.slots;
        let journal = if request.journal { Journal::Full } else { Journal::Ends };
        config.queues = BTreeMap::from([(QUEUE.to_owned(), QueueConfig { journal, ..QueueConfig::default() })]);
        config.kinds = BTreeMap::new();
        let file = dir.join("spinor.toml");
        let mut written = text(place, &config, request)?;
        if request.workload == Workload::Programs {
            let program = serde_json::to_string(&programs::write(&dir)?.to_string_lossy())?;
            let (kind, slots) = (programs::KIND, request.slots);
            // Warm from the start to the end.
            let processes = format!("{{ min = {slots}, max = {slots}, recycle_jobs = 1000000000 }}");
            writeln!(written, "[kinds.'{kind}']\nrun = ['python3', {program}]\nprocesses = {processes}")?;
        }
        // It may hold passwords.
        let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file)?;
        out.write_all(written.as_bytes())?;
        Ok(Self { dir, config: Arc::new(config), file })
    }

    /// Broker and record of this place, for who publishes and checks here; no part runs.
    pub async fn open(&self) -> Result<App> {
        let parts = Parts { api: false, consumer: false, recorder: false, trigger: false };
        let role = Role { parts, nodes: Vec::new(), jobs: false, record: None, supervises: None, own: None };
        App::build(Arc::clone(&self.config), role, &CancellationToken::new()).await
    }

    /// Starts the product with these parts and waits until it consumes.
    pub async fn start(&self, only: &str, broker: &AnyBroker) -> Result<Running> {
        let log = self.dir.join("log");
        let mut command = own_program()?;
        command.args(["up", "--only", only, "--config"]).arg(&self.file);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?).spawn()?;
        let mut running = Running { pid: child.id().context("the child has ended already")?, child, log };
        let start = Instant::now();
        let queues = [QUEUE.to_owned()];
        while broker.stats(&queues).await?.iter().all(|queue| queue.consumers == 0) {
            if running.child.try_wait()?.is_some() || start.elapsed() > PATIENCE {
                bail!("the product did not start to consume: {}", running.said());
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(running)
    }

    /// Starts the product with every part and waits until it answers.
    pub async fn start_whole(&self) -> Result<Running> {
        let log = self.dir.join("log");
        let mut command = own_program()?;
        command.args(["up", "--config"]).arg(&self.file);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?).spawn()?;
        let mut running = Running { pid: child.id().context("the child has ended already")?, child, log };
        let client = Client::unix(self.config.socket())?;
        let start = Instant::now();
        while client.status().await.is_err() {
            if running.child.try_wait()?.is_some() || start.elapsed() > PATIENCE {
                bail!("the product did not start to answer: {}", running.said());
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(running)
    }

    /// Starts another process that fires and does nothing else; it waits for the death of who does.
    pub async fn start_trigger(&self) -> Result<Running> {
        let (log, data) = (self.dir.join("log-trigger"), self.dir.join("data-trigger"));
        let mut command = own_program()?;
        command.args(["up", "--only", "trigger", "--data"]).arg(data).arg("--config").arg(&self.file);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?).spawn()?;
        Ok(Running { pid: child.id().context("the child has ended already")?, child, log })
    }

    /// Declares the work queue, so that jobs can be published before anybody consumes.
    pub async fn declare(&self, broker: &AnyBroker) -> Result<()> {
        Ok(broker.declare(&[QueueSpec { name: QUEUE.to_owned(), foreign: false }]).await?)
    }

    /// Removes what it left on a broker that others use.
    pub async fn sweep(&self, place: &Place) -> Result<()> {
        let Some(url) = place.amqp() else { return Ok(()) };
        if floors::program().is_some() {
            floors::line(&["sweep", "--url", url, "--prefix", &self.config.broker_prefix, "--queue", QUEUE]).await?;
        }
        Ok(())
    }
}

/// What its jobs are.
pub const fn kind(request: &Request) -> &'static str {
    match request.workload {
        Workload::Programs => programs::KIND,
        _ => "noop",
    }
}

/// This program, without the settings of the surroundings.
pub fn own_program() -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    let ours = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SPINOR_"));
    for (name, _) in ours {
        command.env_remove(name);
    }
    command.kill_on_drop(true);
    Ok(command)
}

/// The configuration as a file. JSON strings are TOML strings.
fn text(place: &Place, config: &Config, request: &Request) -> Result<String> {
    let quoted = |text: &str| serde_json::to_string(text);
    let broker = quoted(place.amqp().unwrap_or("embedded"))?;
    let results = match &config.results {
        ResultsChoice::Sqlite => quoted("sqlite")?,
        ResultsChoice::MySql(endpoint) => quoted(endpoint.reveal())?,
    };
    let mut text = format!("broker = {broker}\nresults = {results}\n");
    // One that is not a server is not asked for a certificate.
    for (key, file) in [("broker_ca", &config.broker_ca), ("results_ca", &config.results_ca)] {
        if let Some(file) = file {
            writeln!(text, "{key} = {}", quoted(&file.to_string_lossy())?)?;
        }
    }
    writeln!(
        text,
        "broker_prefix = {}\ndata = {}",
        quoted(&config.broker_prefix)?,
        quoted(&config.data.to_string_lossy())?
    )?;
    writeln!(text, "[consumer]\nqueues = [\"{QUEUE}\"]\nkinds = [\"{}\"]\nslots = {}", kind(request), request.slots)?;
    let journal = if request.journal { "full" } else { "ends" };
    writeln!(text, "[queues.{QUEUE}]\njournal = \"{journal}\"\n[log]\nlevel = \"{}\"", config.log.level)?;
    Ok(text)
}

/// A child that is the product.
pub struct Running {
    /// Its id.
    pub pid: u32,
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Ends it in good order.
    pub async fn stop(mut self) -> Result<()> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw).context("no process id")?;
        kill_process(pid, Signal::TERM)?;
        let Ok(status) = timeout(PATIENCE, self.child.wait()).await else {
            self.child.kill().await?;
            bail!("the product did not end within {} s: {}", PATIENCE.as_secs(), self.said());
        };
        let status = status?;
        if !status.success() {
            bail!("the product ended with {status}: {}", self.said());
        }
        Ok(())
    }

    /// Ends it at once.
    pub async fn kill(mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }

    /// What it wrote, its end.
    pub fn said(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }
}
