//! `spinor run`: orchestration files, on nodes elsewhere or in this process.
//!
//! Owns who drives: without `--local` a running Spinor, reached as every command reaches it; with
//! it this process, which then is the whole system for as long as the run takes.

use std::sync::Arc;

use clap::Args;
use spinor_consumers::consumer::Shutdown;
use tokio_util::sync::CancellationToken;

use super::{Failure, ask::Global, output::Output};
use crate::{
    app::{App, Parts, Role},
    config::Config,
    log,
    orchestrations::{
        command::{RunArgs, load, run_command},
        drive::Driver,
        parse::File,
        remote::Remote,
    },
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
        let work = async {
            match self.args.local {
                Some(nodes) => self.local(nodes, &files, global, &leave).await,
                None => {
                    let remote = Remote::new(global.client()?);
                    Ok(run_command(&self.args, global.json, &files, &remote, &leave).await)
                }
            }
        };
        tokio::pin!(work);
        tokio::select! {
            ended = &mut work => return ended,
            _ = tokio::signal::ctrl_c() => leave.cancel(),
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
    ) -> Result<u8, Failure> {
        let config = Arc::new(own(global)?);
        log::start(&config.log);
        let nodes: Vec<String> = (1..=nodes).map(|number| format!("node-{number}")).collect();
        let parts = Parts { api: false, consumer: true, recorder: true };
        let role = Role { parts, nodes: nodes.clone(), jobs: false };
        // Nothing has started yet: not the code of a step that failed.
        let not_started = |error: anyhow::Error| Failure::unreachable(format!("{error:#}"));
        let app = App::build(config, role, leave).await.map_err(not_started)?;
        let results = app.results().map_err(not_started)?;
        let driver = Driver::new(app.broker(), results, nodes);
        let shutdown = Shutdown::default();
        let running = async {
            let stopped = app.run(shutdown.clone()).await;
            // A part that cannot start ends the nodes: nothing is left to wait for.
            leave.cancel();
            stopped
        };
        let work = async {
            let code = run_command(&self.args, global.json, files, &driver, leave).await;
            shutdown.drain.cancel();
            code
        };
        let (stopped, code) = tokio::join!(running, work);
        stopped.map_err(|error| Failure::failed(format!("{error:#}")))?;
        Ok(code)
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
