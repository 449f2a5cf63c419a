//! The one way a child process is started, watched and ended.
//!
//! Every child leads its own process group and carries a run marker in its environment
//! (`SPINOR_RUN=<boot>/<execution>`). Its output is captured with a bound and passed on live. When
//! it is asked to end, or runs out of time, the whole tree goes: softly, then hard. Dropping the
//! future ends the tree the hard way. Two phases, because most steps are over in milliseconds: the
//! first moment is watched on a blocking thread with plain `poll`, which costs no registration
//! with the runtime; what lives longer is handed to it. No one else in this crate spawns processes.

mod bounds;
mod capture;
mod running;
mod start;
mod tree;

use std::{collections::BTreeMap, future::pending, path::PathBuf, sync::OnceLock, time::Duration};

use bytes::Bytes;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

pub use self::bounds::Bounds;
pub(crate) use self::capture::{Capture, readable};
pub use self::start::StartError;
pub(crate) use self::start::{Hold, STREAMS, Spoken, exit, speak};
pub(crate) use self::tree::Tree;
use self::{
    running::Running,
    start::{Begun, begin},
};
use crate::{Cancelled, Cause, Context, Exit, Failure, Output};

/// The environment variable that marks every process of an execution.
pub const MARKER: &str = "SPINOR_RUN";

/// This process's life, as its children's markers name it.
pub fn boot() -> Uuid {
    static BOOT: OnceLock<Uuid> = OnceLock::new();
    *BOOT.get_or_init(Uuid::now_v7)
}

/// What to start, and how long it may take.
#[derive(Clone, Debug, Default)]
pub struct Spawn {
    /// A path, or a name looked up in `PATH`.
    pub program: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Added to the environment.
    pub env: BTreeMap<String, String>,
    /// Where it starts; here when `None`.
    pub cwd: Option<PathBuf>,
    /// Its standard input; empty means `/dev/null`.
    pub stdin: Bytes,
    /// Ended after this long; only the context ends it when `None`.
    pub limit: Option<Duration>,
    /// Tells apart several processes of one execution, so that ending one spares what another left
    /// behind on purpose.
    pub part: Option<u32>,
    /// Goes on through a drain: the caller stops between processes instead.
    pub outlasts_drain: bool,
}

impl Spawn {
    /// `/bin/sh -c SCRIPT`, the text byte for byte.
    pub fn shell(script: impl Into<String>) -> Self {
        Self { program: "/bin/sh".to_owned(), args: vec!["-c".to_owned(), script.into()], ..Self::default() }
    }

    /// What marks its processes.
    pub(crate) fn marker(&self, execution: Uuid) -> String {
        match self.part {
            None => format!("{}/{execution}", boot()),
            Some(part) => format!("{}/{execution}.{part}", boot()),
        }
    }
}

/// Who ended a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndedBy {
    /// It ended by itself, or a stranger's signal ended it.
    Itself,
    /// Its limit, given in [`Spawn::limit`].
    Limit(Duration),
    /// Its tree held more memory than it may; both in bytes.
    Memory {
        /// What it held.
        used: u64,
        /// What it may.
        limit: u64,
    },
    /// The context.
    Cancelled(Cancelled),
}

/// A process's end.
#[derive(Clone, Debug)]
pub struct Ended {
    /// How it ended; `None` when it was cancelled before it started.
    pub exit: Option<Exit>,
    /// Standard output.
    pub stdout: Output,
    /// Standard error.
    pub stderr: Output,
    /// Who ended it.
    pub by: EndedBy,
    /// Processes of its tree that could not be ended.
    pub left: Vec<String>,
}

impl Ended {
    /// Why this is a failure; `None` for exit code 0.
    pub fn failure(&self) -> Option<Failure> {
        let (cause, mut message) = match (&self.by, self.exit) {
            (EndedBy::Cancelled(why), _) => {
                let failure = why.failure();
                (failure.cause, failure.message)
            }
            (EndedBy::Limit(limit), _) => (Cause::Timeout, format!("ran past its limit of {limit:?} and was ended")),
            (EndedBy::Memory { used, limit }, _) => {
                let message = format!(
                    "held {} MiB of memory, more than its limit of {} MiB, and was ended",
                    used >> 20,
                    limit >> 20
                );
                (Cause::Memory, message)
            }
            (EndedBy::Itself, Some(Exit { code: Some(0), .. })) => return None,
            (EndedBy::Itself, Some(Exit { code: Some(code), .. })) => (Cause::Exit, format!("exit code {code}")),
            (EndedBy::Itself, Some(Exit { signal: Some(signal), .. })) => {
                (Cause::Signal, format!("ended by signal {signal}"))
            }
            (EndedBy::Itself, _) => (Cause::Crash, "its end was not seen".to_owned()),
        };
        if let Some(line) = last_line(&self.stderr).filter(|_| matches!(cause, Cause::Exit | Cause::Signal)) {
            message.push_str(": ");
            message.push_str(line);
        }
        if !self.left.is_empty() {
            message.push_str("; could not be ended: ");
            message.push_str(&self.left.join(", "));
        }
        Some(Failure { cause, message })
    }
}

/// The last line that says something.
pub(crate) fn last_line(output: &Output) -> Option<&str> {
    let last = if output.tail.is_empty() { &output.head } else { &output.tail };
    last.lines().rev().map(str::trim).find(|line| !line.is_empty()).map(|line| {
        let end = line.char_indices().nth(300).map_or(line.len(), |(at, _)| at);
        &line[..end]
    })
}

/// Starts a process, passes its output on, and comes back when it and all that belongs to it ended.
///
/// Background children that redirected their output are left alone when it ends by itself; those
/// that still hold its output half a second after its end are ended.
pub async fn run(spawn: Spawn, context: &Context) -> Result<Ended, StartError> {
    let watch = Watch::of(&spawn);
    if let Some(ended) = watch.cancelled_before(context) {
        return Ok(ended);
    }
    let marker = spawn.marker(context.execution);
    let (keep, bounds) = (context.keep_output, context.bounds);
    // Dropped before it began: it never starts. Dropped while it runs: its result is dropped, and
    // with it the tree is ended.
    let first = AbortOnDropHandle::new(tokio::task::spawn_blocking(move || begin(&spawn, &marker, keep, bounds)));
    let mut begun = first.await.map_err(|stopped| StartError::Thread(stopped.to_string()))??;
    begun.pass_on(context);
    watch.see_out(begun, context).await
}

/// The same for a caller that has a thread to itself: it blocks for the first moment, and nothing
/// is handed from thread to thread. What a process that ends within that moment wrote is not passed
/// on live: its result comes as soon.
pub(crate) async fn run_here(spawn: &Spawn, context: &Context) -> Result<Ended, StartError> {
    let watch = Watch::of(spawn);
    if let Some(ended) = watch.cancelled_before(context) {
        return Ok(ended);
    }
    let begun = begin(spawn, &spawn.marker(context.execution), context.keep_output, context.bounds)?;
    watch.see_out(begun, context).await
}

/// When a process is ended before it ends by itself.
struct Watch {
    limit: Option<(Duration, Instant)>,
    outlasts_drain: bool,
}

impl Watch {
    fn of(spawn: &Spawn) -> Self {
        // A limit beyond the clock's end is none.
        let limit = spawn.limit.and_then(|limit| Some((limit, Instant::now().checked_add(limit)?)));
        Self { limit, outlasts_drain: spawn.outlasts_drain }
    }

    fn heeds(&self, why: &Cancelled) -> bool {
        !(self.outlasts_drain && *why == Cancelled::Drain)
    }

    fn cancelled_before(&self, context: &Context) -> Option<Ended> {
        let why = context.why_cancelled().filter(|why| self.heeds(why))?;
        let by = EndedBy::Cancelled(why);
        Some(Ended { exit: None, stdout: Output::default(), stderr: Output::default(), by, left: Vec::new() })
    }

    /// Resolves when the process should end, with the reason.
    async fn asked_to_end(&self, context: &Context) -> EndedBy {
        let late = async {
            match self.limit {
                None => pending().await,
                Some((limit, at)) => {
                    sleep_until(at).await;
                    EndedBy::Limit(limit)
                }
            }
        };
        let cancelled = async {
            context.cancelled().await;
            match context.why_cancelled().unwrap_or(Cancelled::Drain) {
                why if self.heeds(&why) => EndedBy::Cancelled(why),
                _ => pending().await,
            }
        };
        tokio::select! {
            by = cancelled => by,
            by = late => by,
        }
    }

    async fn see_out(self, mut begun: Begun, context: &Context) -> Result<Ended, StartError> {
        if let Some(ended) = begun.ended() {
            return Ok(ended);
        }
        begun.pass_on(context);
        Box::pin(async move { Running::take(begun)?.see_out(context, self.asked_to_end(context)).await }).await
    }
}

#[cfg(test)]
pub(crate) mod tests;
