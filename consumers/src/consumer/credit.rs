//! How much may be in hand. Pure: credit follows speed (P3).

use std::collections::VecDeque;

use tokio::time::{Duration, Instant};

/// Finished within this long counts as the consumer's speed.
const WINDOW: Duration = Duration::from_millis(250);
/// No more than this waits for a slot, and no more than this waits for its settle.
pub const BOUND: usize = 500;

/// Counts what finished lately and says how many deliveries may be unanswered.
#[derive(Debug)]
pub struct Speed {
    slots: usize,
    finished: VecDeque<(Instant, usize)>,
}

impl Speed {
    /// Nothing finished yet.
    pub const fn new(slots: usize) -> Self {
        Self { slots, finished: VecDeque::new() }
    }

    /// `count` executions ended since the last call.
    pub fn finished(&mut self, count: usize, now: Instant) {
        self.finished.push_back((now, count));
        while self.finished.front().is_some_and(|(at, _)| now.duration_since(*at) > WINDOW) {
            self.finished.pop_front();
        }
    }

    /// How many may be in hand and not started: what this consumer finished in the last 250 ms,
    /// beside one for each slot.
    fn ahead(&self) -> usize {
        self.finished.iter().map(|(_, count)| count).sum::<usize>().min(BOUND)
    }

    /// Deliveries that may be unanswered in all: the slots, those ahead, and as many again on
    /// their way out, because a settled one counts until its ack.
    pub fn credit(&self) -> u32 {
        u32::try_from(self.slots + 2 * self.ahead()).unwrap_or(u32::MAX)
    }
}

/// Is the difference worth a change of credit, which costs the broker a round trip?
pub fn worth_changing(now: u32, wanted: u32) -> bool {
    now != wanted && (wanted == 0 || now == 0 || wanted >= now + now / 2 || wanted <= now / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn credit_follows_speed_and_forgets_it() {
        let mut speed = Speed::new(4);
        assert_eq!(speed.credit(), 4);
        speed.finished(100, Instant::now());
        assert_eq!(speed.credit(), 204);
        speed.finished(10_000, Instant::now());
        assert_eq!(speed.credit(), 1004);
        tokio::time::advance(Duration::from_millis(251)).await;
        speed.finished(0, Instant::now());
        assert_eq!(speed.credit(), 4);
    }

    #[test]
    fn small_differences_change_nothing() {
        assert!(!worth_changing(100, 100) && !worth_changing(100, 120) && !worth_changing(100, 60));
        assert!(worth_changing(100, 150) && worth_changing(100, 50) && worth_changing(0, 1) && worth_changing(1, 0));
    }
}
