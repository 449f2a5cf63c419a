//! `spinor bench`: what this machine does, beside floors that nothing can beat by much.
//!
//! Owns the rounds: floors and product take turns, each round gives one ratio to each floor, and
//! the median of the rounds counts, with its spread. Every round of the product is checked: each
//! job took effect exactly once, or the run has failed. The floors are a program of their own,
//! `spinor-floor`, beside this one; without it only the product is measured, and that is said.
//! Refuses to share anything with a running Spinor: queues, names and directories are its own.

mod carry;
mod check;
mod command;
mod figures;
mod floors;
mod fsync;
mod inside;
mod latency;
mod lists;
mod mixture;
mod noop;
mod programs;
mod runs;
mod seed;
mod site;
mod streams;
mod system;
mod triggers;
mod waiting;

use std::{path::PathBuf, sync::Arc};

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use crate::config::{BrokerChoice, Config, ResultsChoice};

pub use figures::Summary;
pub use inside::run as run_inside;
pub use lists::run as run_lists;
pub use seed::{Seed, run as run_seed};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Workload {
    /// Jobs that do nothing, not recorded: publish, run, report, ack.
    Noop,
    /// The same, recorded.
    Record,
    /// The same for jobs of several sizes.
    Payload,
    /// One job at a time, from publish to reply.
    Latency,
    /// 1000 shells in order on each of 6 nodes of this machine, recorded.
    Command,
    /// Jobs that do nothing, run by a program in Python.
    Programs,
    /// Unique keys, beside a crowd of them.
    Keys,
    /// Jobs that do nothing, recorded, beside a crowd of delayed ones.
    Delayed,
    /// A run of many members that fans in.
    Runs,
    /// Delayed jobs and triggers: while none is due, when many are, and after a death.
    Triggers,
    /// Jobs that do nothing, recorded, beside two hundred open event streams.
    Streams,
}

/// What to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// What is measured.
    pub workload: Workload,
    /// How many jobs a round has; `None` for the workload's own number.
    pub jobs: Option<usize>,
    /// Bytes of each job.
    pub payload: usize,
    /// Slots of the consumer.
    pub slots: usize,
    /// How often product and floors take turns.
    pub rounds: usize,
    /// Is every job on the queue before the consumer starts?
    pub preloaded: bool,
    /// Is a job also recorded when it is queued?
    pub journal: bool,
}

/// The two brokers and the two databases differ in how they are measured.
#[derive(Clone, Debug)]
struct Place {
    config: Arc<Config>,
    /// Directory for everything this run writes.
    scratch: PathBuf,
}

impl Place {
    fn embedded(&self) -> bool {
        matches!(self.config.broker, BrokerChoice::Embedded)
    }

    /// The broker's address.
    fn amqp(&self) -> Option<&str> {
        match &self.config.broker {
            BrokerChoice::RabbitMq(endpoint) => Some(endpoint.reveal()),
            BrokerChoice::Embedded => None,
        }
    }

    /// Where the insert floor writes; a server's own database must be empty for it.
    fn rows(&self, scratch: &std::path::Path) -> String {
        match &self.config.results {
            ResultsChoice::Sqlite => format!("sqlite:{}", scratch.join("floor.db").display()),
            ResultsChoice::MySql(endpoint) => endpoint.reveal().to_owned(),
        }
    }
}

/// Measures; a run that cannot be trusted is an error.
pub async fn run(request: &Request, config: Arc<Config>) -> Result<Vec<Summary>> {
    if request.rounds == 0 {
        bail!("--rounds 0 measures nothing");
    }
    let scratch = std::env::temp_dir().join(format!("spinor-bench-{}", uuid::Uuid::now_v7()));
    std::fs::create_dir_all(&scratch)?;
    let place = Place { config, scratch };
    let result = measure(request, &place).await;
    if let Err(error) = std::fs::remove_dir_all(&place.scratch) {
        tracing::warn!(%error, directory = %place.scratch.display(), "A scratch directory stays behind.");
    }
    result
}

async fn measure(request: &Request, place: &Place) -> Result<Vec<Summary>> {
    match request.workload {
        Workload::Noop | Workload::Record => Ok(vec![noop::run(request, place).await?]),
        Workload::Latency => Ok(vec![latency::run(request, place).await?]),
        Workload::Command => Ok(vec![command::run(request, place).await?]),
        Workload::Runs => Ok(vec![runs::run(request, place).await?]),
        Workload::Triggers => Ok(vec![triggers::run(request, place).await?]),
        Workload::Streams => Ok(vec![streams::run(request, place).await?]),
        Workload::Programs => Ok(vec![programs::run(request, place).await?]),
        Workload::Keys | Workload::Delayed => Ok(vec![waiting::run(request, place).await?]),
        Workload::Payload => {
            let mut all = Vec::new();
            for (payload, jobs) in [(100, 50_000), (1_000, 30_000), (10_000, 10_000), (100_000, 2_000)] {
                let one = Request { payload, jobs: Some(request.jobs.unwrap_or(jobs)), ..request.clone() };
                all.push(noop::run(&one, place).await?);
            }
            Ok(all)
        }
    }
}
