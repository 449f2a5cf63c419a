//! How much may be in hand. Pure: credit follows speed (P3), up at once and down after a while: RabbitMQ
//! lowers it by starting over, and what is on its way in that moment comes back as a redelivery.

use std::collections::VecDeque;

use tokio::time::{Duration, Instant};

/// Finished within this long counts as the consumer's speed.
const WINDOW: Duration = Duration::from_millis(250);
/// Speed has to be gone for this long before credit falls.
const CALM: Duration = Duration::from_secs(1);
/// No more than this waits for a slot, and no more than this waits for its settle.
pub const BOUND: usize = 500;

/// Counts what finished lately and says how many deliveries may be unanswered.
#[derive(Debug, Default)]
pub struct Speed {
    finished: VecDeque<Finished>,
}

/// What ended between two looks.
#[derive(Clone, Copy, Debug)]
struct Finished {
    at: Instant,
    count: usize,
    took: Duration,
}

impl Speed {
    /// `count` executions ended since the last call, and took so long together.
    pub fn finished(&mut self, count: usize, took: Duration, at: Instant) {
        self.finished.push_back(Finished { at, count, took });
        while self.finished.front().is_some_and(|oldest| at.duration_since(oldest.at) > WINDOW) {
            self.finished.pop_front();
        }
    }

    /// How many may be in hand beside one for each slot: what this consumer finished in the last
    /// 250 ms, and no more than the slots can start within 250 ms. The second holds where four
    /// long jobs ended together and only look fast.
    fn ahead(&self, slots: usize) -> usize {
        let count: usize = self.finished.iter().map(|finished| finished.count).sum();
        let took: Duration = self.finished.iter().map(|finished| finished.took).sum();
        let startable = slots as f64 * WINDOW.as_secs_f64() * count as f64 / took.as_secs_f64().max(1e-9);
        count.min(startable as usize).min(BOUND)
    }

    /// Deliveries that may be unanswered in all: the slots, those ahead, and as many again on
    /// their way out, because a settled one counts until its ack.
    pub fn credit(&self, slots: usize) -> u32 {
        u32::try_from(slots + 2 * self.ahead(slots)).unwrap_or(u32::MAX)
    }
}

/// The credit that the broker was told.
#[derive(Debug, Default)]
pub struct Credit {
    told: u32,
    slower: Option<Instant>,
}

impl Credit {
    /// So much, from the start.
    pub const fn new(told: u32) -> Self {
        Self { told, slower: None }
    }

    /// What the broker was told last.
    pub const fn told(&self) -> u32 {
        self.told
    }

    /// What it is told now, if the difference is worth a round trip.
    pub fn change(&mut self, wanted: u32) -> Option<u32> {
        let now = self.told;
        let raised = wanted >= now + now / 2 && wanted > now;
        let lowered = wanted <= now / 2 && wanted < now;
        if !lowered {
            self.slower = None;
        }
        // Nothing at all is wanted for a reason.
        let calm = |since: &mut Option<Instant>| since.get_or_insert_with(Instant::now).elapsed() >= CALM;
        if !(raised || lowered && (wanted == 0 || calm(&mut self.slower))) {
            return None;
        }
        *self = Self::new(wanted);
        Some(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Duration = Duration::from_micros(20);

    #[tokio::test(start_paused = true)]
    async fn credit_follows_speed_and_forgets_it() {
        let mut speed = Speed::default();
        assert_eq!(speed.credit(4), 4);
        speed.finished(100, 100 * QUICK, Instant::now());
        assert_eq!(speed.credit(4), 204);
        speed.finished(10_000, 10_000 * QUICK, Instant::now());
        assert_eq!(speed.credit(4), 1004);
        tokio::time::advance(Duration::from_millis(251)).await;
        speed.finished(0, Duration::ZERO, Instant::now());
        assert_eq!(speed.credit(4), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn long_jobs_that_end_together_do_not_look_fast() {
        let mut speed = Speed::default();
        speed.finished(4, Duration::from_secs(24), Instant::now());
        assert_eq!(speed.credit(4), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn credit_rises_at_once_and_falls_when_speed_stays_away() {
        let mut credit = Credit::new(100);
        assert_eq!([100, 120, 60].map(|wanted| credit.change(wanted)), [None; 3], "small differences change nothing");
        assert_eq!((credit.change(150), credit.change(10)), (Some(150), None));
        tokio::time::advance(CALM / 2).await;
        assert_eq!((credit.change(140), credit.change(10)), (None, None), "it was back in between");
        tokio::time::advance(CALM / 2).await;
        assert_eq!(credit.change(10), None);
        tokio::time::advance(CALM / 2).await;
        assert_eq!((credit.change(10), credit.told()), (Some(10), 10));
        assert_eq!((credit.change(0), credit.change(0), credit.change(1)), (Some(0), None, Some(1)));
    }
}
