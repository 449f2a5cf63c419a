//! The last part of a run: the record catches up, then the end is written.
//!
//! Owns when the record of a run is whole: every member in its final state, and every step of
//! those that succeeded. Bounded; a record that stays behind is told, not waited for.

use std::{collections::HashMap, time::Duration};

use spinor_consumers::{
    broker::Broker,
    entry::{Entry, RunReport},
    results::{ResultsError, StepFilter},
};
use spinor_executors::{State, StepReport};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Driver, members::Members};
use crate::orchestrations::view::{RunError, RunView, Update, Watch};

/// A plan that failed may have fewer steps on record than it has; this long without a new one
/// means that no more come.
const NO_MORE: Duration = Duration::from_secs(2);
/// The end of a run is in the record this long after it was written, or will be later.
const END_SHOWN: Duration = Duration::from_secs(5);

impl<B: Broker, V: RunView> Driver<B, V> {
    /// Waits until the record is whole, and gives its steps without their output.
    pub(super) async fn complete_record(
        &self,
        run: Uuid,
        members: &mut Members,
        watch: Watch<'_>,
        leave: &CancellationToken,
    ) -> Vec<StepReport> {
        let until = Instant::now() + self.patience.record;
        let mut pause = Duration::from_millis(10);
        let mut grown = Instant::now();
        let mut steps: Vec<StepReport> = Vec::new();
        loop {
            match self.look(run, members).await {
                Ok(found) => {
                    if found.steps.len() != steps.len() {
                        grown = Instant::now();
                    }
                    steps = found.steps;
                    let short = missing(members, &steps);
                    let settled = !short.succeeded && (!short.others || grown.elapsed() >= NO_MORE);
                    if found.all_final && settled {
                        return steps;
                    }
                }
                Err(error) => tracing::debug!(%error, "the record of the run cannot be asked now"),
            }
            if Instant::now() >= until || leave.is_cancelled() {
                let found = steps.len();
                watch(Update::Note(format!("the record is not complete yet: {found} steps are there, the rest comes")));
                return steps;
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(500));
        }
    }

    async fn look(&self, run: Uuid, members: &Members) -> Result<Found, ResultsError> {
        let record = self.view.run(run).await?;
        let finals = record.iter().flat_map(|record| &record.jobs).filter(|(_, row)| row.state.is_final()).count();
        let all_final = finals >= members.ended().count();
        // The steps are many: they are fetched once they can be whole.
        let steps =
            if all_final { self.view.steps(&StepFilter { run, ..StepFilter::default() }).await? } else { Vec::new() };
        Ok(Found { all_final, steps })
    }

    /// Writes the end, and waits a little until it can be read.
    pub(super) async fn record_end(&self, report: &RunReport) -> Result<(), RunError> {
        let line = Entry::Run(Box::new(report.clone())).line();
        self.broker.report(vec![line]).await.map_err(|error| RunError::LostSight(error.to_string()))?;
        let until = Instant::now() + END_SHOWN;
        let mut pause = Duration::from_millis(5);
        while Instant::now() < until {
            if let Ok(Some(record)) = self.view.run(report.run).await
                && record.row.ended.is_some()
            {
                break;
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(200));
        }
        Ok(())
    }
}

struct Found {
    all_final: bool,
    steps: Vec<StepReport>,
}

/// Of whom steps are missing on record.
struct Missing {
    succeeded: bool,
    others: bool,
}

fn missing(members: &Members, steps: &[StepReport]) -> Missing {
    let mut counts: HashMap<&str, u32> = HashMap::new();
    for step in steps {
        *counts.entry(&step.node).or_default() += 1;
    }
    let mut missing = Missing { succeeded: false, others: false };
    for (node, steps, state) in members.ended() {
        if counts.get(node).copied().unwrap_or(0) < steps {
            match state {
                State::Succeeded => missing.succeeded = true,
                State::Failed | State::Cancelled => missing.others = true,
                // It never ran: no step comes.
                _ => {}
            }
        }
    }
    missing
}
