//! Frames to a program and back, one at a time to each of its processes, over the same kind of socket as
//! the product's: what a consumer written by hand would pay for an executor in another process.
//!
//! Blocking reads on a thread for each process; the bytes of a frame are those that the product writes.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use serde_json::{Value, json};
use spinor_executors::Job;
use uuid::Uuid;

use crate::{bytes, measure::Stopwatch};

#[derive(clap::Args)]
pub struct Args {
    /// How many jobs.
    #[arg(long, default_value_t = 20_000)]
    jobs: usize,
    /// Bytes of each job.
    #[arg(long, default_value_t = 100)]
    payload: usize,
    /// Processes of the program.
    #[arg(long, default_value_t = 4)]
    processes: usize,
    /// What Python runs.
    #[arg(long)]
    program: PathBuf,
}

/// A process that said hello.
pub struct Player {
    child: Child,
    socket: BufReader<UnixStream>,
    frame: Vec<u8>,
    answer: Vec<u8>,
}

/// Runs the floor.
pub fn run(args: &Args) -> Result<Value> {
    let players = (0..args.processes.max(1)).map(|_| Player::start(&args.program)).collect::<Result<Vec<_>>>()?;
    let (taken, ready) = (AtomicUsize::new(0), Barrier::new(players.len() + 1));
    let job = Job::new("bench.echo", "bench", bytes::payload(args.payload)?);
    let (line, players) = thread::scope(|scope| {
        let threads: Vec<_> =
            players.into_iter().map(|player| scope.spawn(|| play(player, args.jobs, &job, &taken, &ready))).collect();
        ready.wait();
        let watch = Stopwatch::start()?;
        let mut players = Vec::with_capacity(threads.len());
        for thread in threads {
            players.push(thread.join().map_err(|_| anyhow::anyhow!("a player panicked"))??);
        }
        // Before they are waited for: their own CPU is not the consumer's.
        let line = watch.stop("ping-pong", args.jobs as u64, &json!({ "processes": players.len() }))?;
        anyhow::Ok((line, players))
    })?;
    players.into_iter().try_for_each(Player::end)?;
    Ok(line)
}

impl Player {
    /// Starts one of this program.
    pub fn start(program: &Path) -> Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let child = Command::new("python3")
            .arg(program)
            .env("SPINOR_EXECUTOR_FD", "0")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()
            .context("python3")?;
        let socket = BufReader::with_capacity(64 * 1024, ours);
        let mut player = Self { child, socket, frame: Vec::new(), answer: Vec::new() };
        player.hear()?;
        Ok(player)
    }

    /// Has it run the job of this id, and checks what it answers.
    pub fn turn(&mut self, id: &str, args: &str, created: Timestamp) -> Result<()> {
        let execution = Uuid::now_v7();
        let body = format!(
            r#"{{"type":"run","execution":"{execution}","job":{{"id":"{id}","kind":"bench.echo","queue":"bench","args":{args},"attempt":1,"replay":0,"created":"{created}","headers":{{}}}},"last_attempt":true,"maybe_rerun":false,"soft_seconds":3300.0,"hard_seconds":3600.0}}"#
        );
        self.frame.clear();
        write!(self.frame, "{}\n{body}", body.len())?;
        self.socket.get_mut().write_all(&self.frame)?;
        self.hear()?;
        let answer: Value = serde_json::from_slice(&self.answer)?;
        if answer["execution"] != execution.to_string() || answer["outcome"] != "succeeded" {
            bail!("the program answered {answer}");
        }
        Ok(())
    }

    /// Lets it go.
    pub fn end(self) -> Result<()> {
        let Self { mut child, socket, .. } = self;
        drop(socket);
        child.wait()?;
        Ok(())
    }

    fn hear(&mut self) -> Result<()> {
        let mut length = String::new();
        if self.socket.read_line(&mut length)? == 0 {
            bail!("the program ended");
        }
        self.answer.resize(length.trim_end().parse()?, 0);
        Ok(self.socket.read_exact(&mut self.answer)?)
    }
}

fn play(mut player: Player, jobs: usize, job: &Job, taken: &AtomicUsize, ready: &Barrier) -> Result<Player> {
    let created = Timestamp::now();
    let args = job.args.text();
    ready.wait();
    while taken.fetch_add(1, Ordering::Relaxed) < jobs {
        player.turn(&Uuid::now_v7().to_string(), args, created)?;
    }
    Ok(player)
}
