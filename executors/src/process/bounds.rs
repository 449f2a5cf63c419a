//! What a job's processes may use: memory of the whole tree, open files of each process.
//!
//! Owns the numbers and how memory is counted. A tree without bounds is never looked at. Refuses to
//! guess: memory is what the processes hold themselves (anonymous and shared pages they touched),
//! not what they reserved, so that a runtime which reserves much and uses little is left alone.

use std::{fs, time::Duration};

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::time::{Instant, sleep};

use super::Tree;

/// The first look at a tree's memory; later ones are never closer, and rarer where a look takes long.
const LOOK: Duration = Duration::from_millis(100);

/// How much the processes of one execution may use; `None` is as much as there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Memory of the whole tree, in bytes; beyond it the tree is killed.
    pub memory: Option<u64>,
    /// Open files of each process.
    pub files: Option<u64>,
}

impl Bounds {
    /// Sets what the kernel holds itself. The child runs already; it cannot have opened that many
    /// files in the moment between.
    pub(super) fn apply(self, pid: Pid) {
        if let Some(files) = self.files {
            let limit = Rlimit { current: Some(files), maximum: Some(files) };
            // A process that ended before needs no limit; a limit above ours is refused, and ours counts.
            let _ = prlimit(Some(pid), Resource::Nofile, limit);
        }
    }

    /// Resolves when the tree holds more memory than it may, with what it held.
    pub(crate) async fn exceeded(self, tree: &Tree) -> (u64, u64) {
        let Some(limit) = self.memory else { return std::future::pending().await };
        let mut pause = LOOK;
        loop {
            sleep(pause).await;
            let (looked, since) = (tree.clone(), Instant::now());
            let used = tokio::task::spawn_blocking(move || looked.memory()).await.unwrap_or(0);
            if used > limit {
                return (used, limit);
            }
            pause = LOOK.max(since.elapsed() * 20);
        }
    }
}

/// The memory a process holds itself, in bytes; 0 for one that ended.
pub(super) fn held(number: u32) -> u64 {
    let Ok(status) = fs::read_to_string(format!("/proc/{number}/status")) else { return 0 };
    let kib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("");
        line.split_whitespace().next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0)
    };
    (kib("RssAnon:") + kib("RssShmem:") + kib("VmSwap:")) * 1024
}
