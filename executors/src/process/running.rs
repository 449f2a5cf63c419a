//! A process that lives longer than a moment, watched by the runtime until it and its tree ended.

use std::{future::pending, io, os::fd::OwnedFd, time::Duration};

use bytes::Bytes;
use rustix::{
    fs::{OFlags, fcntl_setfl, fstat},
    process::{PidfdFlags, pidfd_open},
};
use tokio::{
    net::unix::pipe::Receiver,
    time::{Instant, sleep_until},
};

use super::{
    Ended, EndedBy, StartError, Tree,
    capture::Capture,
    start::{Begun, Hold, STREAMS, exit},
};
use crate::Context;

/// How long a background child may hold the output after the first process ended.
const HELD: Duration = Duration::from_millis(500);
const BUFFER: usize = 32 * 1024;

/// A started process in the runtime's care.
pub(super) struct Running {
    hold: Hold,
    streams: Streams,
    /// Ready when the first process ended. A pidfd in a pipe's clothes: it is only waited for, never
    /// read, and tokio has no other safe way to wait for a descriptor.
    pidfd: Receiver,
    /// Set when the first process ended: how long its output may stay open.
    held_until: Option<Instant>,
}

/// Its output, read side.
struct Streams {
    pipes: [Option<Receiver>; 2],
    captures: [Capture; 2],
    buffer: Vec<u8>,
}

/// How watching ended.
enum Over {
    /// The process ended and its output is closed.
    Closed,
    /// The process ended and somebody holds its output open.
    Held,
}

impl Running {
    /// Takes over from the first moment.
    pub fn take(begun: Begun) -> Result<Self, StartError> {
        let Begun { mut hold, pipes, captures, .. } = begun;
        hold.list();
        let pidfd = pidfd_open(hold.pid, PidfdFlags::NONBLOCK).map_err(io::Error::from)?;
        let pidfd = Receiver::from_owned_fd_unchecked(pidfd)?;
        let [stdout, stderr] = pipes.map(|pipe| pipe.map(receiver).transpose());
        let streams = Streams { pipes: [stdout?, stderr?], captures, buffer: vec![0; BUFFER] };
        Ok(Self { hold, streams, pidfd, held_until: None })
    }

    /// Watches it to its end, or ends it when asked or when its time is over.
    pub async fn see_out(
        mut self,
        context: &Context,
        asked_to_end: impl Future<Output = EndedBy>,
    ) -> Result<Ended, StartError> {
        let tree = self.hold.tree.clone();
        let (by, left) = tokio::select! {
            over = self.watch(context) => match over? {
                Over::Closed => (EndedBy::Itself, Vec::new()),
                Over::Held => (EndedBy::Itself, self.end(self.holders()?, context.soft_to_hard, context).await?),
            },
            by = asked_to_end => (by, self.end(tree, context.patience(), context).await?),
            // No grace: it would go on taking memory from everybody else.
            (used, limit) = context.bounds.exceeded(&tree) => {
                (EndedBy::Memory { used, limit }, self.end(tree.clone(), Duration::ZERO, context).await?)
            }
        };
        self.streams.drain(context)?;
        let status = self.hold.reap()?;
        let [stdout, stderr] = self.streams.captures;
        Ok(Ended {
            exit: Some(exit(self.hold.pid, status)),
            stdout: stdout.finish(),
            stderr: stderr.finish(),
            by,
            left,
        })
    }

    async fn watch(&mut self, context: &Context) -> io::Result<Over> {
        loop {
            match self.held_until {
                Some(_) if self.streams.closed() => return Ok(Over::Closed),
                Some(until) => tokio::select! {
                    read = self.streams.read(context) => read?,
                    () = sleep_until(until) => return Ok(Over::Held),
                },
                None => tokio::select! {
                    read = self.streams.read(context) => read?,
                    ended = self.pidfd.readable() => {
                        ended?;
                        self.held_until = Some(Instant::now() + HELD);
                    }
                },
            }
        }
    }

    /// Ends a tree on a thread of its own, while its output is read: a process may need to write
    /// before it goes.
    async fn end(&mut self, tree: Tree, grace: Duration, context: &Context) -> io::Result<Vec<String>> {
        let mut ending = tokio::task::spawn_blocking(move || tree.end(grace));
        loop {
            tokio::select! {
                left = &mut ending => return left.map_err(io::Error::other),
                read = self.streams.read(context) => read?,
            }
        }
    }

    /// Those of the tree that hold the output; a daemon which let go of it is none of them.
    fn holders(&self) -> io::Result<Tree> {
        let mut inodes = [0; 2];
        for (inode, pipe) in inodes.iter_mut().zip(&self.streams.pipes) {
            if let Some(pipe) = pipe {
                *inode = fstat(pipe)?.st_ino;
            }
        }
        Ok(Tree { holding: Some(inodes), ..self.hold.tree.clone() })
    }
}

impl Streams {
    fn closed(&self) -> bool {
        self.pipes.iter().all(Option::is_none)
    }

    /// Reads once from whichever has something. Never resolves when both are closed.
    async fn read(&mut self, context: &Context) -> io::Result<()> {
        let at = match &self.pipes {
            [Some(out), Some(err)] => tokio::select! {
                ready = out.readable() => ready.map(|()| 0)?,
                ready = err.readable() => ready.map(|()| 1)?,
            },
            [Some(out), None] => out.readable().await.map(|()| 0)?,
            [None, Some(err)] => err.readable().await.map(|()| 1)?,
            [None, None] => pending().await,
        };
        self.take(at, context).map(drop)
    }

    /// Reads what is there without waiting.
    fn drain(&mut self, context: &Context) -> io::Result<()> {
        for at in 0..self.pipes.len() {
            while self.take(at, context)? {}
        }
        Ok(())
    }

    /// Reads once without waiting; `false` when there was nothing.
    fn take(&mut self, at: usize, context: &Context) -> io::Result<bool> {
        let Some(pipe) = &self.pipes[at] else { return Ok(false) };
        match pipe.try_read(&mut self.buffer) {
            Ok(0) => {
                self.pipes[at] = None;
                Ok(false)
            }
            Ok(got) => {
                let chunk = &self.buffer[..got];
                self.captures[at].push(chunk);
                context.output(STREAMS[at], Bytes::copy_from_slice(chunk));
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn receiver(pipe: OwnedFd) -> io::Result<Receiver> {
    fcntl_setfl(&pipe, OFlags::NONBLOCK)?;
    Receiver::from_owned_fd_unchecked(pipe)
}
