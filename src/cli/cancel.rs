//! `spinor jobs cancel` and `spinor runs cancel`: what shall not run, or shall end.
//!
//! Owns the answer for each of many ids, and what a wait for the end comes to: 0 only when each was
//! cancelled.

use std::time::Duration;

use clap::Args;
use serde::Serialize;
use spinor_executors::State;
use uuid::Uuid;

use super::{
    Failure,
    ask::Global,
    failure::{DONE, FAILED},
    jobs::id_of,
    output::Output,
    publish::{duration, until_ended},
    steer::Why,
    table::clean,
};
use crate::{
    api::{CancelRequested, Problem},
    client::{Client, ClientError},
};

/// Flags of `jobs cancel`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  spinor jobs cancel 0198f1d2-0000-7000-8000-000000000000
  spinor jobs cancel 0198f1d2-0000-7000-8000-000000000000 --why 'wrong input' --wait

A queued job is answered by the consumer that meets it, one on a delay tier when it is due, a running one
is ended with all its processes; one that waits in the database ends at once. Until then `spinor jobs show` says *cancel requested*. Exit code 1
when one has ended already or is not known.")]
pub struct CancelJobs {
    /// Their ids
    #[arg(required = true, value_name = "ID", value_parser = id_of)]
    ids: Vec<Uuid>,
    #[command(flatten)]
    why: Why,
    /// Wait until each has ended; 0 = all were cancelled
    #[arg(long)]
    wait: bool,
    /// Wait no longer than this
    #[arg(long, value_name = "DURATION", requires = "wait", value_parser = duration)]
    timeout: Option<Duration>,
}

/// Flags of `runs cancel`.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  spinor runs cancel 0198f1d2-0000-7000-8000-000000000000 --why 'wrong file'\n\nEvery job of the run is cancelled, those that are published later included."
)]
pub struct CancelRun {
    /// Its id
    #[arg(value_parser = id_of)]
    id: Uuid,
    #[command(flatten)]
    why: Why,
}

/// What came of one id.
#[derive(Debug, Serialize)]
struct One {
    id: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    requested: Option<CancelRequested>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Problem>,
    /// How it ended, when that was waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<State>,
}

impl CancelJobs {
    pub(super) async fn run(self, client: &Client, output: Output) -> Result<u8, Failure> {
        let asked = self.why.asked();
        let mut all = Vec::with_capacity(self.ids.len());
        for id in self.ids {
            let mut one = One { id, requested: None, problem: None, ended: None };
            match client.cancel_job(id, &asked).await {
                Ok(requested) => one.requested = Some(requested),
                // Each has an answer of its own; what is wrong with the request is wrong for all.
                Err(ClientError::Refused(problem)) if matches!(problem.status, 404 | 409) => {
                    one.problem = Some(*problem);
                }
                Err(error) => return Err(error.into()),
            }
            all.push(one);
        }
        if self.wait {
            for one in all.iter_mut().filter(|one| one.problem.is_none()) {
                one.ended = Some(until_ended(client, one.id, self.timeout, true).await?.state);
            }
        }
        let done = all.iter().all(|one| one.problem.is_none() && one.ended.is_none_or(|end| end == State::Cancelled));
        output.value(&all, |all| all.iter().map(line).collect())?;
        Ok(if done { DONE } else { FAILED })
    }
}

fn line(one: &One) -> String {
    let id = one.id;
    let text = match (&one.problem, &one.requested, one.ended) {
        (Some(problem), ..) => problem.detail.clone(),
        (None, _, Some(State::Cancelled)) => format!("{id} cancelled"),
        (None, _, Some(state)) => format!("{id} had ended before it could be cancelled: {}", state.word()),
        (None, Some(requested), None) => format!("{id} cancel requested {}", requested.cancel_requested),
        (None, None, None) => format!("{id} not answered"),
    };
    clean(&text) + "\n"
}

impl CancelRun {
    pub(super) async fn run(self, global: &Global, output: Output) -> Result<u8, Failure> {
        let requested = global.client()?.cancel_run(self.id, &self.why.asked()).await?;
        output.value(&requested, |requested| {
            clean(&format!("run {} cancel requested {}", requested.id, requested.cancel_requested))
        })
    }
}
