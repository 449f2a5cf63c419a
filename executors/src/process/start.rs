//! A process's start and its first moment, on a blocking thread.
//!
//! Owns the child from the spawn on: whoever drops [`Begun`] or [`Hold`] ends the tree. Written for
//! few system calls, because this is the path of every short step.

use std::{
    fs::File,
    io::{self, Seek, Write},
    os::{
        fd::OwnedFd,
        unix::process::{CommandExt, ExitStatusExt},
    },
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use bytes::Bytes;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{MemfdFlags, memfd_create},
    process::{Pid, PidfdFlags, pidfd_open},
};
use tokio::time::Instant;

use super::{Bounds, Ended, EndedBy, MARKER, Spawn, Tree, capture::Capture, tree::ended_by};
use crate::{Cause, Context, Exit, Failure, Stream, guardian};

/// Watched this long on the thread; then handed to the runtime.
const FIRST_MOMENT: Duration = Duration::from_millis(50);
/// So much output at once is no short step.
const FIRST_BYTES: usize = 64 * 1024;

/// The two streams, in the order of every pair here.
pub(crate) const STREAMS: [Stream; 2] = [Stream::Stdout, Stream::Stderr];

/// A process that could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The program or the directory is not there, or not to be used: change the job.
    #[error("cannot start `{program}`: {error}")]
    Program {
        /// What was to be started.
        program: String,
        /// Why not.
        error: io::Error,
    },
    /// The directory to start in is not there: change the job.
    #[error("cannot start in the directory `{}`: {error}", .cwd.display())]
    Directory {
        /// Where it was to be started.
        cwd: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// The system refused for now: try again.
    #[error("no process could be started: {0}")]
    System(#[from] io::Error),
    /// The runtime ended the thread that was to start it.
    #[error("no thread could start the process: {0}")]
    Thread(String),
}

impl StartError {
    /// As an execution's failure.
    pub fn failure(&self) -> Failure {
        let cause = match self {
            Self::Program { .. } | Self::Directory { .. } => Cause::Args,
            Self::System(_) | Self::Thread(_) => Cause::Error,
        };
        Failure { cause, message: self.to_string() }
    }

    fn of(spawn: &Spawn, error: io::Error) -> Self {
        if let Some(cwd) = spawn.cwd.clone().filter(|cwd| !cwd.is_dir()) {
            return Self::Directory { cwd, error };
        }
        match error.kind() {
            io::ErrorKind::NotFound
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::ArgumentListTooLong
            | io::ErrorKind::NotADirectory => Self::Program { program: spawn.program.clone(), error },
            // ENOEXEC has no kind of its own.
            _ if error.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error()) => {
                Self::Program { program: spawn.program.clone(), error }
            }
            _ => Self::System(error),
        }
    }
}

/// Holds a child; dropped with the child in it, it ends the tree the hard way.
pub(crate) struct Hold {
    child: Option<Child>,
    pub tree: Tree,
    pub pid: Pid,
    listed: bool,
}

impl Hold {
    /// Tells the guardian, for a process that stays.
    pub fn list(&mut self) {
        guardian::add(self.pid, &self.tree.mark);
        self.listed = true;
    }

    /// Reaps the child if it has ended.
    pub fn reap(&mut self) -> io::Result<Option<ExitStatus>> {
        let Some(child) = &mut self.child else { return Ok(None) };
        let status = child.try_wait()?;
        if status.is_some() {
            self.child = None;
            if self.listed {
                guardian::remove(self.pid);
            }
        }
        Ok(status)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let (tree, pid, listed) = (self.tree.clone(), self.pid, self.listed);
        // The rest takes a moment and may not hold up the runtime. Without a thread the guardian,
        // or nobody, does it.
        let _ = std::thread::Builder::new().name("end-tree".to_owned()).spawn(move || {
            if tree.kill().is_empty() {
                let _ = child.wait();
            }
            if listed {
                guardian::remove(pid);
            }
        });
    }
}

/// A process after its first moment.
pub(super) struct Begun {
    pub hold: Hold,
    pub pipes: [Option<OwnedFd>; 2],
    pub captures: [Capture; 2],
    early: Vec<(Stream, Bytes)>,
    status: Option<ExitStatus>,
}

/// A process that stays and is spoken to over a socket; nothing of it is watched here.
pub(crate) struct Spoken {
    pub hold: Hold,
    pub pipes: [Option<OwnedFd>; 2],
}

/// Starts one, with the socket in place of standard input: only what is one of the first three
/// descriptors can be handed to a child without `unsafe`, so the command has to move it.
pub(crate) fn speak(spawn: &Spawn, marker: &str, socket: OwnedFd, bounds: Bounds) -> Result<Spoken, StartError> {
    let mut command = command(spawn, marker)?;
    let mut child = command.stdin(socket).spawn().map_err(|error| StartError::of(spawn, error))?;
    let pipes = [child.stdout.take().map(OwnedFd::from), child.stderr.take().map(OwnedFd::from)];
    let mut hold = held(child, marker, bounds);
    hold.list();
    Ok(Spoken { hold, pipes })
}

fn held(child: Child, marker: &str, bounds: Bounds) -> Hold {
    let pid = Pid::from_child(&child);
    bounds.apply(pid);
    let tree = Tree { group: Some(pid), mark: format!("{MARKER}={marker}"), whole: true, holding: None };
    Hold { child: Some(child), tree, pid, listed: false }
}

/// Starts a process and watches its first moment. Blocks for [`FIRST_MOMENT`] at most.
pub(super) fn begin(spawn: &Spawn, marker: &str, keep: usize, bounds: Bounds) -> Result<Begun, StartError> {
    let mut child = command(spawn, marker)?.spawn().map_err(|error| StartError::of(spawn, error))?;
    let pipes = [child.stdout.take().map(OwnedFd::from), child.stderr.take().map(OwnedFd::from)];
    let mut begun = Begun {
        hold: held(child, marker, bounds),
        pipes,
        captures: [Capture::new(keep), Capture::new(keep)],
        early: Vec::new(),
        status: None,
    };
    begun.watch(Instant::now() + FIRST_MOMENT)?;
    Ok(begun)
}

fn command(spawn: &Spawn, marker: &str) -> io::Result<Command> {
    let stdin = if spawn.stdin.is_empty() {
        Stdio::null()
    } else {
        // A file in memory: nobody has to feed it, however slowly it is read.
        let mut file = File::from(memfd_create(c"stdin", MemfdFlags::CLOEXEC)?);
        file.write_all(&spawn.stdin)?;
        file.rewind()?;
        Stdio::from(file)
    };
    // No `pre_exec`, no user change: the standard library then uses `posix_spawn`, which shares
    // memory instead of copying page tables.
    let mut command = Command::new(&spawn.program);
    command.args(&spawn.args).envs(&spawn.env).env(MARKER, marker);
    command.process_group(0).stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
    if let Some(cwd) = &spawn.cwd {
        command.current_dir(cwd);
    }
    Ok(command)
}

impl Begun {
    fn watch(&mut self, until: Instant) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        let mut bytes = 0;
        while self.pipes.iter().any(Option::is_some) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || bytes > FIRST_BYTES {
                return Ok(());
            }
            for (at, events) in self.ready(left)? {
                bytes += self.read(at, events, &mut buffer)?;
            }
        }
        self.status = self.hold.reap()?;
        if self.status.is_none() {
            // It closed its output: it is about to end, or it stays silently.
            let pidfd = pidfd_open(self.hold.pid, PidfdFlags::empty())?;
            if ended_by(&pidfd, until) {
                self.status = self.hold.reap()?;
            }
        }
        Ok(())
    }

    fn ready(&self, left: Duration) -> io::Result<Vec<(usize, PollFlags)>> {
        let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
        let open = || self.pipes.iter().enumerate().filter_map(|(at, pipe)| Some((at, pipe.as_ref()?)));
        let mut polled: Vec<_> = open().map(|(_, pipe)| PollFd::new(pipe, PollFlags::IN)).collect();
        match poll(&mut polled, Some(&timeout)) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        }
        let events = polled.iter().map(PollFd::revents);
        Ok(open().map(|(at, _)| at).zip(events).filter(|(_, events)| !events.is_empty()).collect())
    }

    fn read(&mut self, at: usize, events: PollFlags, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(pipe) = &self.pipes[at] else { return Ok(0) };
        let got = if events.contains(PollFlags::IN) { rustix::io::read(pipe, &mut *buffer)? } else { 0 };
        if got > 0 {
            self.captures[at].push(&buffer[..got]);
            self.early.push((STREAMS[at], Bytes::copy_from_slice(&buffer[..got])));
        }
        // Hung up and less than a buffer full: nothing follows, and nobody has to ask again.
        if got == 0 || (events.contains(PollFlags::HUP) && got < buffer.len()) {
            self.pipes[at] = None;
        }
        Ok(got)
    }

    /// Hands over what was read so far as live output.
    pub fn pass_on(&mut self, context: &Context) {
        for (stream, bytes) in self.early.drain(..) {
            context.output(stream, bytes);
        }
    }

    /// The end of a process that is over already.
    pub fn ended(&mut self) -> Option<Ended> {
        let status = self.status?;
        let [stdout, stderr] = std::mem::replace(&mut self.captures, [Capture::new(0), Capture::new(0)]);
        Some(Ended {
            exit: Some(exit(self.hold.pid, Some(status))),
            stdout: stdout.finish(),
            stderr: stderr.finish(),
            by: EndedBy::Itself,
            left: Vec::new(),
        })
    }
}

pub(crate) fn exit(pid: Pid, status: Option<ExitStatus>) -> Exit {
    Exit {
        pid: pid.as_raw_pid().unsigned_abs(),
        code: status.and_then(|status| status.code()),
        signal: status.and_then(|status| status.signal()),
    }
}
