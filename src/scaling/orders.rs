//! The pipe between a supervisor and a replica in a process of its own: the replica's standard input.
//!
//! Owns its two words and what its end means: the supervisor is dead, so drain, too. Refuses signals:
//! whoever stops a service signals all its processes at once, and a second signal cuts jobs.

use std::{io, os::fd::AsFd as _};

use spinor_consumers::consumer::Shutdown;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::unix::pipe::Receiver,
    process::ChildStdin,
};

/// What a replica is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Take nothing new, give what runs its grace, then end.
    Drain,
    /// End at once.
    Now,
}

impl Order {
    const fn word(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Now => "now",
        }
    }

    /// Tells a replica. One that is dead already needs no word.
    pub async fn tell(self, pipe: &mut ChildStdin) {
        let _ = pipe.write_all(format!("{}\n", self.word()).as_bytes()).await;
    }
}

/// The replica's end.
#[derive(Debug)]
pub struct Orders(BufReader<Receiver>);

impl Orders {
    /// From standard input; an error when that is no pipe.
    pub fn of_stdin() -> io::Result<Self> {
        let pipe = io::stdin().as_fd().try_clone_to_owned()?;
        Ok(Self(BufReader::new(Receiver::from_owned_fd(pipe)?)))
    }

    /// Does as it is told until the pipe ends.
    pub async fn obey(self, shutdown: Shutdown) {
        let mut lines = self.0.lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if line == Order::Drain.word() {
                tracing::info!("Told to drain: nothing new is taken, what runs gets its grace period.");
                shutdown.drain.cancel();
            } else if line == Order::Now.word() {
                shutdown.drain.cancel();
                shutdown.now.cancel();
            }
        }
        if !shutdown.drain.is_cancelled() {
            tracing::warn!("The `spinor up` that started this replica is gone: draining.");
            shutdown.drain.cancel();
        }
    }
}
