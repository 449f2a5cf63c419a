//! An idle raw client: a publishing and a consuming connection, at rest, with or without a backlog
//! behind its prefetch. Its resident size is what the product's is compared with.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use tokio::time::sleep;
use uuid::Uuid;

use crate::{amqp, measure};

#[derive(clap::Args)]
pub struct Args {
    /// The broker.
    #[arg(long)]
    url: String,
    /// Seconds at rest before it looks.
    #[arg(long, default_value_t = 3)]
    rest: u64,
}

/// Runs the floor.
pub fn run(args: &Args) -> Result<Value> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let name = format!("spinor-floor-{}.jobs.bench", Uuid::now_v7());
        let publisher = amqp::connect(&args.url).await?;
        let consumer = amqp::connect(&args.url).await?;
        let jobs = amqp::confirming(&publisher).await?;
        let intake = consumer.create_channel().await?;
        amqp::declare(&jobs, &name).await?;
        let deliveries = amqp::consume(&intake, &name, 1000).await?;
        sleep(Duration::from_secs(args.rest)).await;
        let line = json!({
            "floor": "amqp-idle",
            "rest_bytes": measure::memory("VmRSS")?,
            "peak_bytes": measure::memory("VmHWM")?,
        });
        drop(deliveries);
        amqp::delete(&jobs, &name).await?;
        Ok(line)
    })
}
