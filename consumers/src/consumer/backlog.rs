//! The bound of the report queue: beyond it this consumer takes no more jobs, and says why.
//!
//! With no recorder, or none that keeps up, reports wait in their queue, and the broker's disk fills
//! until its alarm stops everyone. Owns the look at that queue, and when intake stops and goes on.
//! Refuses to be exact: the bound is soft, what runs reports still.

use std::sync::Arc;

use tokio::time::{Duration, Instant, MissedTickBehavior, interval_at, timeout};
use tokio_util::sync::CancellationToken;

use super::intake::Intake;
use crate::broker::{AnyBroker, Backlog, Broker};

/// How often it looks: a soft bound is passed by what is reported meanwhile.
const LOOK: Duration = Duration::from_secs(5);

/// What is known of the report queue.
pub struct Reports {
    broker: AnyBroker,
    bound: u64,
    intake: Arc<Intake>,
    full: bool,
}

impl Reports {
    /// Not full until a look says so.
    pub const fn new(broker: AnyBroker, bound: u64, intake: Arc<Intake>) -> Self {
        Self { broker, bound, intake, full: false }
    }

    /// Looks until told to stop.
    pub async fn watch(mut self, stop: CancellationToken) {
        let mut look = interval_at(Instant::now() + LOOK, LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(look.tick()).await.is_some() {
            let _ = stop.run_until_cancelled(self.look()).await;
        }
    }

    /// Looks once. A broker that does not answer hands out nothing either.
    pub async fn look(&mut self) {
        let Ok(Ok(backlog)) = timeout(LOOK, self.broker.backlog()).await else { return };
        if is_full(self.full, backlog, self.bound) == self.full {
            return;
        }
        self.full = !self.full;
        let (reports_mib, bound_mib) = (backlog.bytes >> 20, self.bound >> 20);
        if self.full {
            tracing::warn!(
                packs = backlog.packs,
                reports_mib,
                bound_mib,
                "More reports wait to be recorded than consumer.results_bound: this consumer takes no more jobs until \
                 the recorder has caught up. Nothing is lost. Start a recorder, or see why it waits."
            );
        } else {
            tracing::info!(reports_mib, bound_mib, "The recorder has caught up: this consumer takes jobs again.");
        }
        self.intake.set_full(self.full);
    }
}

/// Full beyond the bound; once full until a fifth below it, so that it does not change its mind at
/// every look.
const fn is_full(was: bool, backlog: Backlog, bound: u64) -> bool {
    backlog.bytes > if was { bound - bound / 5 } else { bound }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intake_stops_beyond_the_bound_and_goes_on_well_below_it() {
        let full = |was, bytes| is_full(was, Backlog { packs: 1, bytes }, 1000);
        assert!(!full(false, 1000) && full(false, 1001));
        assert!(full(true, 1000) && full(true, 801) && !full(true, 800));
    }
}
