//! What is in hand on one channel, and when it may be acked.
//!
//! Acks are `multiple` up to the longest finished prefix; what is finished beyond it waits a
//! moment, so that slight reordering costs nothing, and is then acked alone. Whoever settles only
//! marks; the feed answers, after it heard of a new credit, and one answer after the other: an ack
//! that overtakes another names a number the broker no longer knows, and closes the channel (the
//! client's own handle for a delivery sends each ack from a task of its own, in any order). A
//! number is only valid on the channel it came on: once that is lost the tracker is retired and
//! answers nothing more.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use crate::broker::{Delivery, Home};

/// How long a finished delivery waits for its elders.
pub const PATIENCE: Duration = Duration::from_millis(20);

/// What is said to the broker about deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Done with this one.
    One(u64),
    /// Done with this one and all before it.
    UpTo(u64),
    /// This one goes back to its queue.
    Back(u64),
}

/// Which of the finished are acked beyond the prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// None.
    Now,
    /// Those that waited long enough.
    Late,
    /// All.
    End,
}

enum Slot {
    InHand,
    Finished(Instant),
    Returning,
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
    /// To be handed back.
    returning: Vec<u64>,
}

/// The deliveries of one channel.
pub struct Tracker {
    /// What a delivery's tag says: its channel's generation.
    pub id: u64,
    open: Mutex<Open>,
    /// Hands an answer to the channel without waiting, in the order of the calls.
    say: Box<dyn Fn(Answer) + Send + Sync>,
    /// Something is to be answered.
    pub changed: Notify,
}

impl Tracker {
    /// For a new channel.
    pub fn new(id: u64, say: impl Fn(Answer) + Send + Sync + 'static) -> Self {
        Self { id, open: Mutex::default(), say: Box::new(say), changed: Notify::new() }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in a delivery, in the channel's order.
    pub fn take_in(&self, number: u64) {
        let mut open = self.open();
        for missing in open.last + 1..number {
            open.slots.insert(missing, Slot::Hole);
        }
        open.last = open.last.max(number);
        open.slots.insert(number, Slot::InHand);
    }

    /// The channel is gone: from now on nothing is answered.
    pub fn retire(&self) {
        let mut open = self.open();
        open.slots.clear();
        open.returning.clear();
        (open.old, open.beyond) = (0, 0);
        drop(open);
        self.changed.notify_one();
    }

    /// Finishes these deliveries: they can be acked.
    pub fn finish(&self, numbers: impl IntoIterator<Item = u64>) {
        let now = Instant::now();
        let mut open = self.open();
        for number in numbers {
            if let Some(slot) = open.slots.get_mut(&number)
                && matches!(slot, Slot::InHand)
            {
                *slot = Slot::Finished(now);
                open.beyond += 1;
            }
        }
        drop(open);
        self.changed.notify_one();
    }

    /// Acks one delivery at once, ahead of its elders.
    pub fn let_go(&self, number: u64) {
        let mut open = self.open();
        if matches!(open.slots.get(&number), Some(Slot::InHand)) {
            open.remove(number);
            (self.say)(Answer::One(number));
        }
        drop(open);
        self.changed.notify_one();
    }

    /// Gives one delivery back to its queue.
    pub fn hand_back(&self, number: u64) {
        let mut open = self.open();
        if let Some(slot) = open.slots.get_mut(&number)
            && matches!(slot, Slot::InHand)
        {
            *slot = Slot::Returning;
            open.returning.push(number);
        }
        drop(open);
        self.changed.notify_one();
    }

    /// Says what can be said now, with what waited long enough for its elders when `late`, and
    /// with all that is finished at the `end`; true when some still wait.
    pub fn answer(&self, when: When) -> bool {
        let mut open = self.open();
        for number in std::mem::take(&mut open.returning) {
            open.remove(number);
            (self.say)(Answer::Back(number));
        }
        self.ack_prefix(&mut open);
        if open.beyond > 0 && when != When::Now {
            let now = Instant::now();
            let waited = |since: &Instant| when == When::End || now.duration_since(*since) >= PATIENCE;
            let due = open.slots.iter().filter(|(_, slot)| matches!(slot, Slot::Finished(since) if waited(since)));
            let due: Vec<u64> = due.map(|(number, _)| *number).collect();
            for number in due {
                open.remove(number);
                open.beyond -= 1;
                (self.say)(Answer::One(number));
            }
        }
        open.beyond > 0
    }

    fn ack_prefix(&self, open: &mut Open) {
        let mut last = None;
        let mut count = 0;
        while let Some(first) = open.slots.first_entry() {
            if !matches!(first.get(), Slot::Finished(_)) {
                break;
            }
            let number = *first.key();
            open.remove(number);
            open.beyond -= 1;
            count += 1;
            last = Some(number);
        }
        if let Some(last) = last {
            (self.say)(if count > 1 { Answer::UpTo(last) } else { Answer::One(last) });
        }
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

impl Home for Tracker {
    fn take_back(&self, delivery: Delivery) {
        self.hand_back(delivery.tag.number);
    }
}

impl std::fmt::Debug for Tracker {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Tracker").field("id", &self.id).finish_non_exhaustive()
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
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn with(numbers: impl IntoIterator<Item = u64>) -> (Tracker, Arc<Mutex<Vec<Answer>>>) {
        let said: Arc<Mutex<Vec<Answer>>> = Arc::default();
        let to = Arc::clone(&said);
        let tracker = Tracker::new(1, move |answer| to.lock().unwrap().push(answer));
        numbers.into_iter().for_each(|number| tracker.take_in(number));
        (tracker, said)
    }

    #[test]
    fn a_finished_prefix_is_acked_at_once_and_the_rest_waits() {
        let (tracker, said) = with(1..=5);
        tracker.finish([2, 3, 5]);
        assert!(tracker.answer(When::Now));
        assert!(said.lock().unwrap().is_empty());
        tracker.finish([1]);
        assert!(tracker.answer(When::Now));
        tracker.finish([4]);
        assert!(!tracker.answer(When::Now));
        assert_eq!(*said.lock().unwrap(), [Answer::UpTo(3), Answer::UpTo(5)]);
        assert_eq!(tracker.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_waited_for_an_elder_is_acked_alone() {
        let (tracker, said) = with(1..=3);
        tracker.finish([2]);
        assert!(tracker.answer(When::Late));
        tokio::time::advance(PATIENCE).await;
        assert!(!tracker.answer(When::Late));
        tracker.finish([1]);
        tracker.answer(When::Now);
        assert_eq!(*said.lock().unwrap(), [Answer::One(2), Answer::One(1)]);
    }

    #[test]
    fn nothing_is_acked_across_a_number_that_never_came() {
        let (tracker, said) = with([1, 3]);
        tracker.finish([1, 3]);
        tracker.answer(When::Now);
        assert_eq!(*said.lock().unwrap(), [Answer::One(1)]);
        tracker.answer(When::End);
        assert_eq!(*said.lock().unwrap(), [Answer::One(1), Answer::One(3)]);
    }

    #[test]
    fn a_delivery_is_answered_once() {
        let (tracker, said) = with(1..=2);
        tracker.hand_back(1);
        tracker.finish([1, 2, 2]);
        tracker.hand_back(2);
        tracker.answer(When::End);
        tracker.answer(When::End);
        assert_eq!(*said.lock().unwrap(), [Answer::Back(1), Answer::One(2)]);
    }

    #[test]
    fn what_is_let_go_does_not_wait_for_its_elders() {
        let (tracker, said) = with(1..=3);
        tracker.let_go(2);
        tracker.let_go(2);
        tracker.finish([1, 2, 3]);
        tracker.answer(When::Now);
        assert_eq!(*said.lock().unwrap(), [Answer::One(2), Answer::UpTo(3)]);
    }

    #[test]
    fn a_lost_channel_is_answered_nothing() {
        let (tracker, said) = with(1..=3);
        tracker.finish([1]);
        tracker.hand_back(3);
        tracker.retire();
        tracker.finish([2]);
        tracker.answer(When::End);
        assert!(said.lock().unwrap().is_empty());
        assert_eq!(tracker.len(), 0);
    }

    #[test]
    fn old_deliveries_are_counted_against_a_new_consumer_until_answered() {
        let (tracker, _) = with(1..=4);
        assert_eq!(tracker.start_over(), 4);
        tracker.hand_back(4);
        tracker.finish([1, 2]);
        tracker.answer(When::Now);
        assert_eq!(tracker.old(), 1);
    }
}
