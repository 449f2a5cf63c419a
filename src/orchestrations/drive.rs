//! The life of a run over a broker: announce, publish a plan to each node, follow, record the end.
//!
//! Owns when a run is over. Live events are lossy, so they only make it quick: the record is the
//! truth, and it is asked whenever the events are quiet. A node that is unknown or unreachable is
//! a problem of the run and holds nobody up. Refuses to know what a plan says.

mod members;
mod nodes;
mod record;
#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use spinor_consumers::{
    blobs::Blobs,
    broker::{Address, Broker, Event, Events, Outgoing, PublishError, Topic},
    entry::{Entry, RunReport},
    message,
    results::StepFilter,
};
use spinor_executors::{Job, StepReport, plan::PLAN_KIND};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::members::Members;
use super::view::{RunEnd, RunError, RunRequest, RunView, Runner, Update, Watch};

pub use self::nodes::node_queue;

/// How long a driver waits for what; the defaults are for people.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Events this long quiet: the record is asked.
    pub quiet: Duration,
    /// A queue this long without a consumer: its node is unreachable.
    pub unreachable: Duration,
    /// Nodes answer a ping within this.
    pub answer: Duration,
    /// A publish that is refused for now is repeated this long.
    pub publish: Duration,
    /// The record is complete this long after the last plan ended.
    pub record: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            quiet: Duration::from_secs(1),
            unreachable: Duration::from_secs(5),
            answer: Duration::from_secs(1),
            publish: Duration::from_secs(30),
            record: Duration::from_secs(60),
        }
    }
}

/// Drives runs over a broker, with the record at hand.
#[derive(Clone)]
pub struct Driver<B, V> {
    broker: B,
    view: V,
    local: Vec<String>,
    patience: Patience,
    blobs: Option<Blobs>,
}

impl<B: Broker, V: RunView> Driver<B, V> {
    /// A driver; `local` are the nodes in this process, which need no ping. Empty asks for all.
    pub fn new(broker: B, view: V, local: Vec<String>) -> Self {
        Self { broker, view, local, patience: Patience::default(), blobs: None }
    }

    /// The same, with a place for large plans; without one they travel as they are.
    #[must_use]
    pub fn with_blobs(mut self, blobs: Blobs) -> Self {
        self.blobs = Some(blobs);
        self
    }

    /// The same, with other waiting times.
    #[must_use]
    pub const fn with_patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }

    async fn announce(&self, request: &RunRequest) -> Result<RunReport, RunError> {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let report = RunReport {
            run: request.id,
            name: request.name.clone(),
            members: count(request.plans.len()),
            steps: request.plans.iter().map(|ready| ready.steps).sum(),
            replay: 0,
            started: Timestamp::now(),
            ended: None,
            succeeded: None,
            problems: Vec::new(),
        };
        let line = Entry::Run(Box::new(report.clone())).line();
        self.broker.report(vec![line]).await.map_err(|error| RunError::NotStarted(error.to_string()))?;
        Ok(report)
    }

    /// Publishes each plan and the `queued` report of those that were accepted.
    async fn publish(&self, request: &RunRequest, members: &mut Members, watch: Watch<'_>) {
        let mut waiting: Vec<(usize, Job)> = Vec::new();
        for (index, ready) in request.plans.iter().enumerate() {
            let mut job = plan_job(request, &ready.plan.node, members.id(index), ready.args.clone());
            let put = match &self.blobs {
                Some(blobs) => blobs.put_args(&mut job).await,
                None => Ok(()),
            };
            match put {
                Ok(()) => waiting.push((index, job)),
                Err(error) => {
                    members.give_up(index, format!("node `{}` got no plan: {error}", ready.plan.node), watch);
                }
            }
        }
        let until = Instant::now() + self.patience.publish;
        loop {
            let batch = waiting.iter().map(|(_, job)| outgoing(job)).collect();
            let results = self.broker.publish(batch).await;
            let mut again = Vec::new();
            let mut queued = Vec::new();
            for ((index, job), result) in waiting.into_iter().zip(results) {
                match result {
                    Ok(()) => queued.push(Entry::Queued(Box::new(job)).line()),
                    Err(PublishError::Unconfirmed(_) | PublishError::Refused(_)) if Instant::now() < until => {
                        again.push((index, job));
                    }
                    Err(error) => members.give_up(index, refusal(members.node(index), &error), watch),
                }
            }
            if !queued.is_empty()
                && let Err(error) = self.broker.report(queued).await
            {
                watch(Update::Note(format!("the plans are sent, but not yet in the lists: {error}")));
            }
            if again.is_empty() {
                break;
            }
            waiting = again;
            sleep(Duration::from_millis(500)).await;
        }
        watch(Update::Published);
    }

    /// Until every member ended or was given up. `true`: the watcher left.
    async fn follow(
        &self,
        request: &RunRequest,
        mut events: Events,
        members: &mut Members,
        watch: Watch<'_>,
        leave: &CancellationToken,
    ) -> bool {
        let deadline = request.timeout.map(|timeout| Instant::now() + timeout);
        let mut look = interval(self.patience.unreachable / 5);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ask_at = Instant::now() + self.patience.quiet;
        let mut asked = Instant::now();
        let mut hearing = true;
        while !members.all_done() {
            tokio::select! {
                biased;
                () = leave.cancelled() => return true,
                () = async { sleep_until(deadline.unwrap_or_else(Instant::now)).await }, if deadline.is_some() => {
                    members.out_of_time(request.timeout.unwrap_or_default(), watch);
                }
                event = events.next(), if hearing => match event {
                    Some(event) => {
                        members.hear(event, watch);
                        // Busy events put the question off, but not for ever: the one that
                        // mattered may be the one that was lost.
                        ask_at = (Instant::now() + self.patience.quiet).min(asked + 10 * self.patience.quiet);
                    }
                    None => hearing = false,
                },
                () = sleep_until(ask_at) => {
                    self.ask(request.id, members, watch).await;
                    asked = Instant::now();
                    ask_at = asked + self.patience.quiet;
                }
                _ = look.tick() => self.look_for_nodes(request.id, members, watch).await,
            }
        }
        false
    }

    /// Takes over from the record which members ended.
    async fn ask(&self, run: Uuid, members: &mut Members, watch: Watch<'_>) {
        match self.view.run(run).await {
            Ok(record) => members.read(record.as_ref(), watch),
            Err(error) => tracing::debug!(%error, "the record of the run cannot be asked now"),
        }
    }
}

impl<B: Broker, V: RunView> Runner for Driver<B, V> {
    async fn answering(&self) -> Result<Vec<String>, RunError> {
        if !self.local.is_empty() {
            return Ok(self.local.clone());
        }
        self.ping().await.map_err(|error| RunError::NotStarted(error.to_string()))
    }

    async fn run(&self, request: RunRequest, watch: Watch<'_>, leave: &CancellationToken) -> Result<RunEnd, RunError> {
        // Listening starts first: what is heard before the publish is answered counts too.
        let events = self.broker.listen(Topic::Run(request.id)).await;
        let events = events.map_err(|error| RunError::NotStarted(error.to_string()))?;
        self.await_local().await;
        let mut report = self.announce(&request).await?;
        let mut members = Members::new(&request.plans);
        self.publish(&request, &mut members, watch).await;
        let left = self.follow(&request, events, &mut members, watch, leave).await;
        if left {
            return Ok(RunEnd { report, members: members.end(), steps: Vec::new(), left });
        }
        let steps = self.complete_record(request.id, &mut members, watch, leave).await;
        report.ended = Some(Timestamp::now());
        report.succeeded = Some(members.all_succeeded());
        report.problems = members.problems().to_vec();
        self.record_end(&report).await?;
        Ok(RunEnd { report, members: members.end(), steps, left: false })
    }

    async fn failures(&self, run: Uuid, limit: u32) -> Result<Vec<StepReport>, RunError> {
        let filter = StepFilter { run, node: None, outputs: true, problems: true, limit };
        self.view.steps(&filter).await.map_err(|error| RunError::LostSight(error.to_string()))
    }
}

fn plan_job(request: &RunRequest, node: &str, id: Uuid, args: spinor_executors::Json) -> Job {
    let mut job = Job::new(PLAN_KIND, node_queue(node), args);
    job.id = id;
    job.run = Some(request.id);
    job.member = Some(node.to_owned());
    let expires = SignedDuration::try_from(request.expires).unwrap_or(SignedDuration::MAX);
    job.expires_at = job.created.checked_add(expires).ok();
    job
}

fn outgoing(job: &Job) -> Outgoing {
    Outgoing { to: Address::Work(job.queue.clone()), message: message::encode(job, true), must: true }
}

/// Why a node gets no plan, in its own words.
fn refusal(node: &str, error: &PublishError) -> String {
    match error {
        PublishError::Unroutable { known, .. } => {
            let mut nodes: Vec<&str> = known.iter().filter_map(|queue| nodes::node_of(queue)).collect();
            nodes.sort_unstable();
            let nodes = if nodes.is_empty() { "none".to_owned() } else { nodes.join(", ") };
            format!("node `{node}` is unknown: no queue of that name; nodes known: {nodes}")
        }
        error => format!("node `{node}` got no plan: {error}"),
    }
}

/// Which member an event is about, and what it says.
fn about(event: &Event) -> Option<Uuid> {
    event.subject().0
}
