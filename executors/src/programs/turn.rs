//! One job on one executor process, from its frame to its result.
//!
//! Owns what each thing that can happen meanwhile means for the job. Refuses to know which process
//! gets the job, and what becomes of the process afterwards but for this: it is still there, or not.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::BytesMut;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until},
};

use super::{
    Draft, Program,
    child::{Child, Ear, GRACE, Next},
    ears::JobEar,
    start::ended,
    words::{self, Ended, Published, Said, Told},
};
use crate::{Cancelled, Cause, Context, Exit, Failure, Outcome, Output, Stream};

/// So many jobs may leave with one; more come from a job of their own.
const MOST_DRAFTS: usize = 10_000;

/// A job for a process.
pub struct Turn {
    /// The execution's id.
    pub execution: String,
    /// The frame that starts it.
    pub frame: BytesMut,
    /// Its view of the world.
    pub context: Context,
    /// Was it begun? One that was not, whatever became of its process, may be given to another.
    pub begun: Arc<AtomicBool>,
    /// Where the end goes; closed by who does not want it any more.
    pub answer: oneshot::Sender<Done>,
}

/// What is left of a job when it has ended.
pub struct Done {
    /// How it ended.
    pub outcome: Outcome,
    /// Standard output, standard error.
    pub output: [Output; 2],
    /// The end of the process, if it ended as well.
    pub exit: Option<Exit>,
    /// The jobs it publishes.
    pub publish: Vec<Draft>,
}

/// When a sign of life is asked for, and when it has to have come.
pub struct Pulse {
    every: Duration,
    within: Duration,
    next: Instant,
    asked: bool,
    number: u64,
}

/// What it is time for.
pub enum Beat {
    /// Ask, with this number.
    Ask(u64),
    /// It is hung.
    Hung,
}

impl Pulse {
    /// It has just given one.
    pub fn new(program: &Program) -> Self {
        let (every, within) = (program.ping, program.pong);
        Self { every, within, next: Instant::now() + every, asked: false, number: 0 }
    }

    /// It gives one.
    pub fn sign(&mut self) {
        self.asked = false;
        self.next = Instant::now() + self.every;
    }

    /// Waits until it is time for something.
    pub async fn due(&mut self) -> Beat {
        sleep_until(self.next).await;
        if self.asked {
            return Beat::Hung;
        }
        (self.asked, self.number) = (true, self.number + 1);
        self.next = Instant::now() + self.within;
        Beat::Ask(self.number)
    }
}

/// How a job's time on a process ended.
enum End {
    /// With a result; the process goes on.
    Result(Ended),
    /// The process is to be ended so long after it was asked, and the job ends so.
    Kill(Duration, Failure),
    /// The process ended by itself.
    Gone,
    /// The job is not its any more.
    Unwanted,
}

/// Runs a job on a process. The process comes back if it can run another; the flag says whether it
/// wants to.
pub async fn run(mut child: Child, turn: Turn, program: &Program, pings: bool) -> Option<(Child, bool)> {
    let Turn { execution, frame, context, begun, mut answer } = turn;
    let (mut ear, mut publish, mut wants) = (JobEar::new(&context), Vec::new(), true);
    let end = match child.tell_with(|out| {
        out.extend_from_slice(&frame);
        Ok(())
    }) {
        Ok(()) => {
            begun.store(true, Ordering::Release);
            drop(frame);
            let mut talk = Talk { execution: &execution, context: &context, publish: &mut publish, wants: &mut wants };
            talk.until_end(&mut child, &mut ear, &mut answer, pings.then(|| Pulse::new(program))).await
        }
        // It went before it had the job: that has not begun, and gets another.
        Err(_) => End::Unwanted,
    };
    let (child, outcome, exit) = match end {
        End::Result(Ended { outcome, detail, .. }) => {
            child.drain(&mut ear);
            if let Some(detail) = detail {
                ear.hear(Stream::Stderr, detail.as_bytes());
            }
            (Some(child), outcome, None)
        }
        End::Kill(grace, mut failure) => {
            let mut result = None;
            let ended = child.end_hearing(grace, &mut ear, |said| match said {
                Said::Result(ended) if ended.execution == execution && result.is_none() => result = Some(ended.outcome),
                _ => {}
            });
            let (exit, left) = ended.await;
            let outcome = match result {
                // It was done before it was ended.
                Some(outcome @ Outcome::Succeeded(_)) if matches!(failure.cause, Cause::Timeout | Cause::Cancelled) => {
                    outcome
                }
                _ => {
                    if !left.is_empty() {
                        failure.message.push_str("; could not be ended: ");
                        failure.message.push_str(&left.join(", "));
                    }
                    Outcome::Failed(failure)
                }
            };
            (None, outcome, Some(exit))
        }
        End::Gone => {
            let (exit, _) = child.see_off(GRACE, &mut ear).await;
            let message = format!("the program ended in the middle of the job ({})", ended(exit));
            (None, Outcome::Failed(Failure { cause: Cause::Crash, message }), Some(exit))
        }
        // Dropped, it ends with its tree.
        End::Unwanted => return None,
    };
    let mut done = Done { outcome, output: ear.finish(), exit, publish };
    if let Outcome::Failed(Failure { cause: Cause::Crash, message }) = &mut done.outcome
        && let Some(line) = crate::process::last_line(&done.output[1])
    {
        message.push_str(": ");
        message.push_str(line);
    }
    if !matches!(done.outcome, Outcome::Succeeded(_)) {
        // Nothing half-done leaves.
        done.publish.clear();
    }
    // Nobody may wait any more: the job is somebody else's, and the process goes on.
    let _ = answer.send(done);
    child.map(|child| (child, wants))
}

/// The talk about one job.
struct Talk<'a> {
    execution: &'a str,
    context: &'a Context,
    publish: &'a mut Vec<Draft>,
    wants: &'a mut bool,
}

impl Talk<'_> {
    async fn until_end(
        &mut self,
        child: &mut Child,
        ear: &mut JobEar<'_>,
        answer: &mut oneshot::Sender<Done>,
        mut pulse: Option<Pulse>,
    ) -> End {
        let tree = child.tree();
        let exceeded = self.context.bounds.exceeded(&tree);
        tokio::pin!(exceeded);
        let mut asked: Option<(Instant, Cancelled)> = None;
        loop {
            tokio::select! {
                biased;
                next = child.next(ear) => {
                    if let Some(pulse) = &mut pulse {
                        pulse.sign();
                    }
                    if let Some(end) = self.heard(next, child, ear) {
                        return end;
                    }
                }
                () = self.context.cancelled(), if asked.is_none() => {
                    let why = self.context.why_cancelled().unwrap_or(Cancelled::Drain);
                    if child.tell(&words::cancel(self.execution, &why)).is_err() {
                        return End::Gone;
                    }
                    asked = Some((Instant::now() + self.context.patience(), why));
                }
                why = over(asked.as_ref()) => return End::Kill(GRACE, why.failure()),
                (used, limit) = &mut exceeded => return End::Kill(Duration::ZERO, too_much(used, limit)),
                () = answer.closed() => return End::Unwanted,
                beat = beat(pulse.as_mut()) => match beat {
                    Beat::Ask(n) if child.tell(&Told::Ping { n }).is_ok() => {}
                    Beat::Ask(_) => return End::Gone,
                    Beat::Hung => return End::Kill(GRACE, crash("the program hung: it answered no ping".to_owned())),
                },
            }
        }
    }

    /// `Some` when that was the end.
    fn heard(&mut self, next: Next, child: &mut Child, ear: &mut JobEar<'_>) -> Option<End> {
        let said = match next {
            Next::Said(said) => said,
            Next::Rude(why) => return Some(End::Kill(GRACE, rude(&why))),
            Next::Gone => return Some(End::Gone),
        };
        match said {
            Said::Result(ended) if ended.execution == self.execution => return Some(End::Result(ended)),
            Said::Result(_) => return Some(End::Kill(GRACE, rude("a result of an execution that it does not run"))),
            Said::Hello(_) => return Some(End::Kill(GRACE, rude("a second hello"))),
            Said::Progress(of, progress) if of == self.execution => self.context.progress(progress),
            Said::Log(of, line) if of == self.execution => ear.hear(Stream::Stderr, line.as_bytes()),
            Said::Publish(published) => {
                let told = self.published(&published);
                if child.tell(&told).is_err() {
                    return Some(End::Gone);
                }
            }
            Said::Bye => *self.wants = false,
            Said::Progress(..) | Said::Log(..) | Said::Sign => {}
        }
        None
    }

    fn published<'a>(&mut self, published: &'a Published) -> Told<'a> {
        let read = if published.execution != self.execution {
            Err("execution: it does not run any more".to_owned())
        } else {
            match self.context.drafts() {
                None => Err("jobs: nothing can be published from here".to_owned()),
                Some(drafts) => drafts.read(published.jobs.bytes()),
            }
        };
        let read = read.and_then(|drafts| {
            let many = self.publish.len() + drafts.len() > MOST_DRAFTS;
            if many { Err(format!("jobs: more than {MOST_DRAFTS} from one job")) } else { Ok(drafts) }
        });
        let (execution, number) = (published.execution.as_str(), published.number);
        match read {
            Ok(drafts) => {
                let ids = drafts.iter().map(|draft| draft.job.id).collect();
                self.publish.extend(drafts);
                Told::Published { execution, number, ids: Some(ids), error: None }
            }
            Err(why) => Told::Published { execution, number, ids: None, error: Some(why) },
        }
    }
}

async fn over(asked: Option<&(Instant, Cancelled)>) -> Cancelled {
    match asked {
        Some((until, why)) => {
            sleep_until(*until).await;
            why.clone()
        }
        None => std::future::pending().await,
    }
}

async fn beat(pulse: Option<&mut Pulse>) -> Beat {
    match pulse {
        Some(pulse) => pulse.due().await,
        None => std::future::pending().await,
    }
}

fn crash(message: String) -> Failure {
    Failure { cause: Cause::Crash, message }
}

fn rude(why: &str) -> Failure {
    crash(format!("the program broke the protocol: {why}"))
}

fn too_much(used: u64, limit: u64) -> Failure {
    let (used, limit) = (used >> 20, limit >> 20);
    Failure {
        cause: Cause::Memory,
        message: format!("held {used} MiB of memory, more than its limit of {limit} MiB, and was ended"),
    }
}
