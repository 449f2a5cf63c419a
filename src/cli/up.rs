//! `spinor up`: the parts in this process, until it is told to stop.
//!
//! Owns what the flags mean.

mod demo;

use std::{
    ffi::{OsStr, OsString},
    io::IsTerminal as _,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use clap::{Args, ValueEnum};
use serde::Serialize;
use spinor_consumers::{
    broker::{RESERVED, is_reserved},
    consumer::Shutdown,
};
use tokio::task::JoinSet;

use super::{Failure, ask::Global, failure::DONE, output::Output};
use crate::{
    api::listen::{self, ListenError},
    app::{App, CannotConnect, Parts, Role},
    client::Client,
    config::{Config, keys},
    log,
    scaling::{Orders, Program},
    signals::Signals,
};

/// Flags of `up`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Up {
    /// Run only these parts; on a broker that others reach
    #[arg(long, value_name = "PART", value_delimiter = ',')]
    only: Vec<Part>,
    /// With --only: see that the group has as many consumers as it shall, as `up` with all parts does
    #[arg(long)]
    supervise: bool,
    /// A consumer that another `spinor up` starts: it drains when its standard input says so, or ends
    #[arg(long, hide = true, requires = "only")]
    replica: bool,
    /// Be this node, too: take plans from its queue; may be repeated
    #[arg(long = "node", value_name = "NAME", value_parser = node)]
    nodes: Vec<String>,
    /// Publish a minute of mixed work, to look at on the page; with the embedded broker only
    #[arg(long, conflicts_with = "only")]
    demo: bool,
    /// Instead of `broker`
    #[arg(long, value_name = "URL")]
    broker: Option<String>,
    /// Instead of `results`
    #[arg(long, value_name = "URL")]
    results: Option<String>,
    /// Instead of `consumer.queues`
    #[arg(long, value_name = "NAME,...")]
    queues: Option<String>,
    /// Instead of `consumer.kinds`
    #[arg(long, value_name = "KIND,...")]
    kinds: Option<String>,
    /// Instead of `consumer.slots`
    #[arg(long, value_name = "N")]
    slots: Option<String>,
    /// Instead of `api.listen`
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// Instead of `log.level`
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
}

const EXAMPLES: &str = "\
Examples:
  spinor up                                  everything on this machine; it prints the link to the page
  spinor up --demo --data /tmp/demo          and a minute of work to look at
  spinor up --slots 16 --queues default,images
  spinor up --only consumer --broker amqp://user@mq/vhost --kinds 'image.*'
  spinor up --only consumer --supervise      and more consumers, as many as the group shall have
  spinor up --node web-1                     and run plans addressed to web-1";

/// A part of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Answers people and programs
    Api,
    /// Runs jobs
    Consumer,
    /// Keeps the record
    Recorder,
    /// Fires what follows a job: runs of many jobs go on by it
    Trigger,
}

fn node(text: &str) -> Result<String, String> {
    if is_reserved(text) {
        return Err(format!("a node has a queue, and {RESERVED}"));
    }
    if keys::is_name(text) { Ok(text.to_owned()) } else { Err(format!("expected {}", keys::Form::Name.expected())) }
}

#[derive(Serialize)]
struct Listening {
    pid: u32,
    parts: Vec<String>,
    nodes: Vec<String>,
    listening: Vec<String>,
    /// Where the page is; with its token, if that was made here and nobody keeps it as a secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    page: Option<String>,
    /// Where its token lies, when that was made here.
    #[serde(rename = "token_file", skip_serializing_if = "Option::is_none")]
    token: Option<PathBuf>,
}

impl Up {
    pub(super) async fn run(mut self, global: &Global, output: Output) -> Result<u8, Failure> {
        let mut config = self.config(global)?;
        let parts = self.parts(&config)?;
        if self.demo {
            if config.is_remote() {
                return Err(Failure::usage("--demo: its jobs are for the embedded broker; leave `broker` out"));
            }
            self.nodes.extend(demo::NODES.map(str::to_owned));
        }
        let link = self.only.is_empty() && listen_for_page(&mut config)?;
        let config = Arc::new(config);
        log::start(&config.log);
        let shutdown = Shutdown::default();
        let mut signals = JoinSet::new();
        signals.spawn(Signals::listen().obey(shutdown.clone()));
        if self.replica {
            let orders = Orders::of_stdin().map_err(|error| {
                Failure::usage(format!(
                    "--replica: standard input is no pipe ({error}); `spinor up` starts replicas by itself"
                ))
            })?;
            signals.spawn(orders.obey(shutdown.clone()));
        }
        let supervises = if self.supervises() { Some(self.replica_of(global)?) } else { None };
        let role = Role { parts, nodes: self.nodes.clone(), jobs: true, record: None, supervises, own: None };
        let app = build(Arc::clone(&config), role, &shutdown).await?;
        let addresses = app.addresses();
        // What is written elsewhere than to a terminal may be kept in a log.
        let shown = link && std::io::stdout().is_terminal();
        let token = config.api.token.as_deref().filter(|_| shown);
        let listening = Listening {
            pid: std::process::id(),
            parts: parts.names(),
            nodes: self.nodes,
            page: addresses.get(1).map(|address| page_of(address, token)),
            token: link.then(|| absolute(config.data.join(listen::OWN_TOKEN))),
            listening: addresses,
        };
        output.value(&listening, text)?;
        let mut demo = JoinSet::new();
        if self.demo {
            let client = Client::unix(config.socket()).map_err(|error| Failure::failed(error.to_string()))?;
            demo.spawn(demo::play(client, shutdown.drain.clone()));
        }
        app.run(shutdown).await.map_err(|error| Failure::failed(format!("{error:#}")))?;
        Ok(DONE)
    }

    const fn supervises(&self) -> bool {
        self.only.is_empty() || self.supervise
    }

    /// What starts one more consumer with this process's configuration: its file, environment and flags.
    fn replica_of(&self, global: &Global) -> Result<Program, Failure> {
        let path = std::env::current_exe()
            .map_err(|error| Failure::failed(format!("cannot find this program, to start replicas: {error}")))?;
        let mut arguments: Vec<OsString> = ["up", "--only", "consumer", "--replica"].map(OsString::from).into();
        let mut give = |flag: &str, value: Option<&OsStr>| {
            arguments.extend(value.map(|value| [OsString::from(flag), value.to_owned()]).into_iter().flatten());
        };
        give("--config", global.config.as_ref().map(|file| file.as_os_str()));
        give("--data", global.data.as_ref().map(OsStr::new));
        for (_, text, flag) in self.flags().into_iter().filter(|(key, ..)| *key != "api.listen") {
            give(flag, text.as_ref().map(OsStr::new));
        }
        Ok(Program { path, arguments })
    }

    const fn flags(&self) -> [(&'static str, &Option<String>, &'static str); 7] {
        [
            ("broker", &self.broker, "--broker"),
            ("results", &self.results, "--results"),
            ("consumer.queues", &self.queues, "--queues"),
            ("consumer.kinds", &self.kinds, "--kinds"),
            ("consumer.slots", &self.slots, "--slots"),
            ("api.listen", &self.listen, "--listen"),
            ("log.level", &self.log_level, "--log-level"),
        ]
    }

    fn config(&self, global: &Global) -> Result<Config, Failure> {
        let mut ask = global.ask();
        ask.consumes = self.only.is_empty() || self.only.contains(&Part::Consumer) || self.supervise;
        ask.flags.extend(self.flags().into_iter().filter_map(|(key, text, flag)| Some((key, text.clone()?, flag))));
        Ok(ask.load()?.config)
    }

    fn parts(&self, config: &Config) -> Result<Parts, Failure> {
        if self.only.is_empty() {
            return Ok(Parts::ALL);
        }
        let has = |part| self.only.contains(&part);
        let parts = Parts {
            api: has(Part::Api),
            consumer: has(Part::Consumer),
            recorder: has(Part::Recorder),
            trigger: has(Part::Trigger),
        };
        if parts != Parts::ALL && !config.is_remote() {
            return Err(Failure::usage(
                "--only: the embedded broker lives in one process, which has all parts; set `broker` to a server's address",
            ));
        }
        if !parts.consumer && !self.nodes.is_empty() {
            return Err(Failure::usage("--node needs the part `consumer`; add it to --only"));
        }
        Ok(parts)
    }
}

/// The page's own address, for who runs everything in one process and said nothing of an address; whether it was needed.
fn listen_for_page(config: &mut Config) -> Result<bool, Failure> {
    const PAGE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7070);
    if config.api.listen.is_some() || !config.api.page {
        return Ok(false);
    }
    let own = config.api.token.is_none();
    if own {
        config.api.token = Some(listen::own_token(config).map_err(|error| Failure::failed(error.to_string()))?);
    }
    (config.api.listen, config.api.any_port) = (Some(PAGE), true);
    Ok(own)
}

fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

/// The token is behind the `#`: a browser sends that to nobody.
fn page_of(address: &str, token: Option<&str>) -> String {
    let token = token.map(|token| format!("#token={token}")).unwrap_or_default();
    format!("{address}/{token}")
}

/// Builds the parts; the errors with their exit codes.
pub(super) async fn build(config: Arc<Config>, role: Role, shutdown: &Shutdown) -> Result<App, Failure> {
    App::build(config, role, &shutdown.drain).await.map_err(|error| {
        match (error.downcast_ref::<ListenError>(), error.downcast_ref::<CannotConnect>()) {
            (Some(listen), _) => Failure::failed(listen.to_string()),
            (_, Some(stopped @ CannotConnect::Stopped(_))) => Failure::unreachable(stopped.to_string()),
            (_, Some(wrong @ CannotConnect::Misconfigured(_))) => Failure::usage(wrong.to_string()),
            _ => Failure::failed(format!("{error:#}")),
        }
    })
}

fn text(listening: &Listening) -> String {
    let nodes = match listening.nodes.as_slice() {
        [] => String::new(),
        nodes => format!(", as {}", nodes.join(" and ")),
    };
    let places: String = listening.listening.iter().map(|place| format!("  {place}\n")).collect();
    let page = match &listening.page {
        Some(page) if page.contains('#') => format!("  page: {page}\n"),
        Some(page) => match &listening.token {
            Some(file) => format!("  page: {page} (its token is in {})\n", file.display()),
            None => format!("  page: {page} (it asks for the `api.token`)\n"),
        },
        None => String::new(),
    };
    format!("spinor is up, process {}: {}{nodes}\n{places}{page}", listening.pid, listening.parts.join(", "))
}
