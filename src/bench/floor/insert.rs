//! The same rows as the recorder writes, inserted raw into SQLite, MySQL or MariaDB.

use anyhow::Result;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    measure::Stopwatch,
    rows::{Link, Rows},
};

#[derive(clap::Args)]
pub struct Args {
    /// `sqlite:PATH` or `mysql://user:password@host/database`. Its `jobs` and `attempts` are
    /// emptied afterwards: a database of its own.
    #[arg(long)]
    into: String,
    /// How many jobs.
    #[arg(long, default_value_t = 50_000)]
    jobs: usize,
    /// Bytes of each job.
    #[arg(long, default_value_t = 100)]
    payload: usize,
    /// Jobs to a commit.
    #[arg(long, default_value_t = 500)]
    commit: usize,
}

/// Runs the floor.
pub fn run(args: &Args) -> Result<Value> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut link = Link::open(&args.into).await?;
        link.clear().await?;
        let rows = Rows::new(args.payload)?;
        let watch = Stopwatch::start()?;
        let (mut left, mut commits) = (args.jobs, 0);
        while left > 0 {
            let ids: Vec<Uuid> = (0..args.commit.clamp(1, left)).map(|_| Uuid::now_v7()).collect();
            left -= ids.len();
            commits += 1;
            link.write(&rows, &ids).await?;
        }
        let line = watch.stop("insert", args.jobs as u64, &json!({ "commits": commits }))?;
        link.clear().await?;
        link.close().await?;
        Ok(line)
    })
}
