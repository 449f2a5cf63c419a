//! Counts fsyncs the way the kernel does.
//!
//! With the right to trace, `perf` counts the system calls of the processes that are measured;
//! without it, the flushes of the machine's disks are counted (`/sys/block/*/stat`), whoever caused
//! them. Which of the two it was goes with the number. No fsync at all means that nothing durable
//! was measured, and the run has failed.

use std::{fs, process::Stdio};

use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};

const EVENTS: &str = "syscalls:sys_enter_fsync,syscalls:sys_enter_fdatasync";

/// How many, and how they were counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fsyncs {
    /// How many.
    pub count: u64,
    /// By whom.
    pub by: Counter,
}

/// Who counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Counter {
    /// `perf`: fsync and fdatasync of the measured processes.
    SystemCalls,
    /// The disks' flush counters: the whole machine.
    DiskFlushes,
}

/// A count under way.
pub enum Counting {
    /// By `perf`, until it is interrupted.
    Perf(Child),
    /// From the disks' counters at the start.
    Disks(u64),
}

impl Counting {
    /// Starts to count for these processes.
    pub async fn start(pids: &[u32]) -> Self {
        let list: Vec<String> = pids.iter().map(u32::to_string).collect();
        let perf = Command::new("perf")
            .args(["stat", "-x", ",", "-e", EVENTS, "-p", &list.join(",")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        if let Ok(mut perf) = perf {
            // It exits at once when it may not trace; else it has opened its events well before.
            let early = tokio::time::timeout(std::time::Duration::from_millis(500), perf.wait()).await;
            if early.is_err() {
                return Self::Perf(perf);
            }
        }
        Self::Disks(flushes())
    }

    /// Starts to count on the disks, for processes that do not exist yet.
    pub fn disks() -> Self {
        Self::Disks(flushes())
    }

    /// Ends the count.
    pub async fn stop(self) -> Option<Fsyncs> {
        match self {
            Self::Disks(before) => Some(Fsyncs { count: flushes().saturating_sub(before), by: Counter::DiskFlushes }),
            Self::Perf(perf) => {
                let pid = rustix::process::Pid::from_raw(i32::try_from(perf.id()?).ok()?)?;
                rustix::process::kill_process(pid, rustix::process::Signal::INT).ok()?;
                let said = perf.wait_with_output().await.ok()?;
                let text = String::from_utf8(said.stderr).ok()?;
                let counts = text.lines().filter(|line| line.contains("sys_enter_"));
                let numbers: Vec<u64> = counts.filter_map(|line| line.split(',').next()?.parse().ok()).collect();
                // A count that could not be taken says so in words: then nothing is known.
                (numbers.len() == 2).then(|| Fsyncs { count: numbers.iter().sum(), by: Counter::SystemCalls })
            }
        }
    }
}

/// Flushes that all real disks have done since the machine started.
fn flushes() -> u64 {
    let Ok(disks) = fs::read_dir("/sys/block") else { return 0 };
    disks
        .flatten()
        .filter_map(|disk| fs::read_to_string(disk.path().join("stat")).ok())
        .filter_map(|stat| stat.split_whitespace().nth(15)?.parse::<u64>().ok())
        .sum()
}
