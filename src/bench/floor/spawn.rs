//! The same command, spawned raw on all cores: what a machine can start at all.
//!
//! Plain threads, the standard library's spawn, output read through a pipe as the product must.

use std::{
    collections::HashSet,
    process::{Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::measure::Stopwatch;

#[derive(clap::Args)]
pub struct Args {
    /// How many times.
    #[arg(long, default_value_t = 6000)]
    jobs: usize,
    /// What a shell runs.
    #[arg(long, default_value = "echo hello world")]
    command: String,
    /// Threads that spawn; 0 means one for each core.
    #[arg(long, default_value_t = 0)]
    threads: usize,
}

/// Runs the floor.
pub fn run(args: &Args) -> Result<Value> {
    let cores = thread::available_parallelism()?.get();
    let threads = if args.threads == 0 { cores } else { args.threads };
    let taken = AtomicUsize::new(0);
    let watch = Stopwatch::start()?;
    let pids: Vec<u32> = thread::scope(|scope| {
        let spawners: Vec<_> = (0..threads).map(|_| scope.spawn(|| spawn(args, &taken))).collect();
        let mut pids = Vec::with_capacity(args.jobs);
        for spawner in spawners {
            pids.extend(spawner.join().map_err(|_| anyhow::anyhow!("a spawner panicked"))??);
        }
        anyhow::Ok(pids)
    })?;
    let distinct = pids.iter().collect::<HashSet<_>>().len();
    watch.stop("spawn", pids.len() as u64, &json!({ "threads": threads, "distinct_pids": distinct }))
}

fn spawn(args: &Args, taken: &AtomicUsize) -> Result<Vec<u32>> {
    let mut pids = Vec::new();
    while taken.fetch_add(1, Ordering::Relaxed) < args.jobs {
        let child = Command::new("/bin/sh")
            .args(["-c", &args.command])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("/bin/sh")?;
        pids.push(child.id());
        let output = child.wait_with_output()?;
        if !output.status.success() || output.stdout.is_empty() {
            bail!("`{}` failed or said nothing", args.command);
        }
    }
    Ok(pids)
}
