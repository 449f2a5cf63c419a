//! What is in hand on one channel, and when it may be acked.
//!
//! Owns the handles of unanswered deliveries. Acks are `multiple` up to the longest finished
//! prefix; what is finished beyond it waits a moment, so that slight reordering costs nothing,
//! and is then acked alone. Always through the delivery's own handle, never by number: an old
//! number would ack a new delivery. Once stale, it answers nothing more.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::FutureExt;
use lapin::{
    Acker,
    options::{BasicAckOptions, BasicNackOptions},
};
use tokio::{sync::Notify, time::Instant};

/// How long a finished delivery waits for its elders.
pub const PATIENCE: Duration = Duration::from_millis(20);

enum Slot {
    InHand(Acker),
    Finished(Acker, Instant),
    /// A number that never reached us: nothing may be acked across it.
    Hole,
}

#[derive(Default)]
struct Open {
    slots: BTreeMap<u64, Slot>,
    /// The last number seen on the channel.
    last: u64,
    /// Numbers up to this belong to consumers that were cancelled for a credit change.
    elders: u64,
    /// How many of those are unanswered.
    old: usize,
    /// Finished, not acked.
    beyond: usize,
    stale: bool,
}

/// The deliveries of one channel.
pub struct Tracker {
    /// What a delivery's tag says: its channel's generation.
    pub id: u64,
    open: Mutex<Open>,
    /// Something is to be looked at: late acks, credit, or the last answer.
    pub changed: Notify,
}

impl Tracker {
    /// For a new channel.
    pub fn new(id: u64) -> Self {
        Self { id, open: Mutex::default(), changed: Notify::new() }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in a delivery, in the channel's order.
    pub fn take_in(&self, number: u64, acker: Acker) {
        let mut open = self.open();
        for missing in open.last + 1..number {
            open.slots.insert(missing, Slot::Hole);
        }
        open.last = open.last.max(number);
        open.slots.insert(number, Slot::InHand(acker));
    }

    /// The channel is gone: from now on nothing is answered.
    pub fn retire(&self) {
        let mut open = self.open();
        open.stale = true;
        open.slots.clear();
        (open.old, open.beyond) = (0, 0);
        drop(open);
        self.changed.notify_one();
    }

    /// Finishes these deliveries and acks what can be acked.
    pub fn finish(&self, numbers: impl IntoIterator<Item = u64>) {
        let now = Instant::now();
        let mut open = self.open();
        for number in numbers {
            if let Some(slot) = open.slots.get_mut(&number)
                && let Slot::InHand(acker) = slot
            {
                *slot = Slot::Finished(acker.clone(), now);
                open.beyond += 1;
            }
        }
        open.ack_prefix();
        let look = open.beyond > 0 || open.slots.is_empty() || open.elders > 0;
        drop(open);
        if look {
            self.changed.notify_one();
        }
    }

    /// Gives one delivery back to its queue.
    pub fn hand_back(&self, number: u64) {
        let mut open = self.open();
        let Some(slot) = open.remove(number) else { return };
        if let Slot::InHand(acker) | Slot::Finished(acker, _) = slot {
            // Queued by the first poll; if the channel breaks, the delivery comes again anyway.
            let _ = acker.nack(BasicNackOptions { multiple: false, requeue: true }).now_or_never();
        }
        open.ack_prefix();
        drop(open);
        self.changed.notify_one();
    }

    /// Acks alone what waited long enough for its elders; true when some still wait.
    pub fn ack_late(&self) -> bool {
        let now = Instant::now();
        let mut open = self.open();
        if open.beyond == 0 {
            return false;
        }
        let due: Vec<u64> = open
            .slots
            .iter()
            .filter(|(_, slot)| matches!(slot, Slot::Finished(_, since) if now.duration_since(*since) >= PATIENCE))
            .map(|(number, _)| *number)
            .collect();
        for number in due {
            if let Some(Slot::Finished(acker, _)) = open.remove(number) {
                open.beyond -= 1;
                let _ = acker.ack(BasicAckOptions { multiple: false }).now_or_never();
            }
        }
        open.beyond > 0
    }

    /// How many are in hand or not yet acked.
    pub fn len(&self) -> usize {
        self.open().slots.len()
    }

    /// A new consumer starts on the channel: what is in hand now counts against its credit.
    pub fn start_over(&self) -> usize {
        let mut open = self.open();
        open.elders = open.last;
        open.old = open.slots.len();
        open.old
    }

    /// How many of the deliveries before the last [`Self::start_over`] are unanswered.
    pub fn old(&self) -> usize {
        let mut open = self.open();
        if open.old == 0 {
            open.elders = 0;
        }
        open.old
    }
}

impl Open {
    fn remove(&mut self, number: u64) -> Option<Slot> {
        let slot = self.slots.remove(&number)?;
        if number <= self.elders {
            self.old = self.old.saturating_sub(1);
        }
        Some(slot)
    }

    fn ack_prefix(&mut self) {
        let mut last = None;
        let mut count = 0;
        while let Some(first) = self.slots.first_entry() {
            if !matches!(first.get(), Slot::Finished(..)) {
                break;
            }
            let number = *first.key();
            if let Some(Slot::Finished(acker, _)) = self.remove(number) {
                self.beyond -= 1;
                count += 1;
                last = Some(acker);
            }
        }
        if let Some(acker) = last {
            let _ = acker.ack(BasicAckOptions { multiple: count > 1 }).now_or_never();
        }
    }
}

#[cfg(test)]
mod tests {
    use lapin::message::Delivery;

    use super::*;

    fn with(numbers: impl IntoIterator<Item = u64>) -> Tracker {
        let tracker = Tracker::new(1);
        for number in numbers {
            tracker.take_in(number, Delivery::mock(number, "".into(), "".into(), false, vec![]).acker);
        }
        tracker
    }

    #[test]
    fn a_finished_prefix_is_acked_at_once_and_the_rest_waits() {
        let tracker = with(1..=5);
        tracker.finish([2, 3, 5]);
        assert_eq!(tracker.len(), 5);
        tracker.finish([1]);
        assert_eq!(tracker.len(), 2);
        tracker.finish([4]);
        assert_eq!(tracker.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_waited_for_an_elder_is_acked_alone() {
        let tracker = with(1..=3);
        tracker.finish([2]);
        assert!(tracker.ack_late());
        tokio::time::advance(PATIENCE).await;
        assert!(!tracker.ack_late());
        assert_eq!(tracker.len(), 2);
    }

    #[test]
    fn nothing_is_acked_across_a_number_that_never_came() {
        let tracker = with([1, 3]);
        tracker.finish([1, 3]);
        assert_eq!(tracker.len(), 2);
    }

    #[test]
    fn a_stale_channel_answers_nothing() {
        let tracker = with(1..=2);
        tracker.retire();
        tracker.finish([1]);
        tracker.hand_back(2);
        assert_eq!(tracker.len(), 0);
    }

    #[test]
    fn old_deliveries_are_counted_against_a_new_consumer_until_answered() {
        let tracker = with(1..=4);
        assert_eq!(tracker.start_over(), 4);
        tracker.hand_back(4);
        tracker.finish([1, 2]);
        assert_eq!(tracker.old(), 1);
    }
}
