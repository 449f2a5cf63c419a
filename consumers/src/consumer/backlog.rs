//! The bound of the report queue: beyond it this consumer takes no more jobs, and says why.
//!
//! With no recorder, or none that keeps up, reports wait in their queue, and the broker's disk fills
//! until its alarm stops everyone. Owns the look at that queue, and when intake stops and goes on.
//! Refuses to be exact: the bound is soft, what runs reports still.

use std::sync::Arc;

use tokio::time::{Duration, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::intake::Intake;
use crate::broker::{AnyBroker, Backlog, Broker};

/// How often it looks: a soft bound is passed by what is reported meanwhile.
const LOOK: Duration = Duration::from_secs(5);

/// Looks until told to stop. A broker that does not answer hands out nothing either.
pub async fn watch(broker: AnyBroker, bound: u64, intake: Arc<Intake>, stop: CancellationToken) {
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut full = false;
    while stop.run_until_cancelled(look.tick()).await.is_some() {
        let Some(Ok(backlog)) = stop.run_until_cancelled(broker.backlog()).await else { continue };
        if is_full(full, backlog, bound) == full {
            continue;
        }
        full = !full;
        let (reports_mib, bound_mib) = (backlog.bytes >> 20, bound >> 20);
        if full {
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
        intake.set_full(full);
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
