//! Removes a benchmark's objects from the broker: by name, under a prefix that only it uses.

use anyhow::{Result, bail};
use lapin::options::ExchangeDeleteOptions;
use serde_json::{Value, json};

use crate::amqp;

const TIERS: [&str; 6] = ["1s", "5s", "15s", "1m", "5m", "15m"];
const QUEUES: [&str; 5] = ["results", "search", "next", "dead", "timers"];
const EXCHANGES: [&str; 4] = ["back", "lost", "events", "control"];

#[derive(clap::Args)]
pub struct Args {
    /// The broker.
    #[arg(long)]
    url: String,
    /// What the names start with: `spinor-bench-` and more.
    #[arg(long)]
    prefix: String,
    /// The work queue's short name.
    #[arg(long)]
    queue: String,
}

/// Deletes; what does not exist is fine.
pub fn run(args: &Args) -> Result<Value> {
    if !args.prefix.starts_with("spinor-bench-") {
        bail!("`{}` is not a benchmark's prefix", args.prefix);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let connection = amqp::connect(&args.url).await?;
        let channel = connection.create_channel().await?;
        let prefix = &args.prefix;
        let delays = TIERS.map(|tier| format!("{prefix}.delay.{tier}"));
        let mut queues = vec![format!("{prefix}.jobs.{}", args.queue)];
        queues.extend(QUEUES.map(|name| format!("{prefix}.{name}")));
        queues.extend(delays.clone());
        for queue in &queues {
            amqp::delete(&channel, queue).await?;
        }
        for exchange in EXCHANGES.map(|name| format!("{prefix}.{name}")).iter().chain(&delays) {
            channel.exchange_delete(exchange.as_str().into(), ExchangeDeleteOptions::default()).await?;
        }
        Ok(json!({ "swept": prefix }))
    })
}
