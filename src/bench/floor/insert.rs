//! The same rows as the recorder writes, inserted raw into SQLite, MySQL or MariaDB.

use anyhow::Result;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    measure::Stopwatch,
    rows::{Link, Rows, Stage},
};

#[derive(clap::Args)]
pub struct Args {
    /// `sqlite:PATH` or `mysql://user:password@host/database`; what was written is deleted again.
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
    /// Each job is also recorded when it is queued.
    #[arg(long)]
    journal: bool,
}

/// Runs the floor.
pub fn run(args: &Args) -> Result<Value> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut link = Link::open(&args.into).await?;
        let rows = Rows::new(args.payload)?;
        let watch = Stopwatch::start()?;
        let (mut left, mut commits) = (args.jobs, 0);
        while left > 0 {
            let ids: Vec<Uuid> = (0..args.commit.clamp(1, left)).map(|_| Uuid::now_v7()).collect();
            left -= ids.len();
            commits += 1;
            if args.journal {
                link.write(&rows, &ids, Stage::Queued).await?;
                link.write(&rows, &ids, Stage::Ended).await?;
                commits += 1;
            } else {
                link.write(&rows, &ids, Stage::Whole).await?;
            }
        }
        let line = watch.stop("insert", args.jobs as u64, &json!({ "commits": commits }))?;
        link.clear(&rows).await?;
        link.close().await?;
        Ok(line)
    })
}
