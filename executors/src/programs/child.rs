//! One executor process: its start, its socket and its output, both read side.
//!
//! Owns the child: dropped, it ends the whole tree. Refuses to know what it runs: what is read goes
//! to an [`Ear`], what it says comes out of [`Child::next`].

use std::{
    io::{self, Read, Write},
    os::{fd::OwnedFd, unix::net::UnixStream as Pair},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use rustix::{
    fs::{OFlags, fcntl_setfl},
    process::{PidfdFlags, pidfd_open},
};
use tokio::{
    io::AsyncReadExt,
    net::unix::pipe::{Receiver, Sender},
};
use uuid::Uuid;

use super::{
    Program,
    frame::Frames,
    words::{self, Said, Told},
};
use crate::{
    Bounds, Exit, Stream,
    process::{Hold, STREAMS, Spawn, Spoken, StartError, Tree, exit, speak},
};

/// Where a program finds its socket; the shell that starts it puts it there.
const DESCRIPTOR: &str = "3";
/// Standard input is where the socket comes in, and `/dev/null` when the program runs.
const MOVE: &str = "exec \"$@\" 3<&0 </dev/null";
/// Read at once.
const BUFFER: usize = 64 * 1024;
/// What its socket holds, in reads.
const HELD: usize = 16;
/// What it does not read is kept for it up to this.
const UNREAD: usize = 24 << 20;
/// From SIGTERM to SIGKILL.
pub const GRACE: Duration = Duration::from_secs(2);

/// Who hears its output.
pub trait Ear {
    /// It wrote this.
    fn hear(&mut self, stream: Stream, bytes: &[u8]);
}

/// What comes from it next.
pub enum Next {
    /// A frame.
    Said(Said),
    /// It broke the protocol; why, for people.
    Rude(String),
    /// It closed its socket, or ended.
    Gone,
}

/// A running program.
pub struct Child {
    hold: Hold,
    socket: Pair,
    /// The same socket, where what comes is waited for, and no room: each frame that the program reads would
    /// wake us for nothing.
    coming: Receiver,
    /// The same again, while it takes less than there is for it.
    room: Option<Sender>,
    frames: Frames,
    out: BytesMut,
    pipes: [Option<Receiver>; 2],
    /// Ready when it ended; only waited for.
    pidfd: Receiver,
    buffer: Vec<u8>,
}

impl Child {
    /// Starts it; it has said nothing yet.
    pub async fn start(program: &Program) -> Result<Self, StartError> {
        let (ours, theirs) = Pair::pair()?;
        ours.set_nonblocking(true)?;
        let spawn = spawn(program);
        let bounds = Bounds { memory: None, files: program.files };
        let started = tokio::task::spawn_blocking(move || {
            speak(&spawn, &spawn.marker(Uuid::now_v7()), OwnedFd::from(theirs), bounds)
        });
        let Spoken { hold, pipes } = started.await.map_err(|stopped| StartError::Thread(stopped.to_string()))??;
        let pidfd = pidfd_open(hold.pid, PidfdFlags::NONBLOCK).map_err(io::Error::from)?;
        let [stdout, stderr] = pipes.map(|pipe| pipe.map(receiver).transpose());
        Ok(Self {
            hold,
            coming: Receiver::from_owned_fd_unchecked(ours.try_clone()?.into())?,
            socket: ours,
            room: None,
            frames: Frames::default(),
            out: BytesMut::new(),
            pipes: [stdout?, stderr?],
            pidfd: Receiver::from_owned_fd_unchecked(pidfd)?,
            buffer: vec![0; BUFFER],
        })
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.hold.pid.as_raw_pid().unsigned_abs()
    }

    /// Its processes.
    pub fn tree(&self) -> Tree {
        self.hold.tree.clone()
    }

    /// Says something to it; what it cannot take now goes out in [`Self::next`].
    pub fn tell(&mut self, told: &Told<'_>) -> Result<(), String> {
        words::tell(told, &mut self.out)?;
        self.push()
    }

    /// The same with a frame that is written by `with`.
    pub fn tell_with(&mut self, with: impl FnOnce(&mut BytesMut) -> Result<(), String>) -> Result<(), String> {
        with(&mut self.out)?;
        self.push()
    }

    /// Waits for what comes next, passing its output on. Cancel-safe.
    pub async fn next(&mut self, ear: &mut impl Ear) -> Next {
        loop {
            match self.frames.next() {
                Ok(None) => {}
                Ok(Some(body)) => return words::read(&body).map_or_else(Next::Rude, Next::Said),
                Err(why) => return Next::Rude(why),
            }
            if self.out.len() > UNREAD {
                return Next::Rude(format!("it has not read {} bytes that were written for it", self.out.len()));
            }
            let [out, err] = &self.pipes;
            tokio::select! {
                biased;
                // Written and read in turns: one that writes before it reads blocks nobody.
                _ = has_room(self.room.as_ref()), if self.room.is_some() => {
                    if self.push().is_err() {
                        return self.gone(ear);
                    }
                }
                read = self.coming.read(&mut self.buffer) => {
                    if !self.take(&read) {
                        return self.gone(ear);
                    }
                }
                _ = readable(out.as_ref()), if out.is_some() => self.listen(0, ear),
                _ = readable(err.as_ref()), if err.is_some() => self.listen(1, ear),
                _ = self.pidfd.readable() => {
                    // What it said before it went counts.
                    while self.take_now() == Some(true) {}
                    return match self.frames.next() {
                        Ok(Some(body)) => words::read(&body).map_or_else(Next::Rude, Next::Said),
                        _ => self.gone(ear),
                    };
                }
            }
        }
    }

    /// What has come from it by now, if anything has; asks the system, whatever the runtime knows.
    pub fn next_now(&mut self, ear: &mut impl Ear) -> Option<Next> {
        let open = self.take_now() != Some(false);
        match self.frames.next() {
            Ok(Some(body)) => Some(words::read(&body).map_or_else(Next::Rude, Next::Said)),
            Err(why) => Some(Next::Rude(why)),
            Ok(None) => (!open).then(|| self.gone(ear)),
        }
    }

    fn gone(&mut self, ear: &mut impl Ear) -> Next {
        self.drain(ear);
        match self.frames.left() {
            0 => Next::Gone,
            left => Next::Rude(format!("it went in the middle of a frame, {left} bytes into it")),
        }
    }

    /// Passes on what lies in its output now: written before the frame that was read last.
    pub fn drain(&mut self, ear: &mut impl Ear) {
        for (pipe, stream) in self.pipes.iter().zip(STREAMS) {
            // No more than a pipe holds: one that writes for ever is not waited for.
            for _ in 0..2 {
                let Some(pipe) = pipe else { break };
                match rustix::io::read(pipe, &mut *self.buffer) {
                    Ok(got) if got > 0 => ear.hear(stream, &self.buffer[..got]),
                    _ => break,
                }
            }
        }
    }

    fn listen(&mut self, at: usize, ear: &mut impl Ear) {
        let Some(pipe) = &self.pipes[at] else { return };
        match pipe.try_read(&mut self.buffer) {
            Ok(0) => self.pipes[at] = None,
            Ok(got) => ear.hear(STREAMS[at], &self.buffer[..got]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.pipes[at] = None,
        }
    }

    /// Takes up what was read; `false` at the end.
    fn take(&mut self, read: &io::Result<usize>) -> bool {
        match read {
            Ok(0) | Err(_) => false,
            Ok(got) => {
                self.frames.push(&self.buffer[..*got]);
                true
            }
        }
    }

    /// Reads once whatever the runtime knows; `false` at the end, `None` when nothing is there.
    fn take_now(&mut self) -> Option<bool> {
        match self.socket.read(&mut self.buffer) {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => None,
            read => Some(self.take(&read)),
        }
    }

    fn push(&mut self) -> Result<(), String> {
        let failed = |error: io::Error| format!("it takes nothing any more: {error}");
        while !self.out.is_empty() {
            // By the one that waits: it has to hear that there was no room.
            let written = match &self.room {
                Some(room) => room.try_write(&self.out),
                None => self.socket.write(&self.out),
            };
            match written {
                Ok(written) => self.out.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.room.is_none() {
                        let again = self.socket.try_clone().map_err(failed)?;
                        self.room = Some(Sender::from_owned_fd_unchecked(again.into()).map_err(failed)?);
                    }
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
        self.room = None;
        Ok(())
    }

    /// Ends it and all that belongs to it, softly if there is a grace. How it ended, and what could
    /// not be ended.
    pub async fn end(self, grace: Duration, ear: &mut impl Ear) -> (Exit, Vec<String>) {
        self.end_hearing(grace, ear, |_| {}).await
    }

    /// The same, with what it says meanwhile; nothing of it is kept here.
    pub async fn end_hearing(
        mut self,
        grace: Duration,
        ear: &mut impl Ear,
        mut heard: impl FnMut(Said),
    ) -> (Exit, Vec<String>) {
        let tree = self.tree();
        let mut ending =
            tokio::task::spawn_blocking(move || if grace.is_zero() { tree.kill() } else { tree.end(grace) });
        let mut open = self.pass_on(&mut heard);
        let left = loop {
            let [out, err] = &self.pipes;
            tokio::select! {
                left = &mut ending => break left.unwrap_or_default(),
                read = self.coming.read(&mut self.buffer), if open => {
                    open = self.take(&read) && self.pass_on(&mut heard);
                }
                _ = readable(out.as_ref()), if out.is_some() => self.listen(0, ear),
                _ = readable(err.as_ref()), if err.is_some() => self.listen(1, ear),
            }
        };
        // No more than a socket holds: one that could not be ended may write for ever.
        for _ in 0..HELD {
            if !open || self.take_now() != Some(true) {
                break;
            }
            open = self.pass_on(&mut heard);
        }
        self.drain(ear);
        let status = self.hold.reap().ok().flatten();
        (exit(self.hold.pid, status), left)
    }

    /// Passes on the frames that are whole; `false` when what came is no frame.
    fn pass_on(&mut self, heard: &mut impl FnMut(Said)) -> bool {
        loop {
            match self.frames.next() {
                Ok(Some(body)) => words::read(&body).map_or((), &mut *heard),
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    }

    /// Waits until it ended by itself, so long at most; then ends what is left.
    pub async fn see_off(mut self, within: Duration, ear: &mut impl Ear) -> (Exit, Vec<String>) {
        let ended = async {
            loop {
                let [out, err] = &self.pipes;
                tokio::select! {
                    _ = self.pidfd.readable() => return,
                    _ = readable(out.as_ref()), if out.is_some() => self.listen(0, ear),
                    _ = readable(err.as_ref()), if err.is_some() => self.listen(1, ear),
                }
            }
        };
        let ended = tokio::time::timeout(within, ended).await.is_ok();
        self.end(if ended { Duration::ZERO } else { GRACE }, ear).await
    }
}

async fn has_room(socket: Option<&Sender>) -> io::Result<()> {
    match socket {
        Some(socket) => socket.writable().await,
        None => std::future::pending().await,
    }
}

async fn readable(pipe: Option<&Receiver>) -> io::Result<()> {
    match pipe {
        Some(pipe) => pipe.readable().await,
        None => std::future::pending().await,
    }
}

fn receiver(pipe: OwnedFd) -> io::Result<Receiver> {
    fcntl_setfl(&pipe, OFlags::NONBLOCK)?;
    Receiver::from_owned_fd_unchecked(pipe)
}

fn spawn(program: &Program) -> Spawn {
    let mut args: Vec<String> = ["-c", MOVE, "sh"].map(str::to_owned).into();
    args.extend(program.run.iter().cloned());
    let mut env = program.env.clone();
    for (name, value) in [("SPINOR_EXECUTOR_FD", DESCRIPTOR), ("SPINOR_EXECUTOR_PROTOCOL", "1")] {
        env.insert(name.to_owned(), value.to_owned());
    }
    Spawn { program: "/bin/sh".to_owned(), args, env, cwd: program.cwd.clone(), ..Spawn::default() }
}
