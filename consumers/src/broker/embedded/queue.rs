//! One queue in memory: what is ready, what came back, what is still on disk only.
//!
//! Bounded: at most [`KEPT`] ready messages or [`KEPT_BYTES`]; the rest is fetched by sequence when
//! those run low. Refuses to know the store.

use std::collections::{BTreeMap, VecDeque};

use super::record;
use crate::message::Message;

/// At most so many ready messages are kept in memory.
pub(super) const KEPT: usize = 10_000;
/// At most about so many bytes of them.
pub(super) const KEPT_BYTES: usize = 32 << 20;

/// What a queue is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Jobs.
    Work,
    /// Reports, search copies, dead letters, what follows.
    Internal,
    /// Replies: in memory, as long as its subscription.
    Reply,
}

/// A message that waits for a consumer.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) sequence: u64,
    pub(super) message: Message,
    pub(super) redelivered: bool,
    /// Had, or may, an execution of it have started?
    pub(super) started: bool,
}

/// One queue.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) purpose: Purpose,
    /// On disk: up to here its messages may have been delivered. Nothing beyond it is delivered.
    pub(super) mark: u64,
    /// Messages up to here may have been delivered by an earlier process.
    doubtful: u64,
    /// Do those that had started say so themselves?
    pub(super) told: bool,
    next: u64,
    /// Handed back: they come first, they are older than all that follows.
    returned: BTreeMap<u64, Ready>,
    ready: VecDeque<Ready>,
    ready_bytes: usize,
    /// Ready, but on disk only: after this sequence, so many.
    fetched_to: u64,
    beyond: u64,
    /// With consumers.
    pub(super) in_hand: u64,
    pub(super) subscriptions: Vec<u64>,
    /// Whose turn it is among them.
    pub(super) turn: usize,
    /// Is it a lane among several, drained with them by weight?
    pub(super) laned: bool,
}

impl Queue {
    /// A queue as found on disk, nothing fetched yet; or a new one with zeros.
    pub(super) fn new(id: u64, name: String, purpose: Purpose, mark: u64, count: u64, last: u64) -> Self {
        Self {
            id,
            name,
            purpose,
            mark,
            doubtful: mark,
            told: false,
            // Never reused, or a new message would look like one that may have been delivered.
            next: mark.max(last) + 1,
            returned: BTreeMap::new(),
            ready: VecDeque::new(),
            ready_bytes: 0,
            fetched_to: 0,
            beyond: count,
            in_hand: 0,
            subscriptions: Vec::new(),
            turn: 0,
            laned: false,
        }
    }

    /// Is it on disk?
    pub(super) fn durable(&self) -> bool {
        self.purpose != Purpose::Reply
    }

    /// The place of a message that is about to be stored.
    pub(super) fn reserve(&mut self) -> u64 {
        let sequence = self.next;
        self.next += 1;
        sequence
    }

    /// A message that was just stored.
    pub(super) fn add(&mut self, sequence: u64, message: Message) {
        let full = self.ready.len() >= KEPT || self.ready_bytes >= KEPT_BYTES;
        if full || self.beyond > 0 {
            // A reply that nobody takes out is lost: its queue is memory alone.
            self.beyond += u64::from(self.durable());
            return;
        }
        self.fetched_to = sequence;
        // A copy of one that came back tells so itself.
        let started = record::was_started(&message);
        self.push(Ready { sequence, message, redelivered: started, started });
    }

    /// A message from disk.
    pub(super) fn fetched(&mut self, sequence: u64, message: Message) {
        self.skipped(sequence);
        let redelivered = sequence <= self.doubtful;
        let started = record::was_started(&message) || (redelivered && !self.told);
        let redelivered = redelivered || started;
        self.push(Ready { sequence, message, redelivered, started });
    }

    /// A message on disk that is not to be delivered from here.
    pub(super) fn skipped(&mut self, sequence: u64) {
        self.fetched_to = sequence;
        self.beyond = self.beyond.saturating_sub(1);
    }

    /// Nothing more is on disk than was fetched.
    pub(super) fn fetched_all(&mut self) {
        self.beyond = 0;
    }

    /// From where to fetch, when it is time.
    pub(super) fn wants(&self) -> Option<u64> {
        let low = self.ready.len() < KEPT / 2 && self.ready_bytes < KEPT_BYTES / 2;
        (self.beyond > 0 && low).then_some(self.fetched_to)
    }

    fn push(&mut self, ready: Ready) {
        self.ready_bytes += ready.message.body.len();
        self.ready.push_back(ready);
    }

    /// A message that goes back to its old place.
    pub(super) fn give_back(&mut self, ready: Ready) {
        self.returned.insert(ready.sequence, ready);
    }

    /// Would [`Self::pop`] bring something?
    pub(super) fn deliverable(&self) -> bool {
        !self.returned.is_empty()
            || self.ready.front().is_some_and(|ready| !self.durable() || ready.sequence <= self.mark)
    }

    /// The next to deliver, unless the mark must move first.
    pub(super) fn pop(&mut self) -> Option<Ready> {
        if let Some((_, ready)) = self.returned.pop_first() {
            return Some(ready);
        }
        if self.durable() && self.ready.front()?.sequence > self.mark {
            return None;
        }
        let ready = self.ready.pop_front()?;
        self.ready_bytes = self.ready_bytes.saturating_sub(ready.message.body.len());
        Some(ready)
    }

    /// The oldest, taken out whatever the mark: for queues that drop their oldest.
    pub(super) fn drop_oldest(&mut self) {
        if let Some(ready) = self.ready.pop_front() {
            self.ready_bytes = self.ready_bytes.saturating_sub(ready.message.body.len());
        }
    }

    /// The sequences of the oldest in memory.
    pub(super) fn oldest(&self, count: usize) -> impl Iterator<Item = u64> {
        self.ready.iter().take(count).map(|ready| ready.sequence)
    }

    /// How many and how many bytes are in memory and ready.
    pub(super) fn kept(&self) -> (usize, usize) {
        (self.ready.len(), self.ready_bytes)
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> u64 {
        (self.returned.len() + self.ready.len()) as u64 + self.beyond
    }

    /// Where the mark must be for so many more deliveries, when it is not there yet; `coming` are
    /// the sequences about to be stored.
    pub(super) fn mark_for(&self, free: usize, coming: &[u64]) -> Option<u64> {
        if !self.durable() {
            return None;
        }
        let wanted = free.checked_sub(self.returned.len() + 1)?;
        let sequence = match self.ready.get(wanted) {
            Some(ready) => ready.sequence,
            // What is about to be stored comes after all that is in memory and on disk.
            None if self.beyond == 0 && !coming.is_empty() => coming[(wanted - self.ready.len()).min(coming.len() - 1)],
            None => self.ready.back()?.sequence,
        };
        (sequence > self.mark).then_some(sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue() -> Queue {
        Queue::new(16, "images".into(), Purpose::Work, 0, 0, 0)
    }

    fn fill(queue: &mut Queue, count: u64) {
        for _ in 0..count {
            let sequence = queue.reserve();
            queue.add(sequence, Message::default());
        }
    }

    #[test]
    fn nothing_beyond_the_mark_is_delivered() {
        let mut queue = queue();
        fill(&mut queue, 3);
        assert!(queue.pop().is_none());
        assert_eq!(queue.mark_for(2, &[]), Some(2));
        queue.mark = 2;
        assert_eq!(queue.mark_for(2, &[]), None);
        assert_eq!(
            [queue.pop(), queue.pop(), queue.pop()].map(|ready| ready.map(|r| r.sequence)),
            [Some(1), Some(2), None]
        );
    }

    #[test]
    fn the_mark_covers_what_is_about_to_be_stored_and_no_more() {
        let mut queue = queue();
        assert_eq!(queue.mark_for(0, &[1, 2, 3]), None);
        assert_eq!(queue.mark_for(2, &[1, 2, 3]), Some(2));
        assert_eq!(queue.mark_for(9, &[1, 2, 3]), Some(3));
        fill(&mut queue, 2);
        assert_eq!(queue.mark_for(3, &[3, 4]), Some(3));
    }

    #[test]
    fn memory_is_bounded_and_the_rest_is_counted() {
        let mut queue = queue();
        fill(&mut queue, KEPT as u64 + 5);
        assert_eq!(queue.kept().0, KEPT);
        assert_eq!(queue.waiting(), KEPT as u64 + 5);
        assert_eq!(queue.wants(), None);
        queue.mark = u64::MAX;
        while queue.kept().0 >= KEPT / 2 {
            queue.pop();
        }
        assert_eq!(queue.wants(), Some(KEPT as u64));
    }

    #[test]
    fn what_comes_back_comes_first_and_a_restart_never_reuses_a_place() {
        let mut queue = Queue::new(16, "images".into(), Purpose::Work, 7, 1, 5);
        assert_eq!(queue.reserve(), 8);
        queue.fetched(5, Message::default());
        queue.give_back(Ready { sequence: 3, message: Message::default(), redelivered: true, started: true });
        assert_eq!(queue.pop().map(|ready| ready.sequence), Some(3));
        assert_eq!(queue.pop().map(|ready| (ready.sequence, ready.redelivered)), Some((5, true)));
    }
}
