//! A consumer says that it is alive and what it runs, and keeps the leases of its permits.

use std::{convert::Infallible, sync::Arc};

use jiff::Timestamp;
use tokio::time::{Duration, MissedTickBehavior, interval};

use super::{
    Consumer,
    catalogue::{self, Catalogue},
    intake::Intake,
    permits::Permits,
    slot::Slots,
};
use crate::state::{Beat, RunningJob};

/// Between two beats.
const EVERY: Duration = Duration::from_secs(5);
/// So many of the running jobs are named in a beat, and of those sent away.
const NAMED: usize = 100;

/// Of why a kind cannot be run, so many characters are told.
const WHY: usize = 500;

/// Beats until dropped. A store that does not answer is told the next time.
pub async fn beat(consumer: &Consumer, intake: &Arc<Intake>, slots: &Arc<Slots>, permits: &Arc<Permits>) -> Infallible {
    let started = Timestamp::now();
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut closing = false;
    let mut catalogue = Catalogue::default();
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            // That it drains is told at once.
            () = intake.closed(), if !closing => closing = true,
        }
        let Some(state) = consumer.agreed.state.get() else { continue };
        permits.renew().await;
        if let Err(error) = state.beat(&now(consumer, intake, slots, started)).await {
            tracing::debug!(%error, "A beat was not heard.");
            continue;
        }
        catalogue.tell(&consumer.registry, state, &consumer.broker, &consumer.settings.origin.consumer).await;
    }
}

fn now(consumer: &Consumer, intake: &Intake, slots: &Slots, started: Timestamp) -> Beat {
    let settings = &consumer.settings;
    let clock = Timestamp::now();
    let running = slots.run_since(NAMED).into_iter().map(|(job, kind, ago)| {
        let since = jiff::SignedDuration::try_from(ago).ok().and_then(|ago| clock.checked_sub(ago).ok());
        RunningJob { job, kind, since: since.unwrap_or(clock) }
    });
    let (mut troubles, mut forms) = (Vec::new(), Vec::new());
    for offer in consumer.registry.offers() {
        match &offer.trouble {
            Some(why) => troubles.push((offer.kind, why.chars().take(WHY).collect())),
            None => forms.push((offer.kind.clone(), catalogue::form_of(&offer))),
        }
    }
    Beat {
        troubles,
        forms,
        consumer: settings.origin.consumer.clone(),
        group: settings.origin.group.clone(),
        host: settings.origin.host.clone(),
        pid: std::process::id(),
        labels: Vec::new(),
        queues: settings.queues.iter().map(|queue| queue.spec.name.clone()).collect(),
        kinds: consumer.registry.kinds(),
        slots: u32::try_from(intake.slots()).unwrap_or(u32::MAX),
        busy: u32::try_from(slots.running()).unwrap_or(u32::MAX),
        running: running.collect(),
        waiting: slots.sent_away(NAMED),
        draining: intake.is_closed(),
        started,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        intake: intake.word(),
    }
}
