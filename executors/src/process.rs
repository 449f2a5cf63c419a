//! The one way a child process is started, watched and ended.
//!
//! Every child leads its own process group and carries a run marker in its environment
//! (`SPINOR_RUN=<boot>/<execution>`). Its output is captured with a bound and passed on live. When
//! it is asked to end, or runs out of time, the whole tree goes: softly, then hard. Dropping the
//! future ends the tree the hard way. Two phases, because most steps are over in milliseconds: the
//! first moment is watched on a blocking thread with plain `poll`, which costs no registration
//! with the runtime; what lives longer is handed to it. No one else in this crate spawns processes.

mod capture;
mod running;
mod start;
mod tree;

use std::{collections::BTreeMap, path::PathBuf, sync::OnceLock, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

pub use self::start::StartError;
pub(crate) use self::tree::Tree;
use self::{running::Running, start::begin};
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

    fn marker(&self, execution: Uuid) -> String {
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
fn last_line(output: &Output) -> Option<&str> {
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
    if let Some(why) = context.why_cancelled().filter(|why| !(spawn.outlasts_drain && *why == Cancelled::Drain)) {
        let by = EndedBy::Cancelled(why);
        return Ok(Ended { exit: None, stdout: Output::default(), stderr: Output::default(), by, left: Vec::new() });
    }
    let limit = spawn.limit.map(|limit| (limit, Instant::now() + limit));
    let outlasts_drain = spawn.outlasts_drain;
    let marker = spawn.marker(context.execution);
    let keep = context.keep_output;
    // Dropped before it began: it never starts. Dropped while it runs: its result is dropped, and
    // with it the tree is ended.
    let first = AbortOnDropHandle::new(tokio::task::spawn_blocking(move || begin(&spawn, &marker, keep)));
    let mut begun = first.await.map_err(|stopped| StartError::Thread(stopped.to_string()))??;
    begun.pass_on(context);
    if let Some(ended) = begun.ended() {
        return Ok(ended);
    }
    Box::pin(async move { Running::take(begun)?.see_out(context, limit, outlasts_drain).await }).await
}

#[cfg(test)]
mod tests;
