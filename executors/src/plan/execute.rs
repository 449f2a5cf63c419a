//! The executor of plans: one per node.
//!
//! Owns the order between sequences and between plans, and the plan's outcome. Sync sequences of
//! all plans of the node run one at a time, async ones beside them up to a limit. Each chain of
//! sequences has a thread of its own, because its steps are short and handing them from thread to
//! thread costs more than waiting.

use std::{
    io,
    num::NonZero,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread::available_parallelism,
    time::{Duration, SystemTime},
};

use futures_util::future::join_all;
use serde::Serialize;
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    Plan,
    journal::{Journal, Past, sweep},
    sequence::{Tally, Work},
};
use crate::{BoxFuture, Cancelled, Cause, Context, Executor, Failure, Job, Json, Outcome};

/// How often a plan whose journal another execution holds asks again.
const ASK_AGAIN: Duration = Duration::from_millis(250);
/// So many reports of an earlier execution are handed over at once.
const AT_ONCE: usize = 64;
const SWEEP_EVERY: Duration = Duration::from_secs(3600);

/// Executes the plans of one node.
pub struct PlanExecutor {
    node: String,
    journals: PathBuf,
    /// One permit: the sync sequences of this node.
    sync: Arc<Semaphore>,
    /// The async ones.
    beside: Arc<Semaphore>,
    swept: Mutex<Instant>,
}

/// What a plan that succeeded says.
#[derive(Serialize)]
struct Counts {
    succeeded: u32,
    failed: u32,
    skipped: u32,
    interrupted: u32,
}

impl PlanExecutor {
    /// For the node of this name, with its journals in this directory, which is made if need be.
    pub fn new(node: impl Into<String>, journals: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(journals)?;
        sweep(journals, SystemTime::now())?;
        let cores = available_parallelism().map_or(1, NonZero::get);
        Ok(Self {
            node: node.into(),
            journals: journals.to_owned(),
            sync: Arc::new(Semaphore::new(1)),
            beside: Arc::new(Semaphore::new((2 * cores).min(16))),
            swept: Mutex::new(Instant::now()),
        })
    }

    async fn execute(&self, job: &Job, context: &Context) -> Outcome {
        let plan = match job.args.read::<Plan>() {
            Ok(plan) if plan.node == self.node => plan,
            Ok(plan) => {
                return refused(format!("this plan is for the node `{}`, and this is `{}`", plan.node, self.node));
            }
            Err(error) => return refused(format!("the args are no plan: {error}")),
        };
        self.sweep_sometimes();
        let path = Journal::place(&self.journals, job.id, job.replay);
        let (journal, past) = match open(&path, context).await {
            Ok(Some(opened)) => opened,
            Ok(None) => return Outcome::Failed(why(context).failure()),
            Err(error) => return Outcome::failed(format!("the plan's journal {}: {error}", path.display())),
        };
        let reports: Vec<_> = past.reports.values().cloned().collect();
        for some in reports.chunks(AT_ONCE) {
            context.steps(some.to_vec()).await;
        }
        let chains = chains(&plan);
        let work = Arc::new(Work { job: job.id, run: job.run, plan, journal, past, context: context.share() });
        let mut tally = Tally::default();
        for chain in join_all(chains.into_iter().map(|chain| self.chain(&work, chain))).await {
            match chain {
                Ok(part) => tally.add(part),
                Err(error) => return Outcome::failed(format!("the plan stopped: {error}")),
            }
        }
        self.outcome(&work, tally)
    }

    /// Runs sequences one after another, on one thread, when their turn has come.
    async fn chain(&self, work: &Arc<Work>, chain: Chain) -> io::Result<Tally> {
        let turns = if chain.beside { &self.beside } else { &self.sync };
        // Nothing will run when all is reported, or when it is cancelled: then it waits for no turn.
        let mut turn = None;
        if !chain.is_done(work) {
            tokio::select! {
                taken = Arc::clone(turns).acquire_owned() => turn = Some(taken.map_err(io::Error::other)?),
                () = work.context.cancelled() => {}
            }
        }
        let dropped = CancellationToken::new();
        let _guard = dropped.clone().drop_guard();
        let work = Arc::clone(work);
        let runtime = tokio::runtime::Handle::current();
        let thread = AbortOnDropHandle::new(tokio::task::spawn_blocking(move || {
            // The turn ends with the thread, not with the future that waits for it.
            let _turn = turn;
            runtime.block_on(dropped.run_until_cancelled(work.sequences(&chain.sequences)))
        }));
        match thread.await {
            Ok(Some(tally)) => tally,
            Ok(None) => Err(io::Error::other("it was dropped")),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    fn outcome(&self, work: &Work, tally: Tally) -> Outcome {
        if tally.left > 0 {
            let done = tally.succeeded + tally.failed + tally.skipped + tally.interrupted;
            let message = format!("stopped between two steps after {done}; {} are left in the journal", tally.left);
            return Outcome::Failed(Failure { cause: Cause::Cancelled, message });
        }
        if let Err(error) = work.journal.end() {
            return Outcome::failed(format!("the plan's journal {error}"));
        }
        let Tally { succeeded, failed, skipped, interrupted, .. } = tally;
        let Some(report) = tally.first_failure else {
            let counts = Json::of(&Counts { succeeded, failed, skipped, interrupted });
            return Outcome::Succeeded(counts.unwrap_or_else(|_| Json::null()));
        };
        let failure = report.failure.unwrap_or(Failure { cause: Cause::Error, message: String::new() });
        let mut message = format!("node {}: step {} `{}`: {}", self.node, report.step, report.name, failure.message);
        let failures = failed + interrupted;
        if failures > 1 {
            message.push_str(&format!(" (and {} more)", failures - 1));
        }
        Outcome::Failed(Failure { cause: failure.cause, message })
    }

    fn sweep_sometimes(&self) {
        let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        if swept.elapsed() > SWEEP_EVERY {
            *swept = Instant::now();
            // Old files stay until the next time; no plan fails for them.
            let _ = sweep(&self.journals, SystemTime::now());
        }
    }
}

impl Executor for PlanExecutor {
    fn run<'a>(&'a self, job: &'a Job, context: &'a Context) -> BoxFuture<'a, Outcome> {
        Box::pin(self.execute(job, context))
    }
}

/// Sequences that run one after another, each with the number of its first step.
struct Chain {
    beside: bool,
    sequences: Vec<(usize, u32)>,
}

impl Chain {
    /// Does the journal hold a report of each of its steps?
    fn is_done(&self, work: &Work) -> bool {
        self.sequences.iter().all(|(at, first)| {
            let steps = work.plan.sequences[*at].steps.len();
            (*first..).take(steps).all(|step| work.past.reports.contains_key(&step))
        })
    }
}

/// All sync sequences are one chain, each async one is its own.
fn chains(plan: &Plan) -> Vec<Chain> {
    let mut chains = vec![Chain { beside: false, sequences: Vec::new() }];
    let mut first = 0;
    for (at, sequence) in plan.sequences.iter().enumerate() {
        if sequence.beside {
            chains.push(Chain { beside: true, sequences: vec![(at, first)] });
        } else {
            chains[0].sequences.push((at, first));
        }
        first += u32::try_from(sequence.steps.len()).unwrap_or(u32::MAX);
    }
    chains.retain(|chain| !chain.sequences.is_empty());
    chains
}

/// Opens the journal, after the execution that still holds it; `None` when cancelled meanwhile.
pub(super) async fn open(path: &Path, context: &Context) -> io::Result<Option<(Journal, Past)>> {
    loop {
        if let Some(opened) = Journal::open(path)? {
            return Ok(Some(opened));
        }
        tokio::select! {
            () = context.cancelled() => return Ok(None),
            () = sleep(ASK_AGAIN) => {}
        }
    }
}

fn why(context: &Context) -> Cancelled {
    context.why_cancelled().unwrap_or(Cancelled::Drain)
}

fn refused(message: String) -> Outcome {
    Outcome::Failed(Failure::args(message))
}
