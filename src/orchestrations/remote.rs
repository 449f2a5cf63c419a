//! Runs driven by a running Spinor, seen through its API.
//!
//! Owns following a run from outside: live events for the eyes, the record for the end. Refuses to
//! publish anything itself, so that a run goes on when its watcher leaves.

use std::{collections::BTreeMap, time::Duration};

use spinor_consumers::{
    broker::Event,
    entry::RunReport,
    results::{RunRecord, RunRow},
};
use spinor_executors::StepReport;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::view::{Member, RunEnd, RunError, RunRequest, Runner, Update, Watch};
use crate::{
    api::{EventFilter, NewRun},
    client::{Client, ClientError, EventStream, StepQuery},
    config::duration_text,
};

/// The record is asked this often while nothing hints at the end.
const QUIET: Duration = Duration::from_secs(1);
/// The record is asked this often once every node's end was heard.
const NEARLY: Duration = Duration::from_millis(50);
/// So many questions in a row without an answer: the run is lost sight of.
const MOST_SILENT: u32 = 30;

/// Drives runs through the API of a running Spinor.
#[derive(Clone, Debug)]
pub struct Remote {
    client: Client,
}

impl Remote {
    /// Through this client.
    pub const fn new(client: Client) -> Self {
        Self { client }
    }

    async fn follow(
        &self,
        request: &RunRequest,
        mut events: Option<EventStream>,
        watch: Watch<'_>,
        leave: &CancellationToken,
    ) -> Result<Option<RunRecord>, RunError> {
        let mut nodes: BTreeMap<Uuid, String> = BTreeMap::new();
        let mut ended = 0;
        let mut silent = 0;
        let mut ask_at = Instant::now() + QUIET;
        loop {
            tokio::select! {
                biased;
                () = leave.cancelled() => return Ok(None),
                event = next(&mut events) => {
                    ended += usize::from(tell(event, &mut nodes, watch));
                    if ended == request.plans.len() {
                        ask_at = ask_at.min(Instant::now() + NEARLY);
                    }
                }
                () = sleep_until(ask_at) => match self.client.run(request.id).await {
                    Ok(record) if record.row.ended.is_some() => return Ok(Some(record)),
                    Ok(record) => {
                        silent = 0;
                        nodes.extend(record.jobs.into_iter().map(|(node, row)| (row.id, node)));
                        let pause = if ended >= request.plans.len() { NEARLY } else { QUIET };
                        ask_at = Instant::now() + pause;
                    }
                    Err(error) => {
                        silent += 1;
                        if silent == MOST_SILENT {
                            return Err(RunError::LostSight(error.to_string()));
                        }
                        ask_at = Instant::now() + QUIET;
                    }
                },
            }
        }
    }
}

impl Runner for Remote {
    async fn answering(&self) -> Result<Vec<String>, RunError> {
        self.client.nodes().await.map_err(|error| not_started(&error))
    }

    async fn run(&self, request: RunRequest, watch: Watch<'_>, leave: &CancellationToken) -> Result<RunEnd, RunError> {
        // Listening starts first, so that nothing is missed; without events the record will do.
        let filter = EventFilter { run: Some(request.id), job: None };
        let events = self.client.events(filter).await.ok();
        let new = NewRun {
            id: Some(request.id),
            name: request.name.clone(),
            plans: request.plans.iter().map(|ready| ready.plan.clone()).collect(),
            expires: Some(duration_text(request.expires)),
            timeout: request.timeout.map(duration_text),
        };
        self.client.submit_run(&new).await.map_err(|error| not_started(&error))?;
        watch(Update::Published);
        let Some(record) = self.follow(&request, events, watch, leave).await? else {
            return Ok(RunEnd { report: announced(&request), members: Vec::new(), steps: Vec::new(), left: true });
        };
        for problem in &record.row.problems {
            watch(Update::Problem(problem.clone()));
        }
        let all = StepQuery::default();
        let steps = self.client.steps(request.id, &all).await.map_err(|error| lost(&error))?;
        Ok(RunEnd { members: members(&request, &record), report: report(record.row), steps, left: false })
    }

    async fn failures(&self, run: Uuid, limit: u32) -> Result<Vec<StepReport>, RunError> {
        let query = StepQuery { node: None, outputs: true, problems: true, limit };
        self.client.steps(run, &query).await.map_err(|error| lost(&error))
    }
}

/// The next event; waits for ever once there are none, since the record tells the end.
async fn next(events: &mut Option<EventStream>) -> Event {
    loop {
        match events {
            None => std::future::pending().await,
            Some(stream) => match stream.next().await {
                Ok(Some(event)) => return event,
                Ok(None) | Err(_) => *events = None,
            },
        }
    }
}

/// Passes an event on; `true` when it ended a node's plan.
fn tell(event: Event, nodes: &mut BTreeMap<Uuid, String>, watch: Watch<'_>) -> bool {
    match event {
        Event::Step { report } => {
            nodes.entry(report.job).or_insert_with(|| report.node.clone());
            watch(Update::Step(report));
        }
        Event::Output { job, stream, text, .. } => {
            if let Some(node) = nodes.get(&job) {
                watch(Update::Output { node: node.clone(), stream, text });
            }
        }
        Event::Ended { report } if report.state.is_final() => {
            if let Some(node) = report.member.clone() {
                watch(Update::Member { node, state: report.state });
            }
            return true;
        }
        _ => {}
    }
    false
}

/// In the order of the plans; a node that got none has no job on record.
fn members(request: &RunRequest, record: &RunRecord) -> Vec<Member> {
    let member = |node: &String| {
        let row = record.jobs.iter().find(|(member, _)| member == node).map(|(_, row)| row);
        Member {
            node: node.clone(),
            state: row.map(|row| row.state).filter(|state| state.is_final()),
            error: row.and_then(|row| row.error.clone()),
        }
    };
    request.plans.iter().map(|ready| member(&ready.plan.node)).collect()
}

fn report(row: RunRow) -> RunReport {
    RunReport {
        run: row.id,
        name: row.name,
        members: row.members,
        steps: row.steps,
        replay: 0,
        started: row.started,
        ended: row.ended,
        succeeded: row.succeeded,
        problems: row.problems,
    }
}

fn announced(request: &RunRequest) -> RunReport {
    RunReport {
        run: request.id,
        name: request.name.clone(),
        members: u32::try_from(request.plans.len()).unwrap_or(u32::MAX),
        steps: request.plans.iter().map(|ready| ready.steps).sum(),
        replay: 0,
        started: jiff::Timestamp::now(),
        ended: None,
        succeeded: None,
        problems: Vec::new(),
    }
}

fn not_started(error: &ClientError) -> RunError {
    RunError::NotStarted(error.to_string())
}

fn lost(error: &ClientError) -> RunError {
    RunError::LostSight(error.to_string())
}
