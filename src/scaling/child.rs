//! A replica in a process of its own.
//!
//! Owns its start, its orders and its end: one that outlasts its drain by far is killed. Its jobs'
//! processes are its own guardian's matter. Refuses to know why it is started.

use std::{ffi::OsString, io, path::PathBuf, process::Stdio, time::Duration};

use spinor_consumers::consumer::Shutdown;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::{Instant, sleep_until},
};

use super::{
    orders::Order,
    replica::{Ended, Told, Word},
};

/// A process that was told to end at once is killed after this.
const LAST_MOMENT: Duration = Duration::from_secs(10);

/// What starts one more consumer of this process's configuration.
#[derive(Clone, Debug)]
pub struct Program {
    /// The program.
    pub path: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

impl Program {
    /// Starts it: the same directory, environment and standard error; orders on its standard input.
    pub fn start(&self) -> io::Result<Child> {
        let mut command = Command::new(&self.path);
        command.args(&self.arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        // A terminal's interrupt goes to its whole group; the supervisor alone says when to drain.
        command.process_group(0).spawn()
    }
}

/// Sees a process to its end: tells when it is up, hands orders on, kills what outlasts `bound`.
pub async fn follow(mut child: Child, shutdown: Shutdown, bound: Duration, told: Told) {
    let mut orders = child.stdin.take();
    let mut lines = child.stdout.take().map(|out| BufReader::new(out).lines());
    let (mut up, mut drained, mut cut, mut killed) = (false, false, false, false);
    let mut end = Instant::now();
    let status = loop {
        let line = async {
            match &mut lines {
                Some(lines) => lines.next_line().await.ok().flatten().is_some(),
                None => false,
            }
        };
        let order = tokio::select! {
            status = child.wait() => break status,
            said = line, if !up => {
                up = true;
                if said {
                    told.say(Word::Up).await;
                }
                continue;
            }
            () = shutdown.now.cancelled(), if !cut => {
                (cut, drained, end) = (true, true, Instant::now() + LAST_MOMENT);
                Order::Now
            }
            () = shutdown.drain.cancelled(), if !drained => {
                (drained, end) = (true, Instant::now() + bound);
                Order::Drain
            }
            () = sleep_until(end), if drained && !killed => {
                killed = true;
                tracing::warn!(pid = child.id(), "A replica did not end in time and is killed; what it had in hand goes back.");
                let _ = child.start_kill();
                continue;
            }
        };
        if let Some(orders) = &mut orders {
            order.tell(orders).await;
        }
    };
    let ended = match status {
        Ok(status) => Ended { how: status.to_string(), well: status.success() },
        Err(error) => Ended { how: format!("cannot be awaited: {error}"), well: false },
    };
    told.say(Word::Ended(ended)).await;
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    /// What a shell script says of itself as a replica that was told to drain once it is up.
    async fn drained(script: &str, bound: Duration) -> (bool, String) {
        let program = Program { path: "/bin/sh".into(), arguments: vec!["-c".into(), script.into()] };
        let (words, mut heard) = mpsc::channel(8);
        let (shutdown, child) = (Shutdown::default(), program.start().unwrap());
        let following = follow(child, shutdown.clone(), bound, Told::new(1, words));
        let hearing = async {
            loop {
                match heard.recv().await {
                    Some((1, Word::Up)) => shutdown.drain.cancel(),
                    Some((1, Word::Ended(ended))) => return (ended.well, ended.how),
                    _ => panic!("a word of another, or none"),
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), async { tokio::join!(following, hearing).1 }).await.unwrap()
    }

    #[tokio::test]
    async fn a_replica_reads_its_order_and_ends() {
        let (well, how) = drained("echo up; read order; test $order = drain", Duration::from_secs(60)).await;
        assert!(well, "{how}");
    }

    #[tokio::test]
    async fn a_replica_that_outlasts_its_drain_is_killed() {
        let (well, how) = drained("trap '' TERM; echo up; exec sleep 600", Duration::from_millis(100)).await;
        assert!(!well && how.contains("SIGKILL"), "{how}");
    }
}
