//! `spinor run`: orchestration files, on nodes elsewhere or in this process.
//!
//! Owns who drives: without `--local` a running Spinor, reached as every command reaches it; with
//! it this process, which then is the whole system for as long as the run takes. When a Spinor has
//! the data directory already, the run gets a broker's directory of its own and the same record.

use std::{path::PathBuf, sync::Arc};

use clap::Args;
use spinor_consumers::{consumer::Shutdown, results::Results};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Failure, ask::Global, output::Output, publish::note};
use crate::{
    app::{App, CannotConnect, Parts, Role},
    config::Config,
    log,
    orchestrations::{
        command::{RunArgs, load, run_command},
        drive::Driver,
        parse::File,
        remote::Remote,
    },
    signals::Signals,
};

/// Flags of `run`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  spinor run --local 6 docs/examples/fleet.yaml\n  \
                        spinor run --target web-1,web-2 site.yaml --json")]
pub struct Run {
    #[command(flatten)]
    args: RunArgs,
}

impl Run {
    pub(super) async fn run(self, global: &Global, _output: Output) -> Result<u8, Failure> {
        let files = load(&self.args).map_err(Failure::usage)?;
        let leave = CancellationToken::new();
        let shutdown = Shutdown::default();
        let work = async {
            match self.args.local {
                Some(nodes) => self.local(nodes, &files, global, &leave, &shutdown).await,
                None => {
                    let remote = Remote::new(global.client()?);
                    Ok(run_command(Uuid::now_v7(), &self.args, global.json, &files, &remote, &leave).await)
                }
            }
        };
        tokio::pin!(work);
        let mut signals = Signals::listen();
        tokio::select! {
            ended = &mut work => return ended,
            () = signals.next() => leave.cancel(),
        }
        if self.args.local.is_some() {
            note("stopping after the steps that run now; again ends them at once");
        }
        tokio::select! {
            ended = &mut work => return ended,
            () = signals.next() => shutdown.now.cancel(),
        }
        work.await
    }

    /// Nodes, recorder and broker live in this process until the run is over.
    async fn local(
        &self,
        nodes: u16,
        files: &[File],
        global: &Global,
        leave: &CancellationToken,
        shutdown: &Shutdown,
    ) -> Result<u8, Failure> {
        let config = own(global)?;
        log::start(&config.log);
        let run = Uuid::now_v7();
        let nodes: Vec<String> = (1..=nodes).map(|number| format!("node-{number}")).collect();
        let parts = Parts { api: false, consumer: true, recorder: true, trigger: false };
        let mut role = Role { parts, nodes: nodes.clone(), jobs: false, record: None, supervises: None, own: None };
        // Nothing has started yet: not the code of a step that failed.
        let not_started = |error: anyhow::Error| Failure::unreachable(format!("{error:#}"));
        let mut aside = None;
        let app = match App::build(Arc::new(config.clone()), role.clone(), leave).await {
            Err(error) if matches!(error.downcast_ref(), Some(CannotConnect::InUse(_))) => {
                let place = Aside::of(&config, run);
                note(&format!(
                    "{error:#}; this run has queues of its own in {} and the same record: `spinor runs show {run}{}`",
                    place.directory.display(),
                    global.again()
                ));
                role.record = Some(config.data.clone());
                let config = Config { data: place.directory.clone(), ..config };
                aside = Some(place);
                App::build(Arc::new(config), role, leave).await
            }
            other => other,
        }
        .map_err(not_started)?;
        let results = app.results().map_err(not_started)?;
        let driver = Driver::new(app.broker(), results.clone(), nodes).with_blobs(app.blobs());
        let running = async {
            let stopped = app.run(shutdown.clone()).await;
            // A part that cannot start ends the nodes: nothing is left to wait for.
            leave.cancel();
            stopped
        };
        let work = async {
            let code = run_command(run, &self.args, global.json, files, &driver, leave).await;
            shutdown.drain.cancel();
            code
        };
        let (stopped, code) = tokio::join!(running, work);
        stopped.map_err(|error| Failure::failed(format!("{error:#}")))?;
        if let Some(aside) = aside {
            aside.leave(&results).await;
        }
        Ok(code)
    }
}

/// The directory of a run beside a Spinor that has the data directory: a broker has one owner.
struct Aside {
    directory: PathBuf,
    run: Uuid,
}

impl Aside {
    fn of(config: &Config, run: Uuid) -> Self {
        Self { directory: config.data.join("local").join(run.simple().to_string()), run }
    }

    /// Takes the directory away once the record holds the whole run; else it is kept and named.
    async fn leave(self, results: &Results) {
        let whole = results.run(self.run).await.ok().flatten().is_some_and(|record| {
            record.row.ended.is_some() && record.jobs.iter().all(|(_, row)| row.state.is_final())
        });
        if !whole || std::fs::remove_dir_all(&self.directory).is_err() {
            note(&format!("what is left of the run is in {}", self.directory.display()));
        }
    }
}

/// The configuration for nodes of this process: nothing that others reach, so that a laptop never
/// plays the nodes of a fleet.
fn own(global: &Global) -> Result<Config, Failure> {
    let mut ask = global.ask();
    for (key, value) in [("broker", "embedded"), ("results", "sqlite")] {
        ask.flags.push((key, value.to_owned(), "--local"));
    }
    // The run tells what happens; the log only what is wrong.
    ask.variables.entry("SPINOR_LOG".to_owned()).or_insert_with(|| "warn".to_owned());
    Ok(ask.load()?.config)
}
