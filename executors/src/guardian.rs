//! A small process that outlives its consumer by a moment: it ends what the consumer left running.
//!
//! Owns both ends: [`guard`], which the guardian process runs, and [`Guardian`], the handle a
//! consumer holds. Told over a pipe of process groups that live longer than a moment
//! (`+group marker`, `-group`); when the pipe closes without a farewell it kills those groups, and
//! every process that carries the consumer's boot marker, short-lived ones too. A daemon that is
//! to survive the death of the consumer that started it clears `SPINOR_RUN` from its environment.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, Write},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Mutex, OnceLock, PoisonError},
};

use rustix::process::{Pid, setsid};
use tokio::signal::unix::{SignalKind, signal};
use uuid::Uuid;

use crate::process::{MARKER, Tree, boot};

static GUARDIAN: OnceLock<Guardian> = OnceLock::new();

/// A consumer's hold on its guardian.
pub struct Guardian {
    pipe: Mutex<Option<ChildStdin>>,
    process: Child,
}

impl Guardian {
    /// Starts one; from then on it knows this process's children.
    ///
    /// `program` is started with `args` and must call [`guard`]. A second start does nothing.
    pub fn start(program: &Path, args: &[&str]) -> io::Result<()> {
        if GUARDIAN.get().is_some() {
            return Ok(());
        }
        let mut process = Command::new(program)
            .args(args)
            .current_dir("/")
            .env_remove(MARKER)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let guardian = Self { pipe: Mutex::new(process.stdin.take()), process };
        guardian.tell(&format!("boot {}\n", boot()));
        // Lost against another start: that one guards, ours sees its pipe close and goes.
        let _ = GUARDIAN.set(guardian);
        Ok(())
    }

    /// Its process number; `None` when none was started.
    pub fn pid() -> Option<u32> {
        GUARDIAN.get().map(|guardian| guardian.process.id())
    }

    /// Dismisses it at an orderly end: daemons that were left alone stay.
    pub fn dismiss() {
        if let Some(guardian) = GUARDIAN.get() {
            guardian.tell("bye\n");
            guardian.pipe.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
    }

    fn tell(&self, line: &str) {
        let mut pipe = self.pipe.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = &mut *pipe
            && open.write_all(line.as_bytes()).is_err()
        {
            // It died. Jobs run without it; what a crash would leave, the next boot's operator sees.
            *pipe = None;
        }
    }
}

/// Tells the guardian, if there is one, of a group that runs.
pub(crate) fn add(group: Pid, mark: &str) {
    if let Some(guardian) = GUARDIAN.get() {
        guardian.tell(&format!("+{} {mark}\n", group.as_raw_pid()));
    }
}

/// Tells the guardian, if there is one, that a group ended.
pub(crate) fn remove(group: Pid) {
    if let Some(guardian) = GUARDIAN.get() {
        guardian.tell(&format!("-{}\n", group.as_raw_pid()));
    }
}

/// What the guardian process does: listens until the pipe closes, then ends what is left.
pub fn guard(lines: impl BufRead) -> io::Result<()> {
    // Its own session, so that neither the terminal nor a kill of the consumer's group reaches it.
    // Refused only to a group leader, who has that already.
    let _ = setsid();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let _entered = runtime.enter();
    // A handler that nobody reads is the safe way to ignore a signal.
    let _ignored = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal);
    let mut known = Known::default();
    for line in lines.lines() {
        // A pipe that breaks is a pipe that closed.
        let Ok(line) = line else { break };
        known.hear(&line);
    }
    known.end_all();
    Ok(())
}

/// What the guardian was told.
#[derive(Debug, Default, PartialEq)]
struct Known {
    boot: Option<Uuid>,
    groups: BTreeMap<i32, String>,
}

impl Known {
    fn hear(&mut self, line: &str) {
        if let Some(boot) = line.strip_prefix("boot ") {
            self.boot = boot.parse().ok();
        } else if let Some(told) = line.strip_prefix('+') {
            if let Some((group, mark)) = told.split_once(' ')
                && let Ok(group) = group.parse()
            {
                self.groups.insert(group, mark.to_owned());
            }
        } else if let Some(Ok(group)) = line.strip_prefix('-').map(str::parse) {
            self.groups.remove(&group);
        } else if line == "bye" {
            self.boot = None;
        }
    }

    fn end_all(self) {
        for (group, mark) in self.groups {
            Tree { group: Pid::from_raw(group), mark, whole: true, holding: None }.kill();
        }
        if let Some(boot) = self.boot {
            Tree { group: None, mark: format!("{MARKER}={boot}/"), whole: false, holding: None }.kill();
        }
    }
}

#[cfg(test)]
mod tests;
