//! A consumer obeys the marks: what is cancelled ends, a paused queue is left alone, the number of
//! slots follows, and a drain ends it.
//!
//! Owns when that is looked at: at every change. Refuses to know how marks are kept.

use std::{convert::Infallible, future::pending, sync::Arc};

use spinor_executors::{Cancelled, pool};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Consumer,
    intake::Intake,
    slot::{Slots, wish_text},
};
use crate::state::Subject;

/// Who obeys, and what it takes for it.
pub struct Obeying<'a> {
    /// Whose marks.
    pub consumer: &'a Consumer,
    /// Takes from queues.
    pub intake: &'a Arc<Intake>,
    /// Run jobs.
    pub slots: &'a Arc<Slots>,
    /// More of them run here.
    pub tracker: &'a TaskTracker,
    /// What a drain by mark cancels.
    pub drain: &'a CancellationToken,
}

impl Obeying<'_> {
    /// Obeys at every change.
    pub async fn obey(&self) -> Infallible {
        let mut changes = self.consumer.agreed.marks.changes();
        loop {
            changes.borrow_and_update();
            self.look();
            if changes.changed().await.is_err() {
                return pending().await;
            }
        }
    }

    /// Obeys what holds now.
    pub fn look(&self) {
        let Self { consumer, intake, slots, tracker, drain } = self;
        let (marks, origin) = (&consumer.agreed.marks, &consumer.settings.origin);
        slots.cancel(|job, run| marks.cancelled(job, run).map(|mark| Cancelled::Person(wish_text(&mark))));
        let names = consumer.settings.queues.iter().map(|queue| queue.spec.name.clone());
        let paused = names.filter(|name| marks.get(&Subject::Pause(name.clone())).is_some()).collect();
        intake.pause(&consumer.broker, paused);
        let subjects = [&origin.consumer, &origin.group].map(|name| Subject::Slots(name.clone()));
        let wanted = marks.number(&subjects).map_or(consumer.settings.slots, |number| number as usize);
        // A node runs plans: their number is the node's own.
        if consumer.settings.node.is_none() && intake.set_slots(wanted) {
            let more = wanted.saturating_sub(intake.started());
            intake.has_started(more);
            pool::start(slots, more, tracker);
            tracing::info!(consumer = origin.consumer, slots = wanted, "The number of slots was changed.");
        }
        if let Some(mark) = marks.get(&Subject::Drain(origin.consumer.clone())) {
            tracing::info!(consumer = origin.consumer, by = mark.by, why = mark.why, "Told to drain.");
            drain.cancel();
        }
    }
}
