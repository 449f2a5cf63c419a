//! The processes of one execution, found and ended.
//!
//! A tree is a process group and every process that carries the run marker in its environment, so
//! that a child which left the group, the session and its parents is still found. Signals go
//! through pidfds: never to a process that took over the number of one that ended. Everything here
//! blocks for a short, bounded time; callers run it on a thread of their own. Not found: a process
//! that left the group and cleared its environment, or runs as another user.

use std::{fs, os::fd::OwnedFd, path::Path, time::Duration};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal},
};
use tokio::time::Instant;

use super::bounds::held;

/// How long the hard way is tried before what is left is named and left.
const HARD_BOUND: Duration = Duration::from_secs(5);
/// A new look after this long, when what was killed is not gone.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Which processes belong together.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    /// Their group.
    pub group: Option<Pid>,
    /// `SPINOR_RUN=...`; empty matches none.
    pub mark: String,
    /// Must the mark be the whole entry, or only its beginning?
    pub whole: bool,
    /// Only those which hold one of these pipes open.
    pub holding: Option<[u64; 2]>,
}

/// A process found alive.
pub(crate) struct Alive {
    pid: Pid,
    name: String,
    group: Option<Pid>,
    pidfd: OwnedFd,
}

impl Alive {
    /// For people: number and name.
    pub fn named(&self) -> String {
        format!("{} ({})", self.pid.as_raw_pid(), self.name)
    }
}

impl Tree {
    /// Ends it: SIGTERM, `grace` to go, then SIGKILL until none is left. Names what could not be
    /// ended.
    pub fn end(&self, grace: Duration) -> Vec<String> {
        self.send(Signal::TERM, &self.alive());
        let until = Instant::now() + grace;
        loop {
            let alive = self.alive();
            if alive.is_empty() {
                return Vec::new();
            }
            if !all_gone(&alive, until) {
                return self.kill();
            }
        }
    }

    /// Ends it the hard way, until none is left. Names what could not be ended.
    pub fn kill(&self) -> Vec<String> {
        let bound = Instant::now() + HARD_BOUND;
        loop {
            let alive = self.alive();
            if alive.is_empty() || Instant::now() >= bound {
                return alive.iter().map(Alive::named).collect();
            }
            self.send(Signal::KILL, &alive);
            all_gone(&alive, Instant::now() + LOOK_AGAIN);
        }
    }

    fn send(&self, signal: Signal, alive: &[Alive]) {
        // The group in one call, so that no member forks between two signals; then the others.
        let group = self.group.filter(|_| self.holding.is_none());
        if let Some(group) = group {
            let _ = kill_process_group(group, signal);
        }
        for process in alive.iter().filter(|process| group.is_none() || process.group != group) {
            // The only errors are that it ended, or became somebody else's: the next look tells.
            let _ = pidfd_send_signal(&process.pidfd, signal);
        }
    }

    /// What its processes hold in memory, in bytes.
    pub fn memory(&self) -> u64 {
        self.alive().iter().map(|process| held(process.pid.as_raw_pid().unsigned_abs())).sum()
    }

    /// Every process of it that still runs.
    pub fn alive(&self) -> Vec<Alive> {
        let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
        let own = std::process::id();
        entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
            .filter(|pid| *pid != own)
            .filter_map(|pid| self.look(pid))
            .collect()
    }

    fn look(&self, number: u32) -> Option<Alive> {
        self.belongs(number)?;
        let pid = Pid::from_raw(i32::try_from(number).ok()?)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        // Asked again with the descriptor in hand: the number may have changed owners between.
        let (name, group) = self.belongs(number)?;
        Some(Alive { pid, name, group, pidfd })
    }

    fn belongs(&self, number: u32) -> Option<(String, Option<Pid>)> {
        let home = Path::new("/proc").join(number.to_string());
        let stat = fs::read(home.join("stat")).ok()?;
        let stat = String::from_utf8_lossy(&stat);
        let (before, after) = stat.rsplit_once(')')?;
        let mut fields = after.split_whitespace();
        if matches!(fields.next()?, "Z" | "X") {
            return None;
        }
        let group = fields.nth(1)?.parse().ok().and_then(Pid::from_raw);
        let mine = (self.group.is_some() && group == self.group) || self.is_marked(&home);
        let holds = self.holding.is_none_or(|pipes| holds(&home, pipes));
        let name = before.split_once('(').map_or("", |(_, name)| name);
        (mine && holds).then(|| (name.to_owned(), group))
    }

    fn is_marked(&self, home: &Path) -> bool {
        let mark = self.mark.as_bytes();
        !mark.is_empty()
            && fs::read(home.join("environ")).is_ok_and(|environ| {
                environ
                    .split(|byte| *byte == 0)
                    .any(|entry| if self.whole { entry == mark } else { entry.starts_with(mark) })
            })
    }
}

/// Does this process hold one of the pipes open?
fn holds(home: &Path, pipes: [u64; 2]) -> bool {
    let Ok(entries) = fs::read_dir(home.join("fd")) else { return false };
    let names = pipes.map(|inode| format!("pipe:[{inode}]"));
    entries
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .any(|link| names.iter().any(|name| link.as_os_str() == name.as_str()))
}

/// Waits until all of them ended; `false` when the time came first.
fn all_gone(alive: &[Alive], until: Instant) -> bool {
    alive.iter().all(|process| ended_by(&process.pidfd, until))
}

/// Waits until the process ended; `false` when the time came first.
pub(super) fn ended_by(pidfd: &OwnedFd, until: Instant) -> bool {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let Ok(timeout) = Timespec::try_from(left) else { return false };
        match poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&timeout)) {
            Ok(ready) => return ready > 0,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}
