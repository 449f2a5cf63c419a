//! How a channel takes from a queue with several lanes: by weight, and all of them within one
//! credit.
//!
//! A consumer's prefetch is its lane's alone, and what one lane does not use the other cannot
//! have. So while jobs are slow they are *pulled*: for each that may come in hand one is asked for,
//! from the lane whose turn it is. When no lane has any, all are *open*: a consumer on each, the
//! credit divided by weight, until something comes. They stay open as long as so much comes that
//! no credit is left over for long: then the division is as good, and far cheaper. Only with fewer
//! places than lanes may one or two more come in hand than the credit says: when several lanes get
//! their first job in the same moment.
//!
//! Refuses to know which lanes there are: it is told.

use lapin::{
    options::{BasicConsumeOptions, BasicGetOptions, BasicQosOptions},
    protocol::AMQPSoftError,
    types::FieldTable,
};
use tokio::time::{Duration, Instant};

use super::{FIRST_PAUSE, Generation, within};
use crate::broker::{PriorityLane, priority::Turns, rabbitmq::topology};

/// With less credit jobs are slow, and no division of it comes near the weights.
const SMALL: usize = 42;
/// So many pulled in a row, with room for more: asking for each is what holds them up.
const LONG: usize = 64;
/// A lane that had nothing is asked again after so many from the others.
const DRY: u8 = 16;
/// Nothing came for so long, though there is credit: it may be on the wrong lane.
const QUIET: Duration = Duration::from_millis(10);
/// A lane that says nothing for so long has no leader.
const PATIENCE: Duration = Duration::from_secs(4);

/// Whose turn it is, and what was found.
pub(super) struct Shares {
    lanes: Vec<PriorityLane>,
    turns: Turns,
    /// As they were before the last one, which is taken back when its lane has nothing.
    before: Turns,
    /// For how many more each lane is taken to have nothing.
    dry: Vec<(PriorityLane, u8)>,
    /// Pulled since the credit was last used up, or nothing was left.
    pulled: usize,
    /// The credit that the open consumers were made for.
    opened: usize,
    /// Did something come since they were opened?
    pub(super) stirred: bool,
}

impl Shares {
    fn of(lanes: Vec<PriorityLane>) -> Self {
        Self { lanes, turns: Turns::new(), before: Turns::new(), dry: Vec::new(), pulled: 0, opened: 0, stirred: false }
    }

    /// All lanes may have something again.
    fn begin(&mut self) {
        self.dry.clear();
        self.pulled = 0;
    }

    fn next(&mut self) -> Option<PriorityLane> {
        self.before.clone_from(&self.turns);
        let dry = &self.dry;
        self.turns.next(self.lanes.iter().copied().filter(|lane| dry.iter().all(|(dry, _)| dry != lane)))
    }

    /// The lane whose turn it was has nothing.
    fn missed(&mut self, lane: PriorityLane) {
        // Else those that have something would gain on each other by turns that nobody had.
        self.turns.clone_from(&self.before);
        self.dry.push((lane, DRY));
    }

    fn pulled(&mut self) {
        self.pulled += 1;
        self.dry.retain_mut(|(_, left)| {
            *left -= 1;
            *left > 0
        });
    }

    /// A free credit by weight: at least one for each.
    fn divided(&self, free: usize) -> Vec<(PriorityLane, usize)> {
        let all: u32 = self.lanes.iter().map(|lane| lane.weight()).sum();
        let mut rest = free;
        let mut shares = Vec::new();
        // The heaviest gets what is left by rounding.
        for lane in self.lanes.iter().rev() {
            let share =
                if shares.len() + 1 == self.lanes.len() { rest } else { free * lane.weight() as usize / all as usize };
            let share = share.max(1);
            rest = rest.saturating_sub(share);
            shares.push((*lane, share));
        }
        shares
    }
}

impl Generation {
    /// From now on takes from these lanes too, and all that was subscribed starts over; true when
    /// there were none before.
    pub async fn take_from(&mut self, lanes: &[PriorityLane]) -> lapin::Result<bool> {
        let mut lanes = lanes.to_vec();
        if !lanes.is_empty() {
            lanes.push(PriorityLane::Normal);
            lanes.sort_unstable();
        }
        let now = self.shares.as_ref().map_or(&[][..], |shares| &shares.lanes);
        if now != lanes {
            self.stop().await?;
            self.shares = (!lanes.is_empty()).then(|| Shares::of(lanes));
        }
        Ok(self.shares.is_some() && self.counted.is_none())
    }

    /// Consumes a queue in which nothing ever is, for whoever asks how many take from the lanes.
    pub async fn be_counted(&mut self, takers: &str) -> lapin::Result<()> {
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        self.counted =
            Some(self.channel.basic_consume(takers.into(), "".into(), options, FieldTable::default()).await?);
        Ok(())
    }

    /// The full names of the queues it takes from.
    pub fn queues(&self) -> Vec<String> {
        let lanes = self.shares.as_ref().map_or(&[PriorityLane::Normal][..], |shares| &shares.lanes);
        lanes.iter().map(|lane| self.queue(*lane)).collect()
    }

    fn queue(&self, lane: PriorityLane) -> String {
        format!("{}{}", self.source.full, lane.suffix())
    }

    /// Is there credit to pull something for?
    pub fn pulls(&self, credit: u32) -> bool {
        self.shares.is_some()
            && self.consumers.is_empty()
            && self.tracker.len() < within(credit)
            && Instant::now() >= self.not_before
    }

    /// When to look whether credit is left over.
    pub fn quiet_at(&self, credit: u32) -> Option<Instant> {
        let open = !self.consumers.is_empty() && self.shares.as_ref().is_some_and(|shares| shares.stirred);
        (open && self.tracker.len() < within(credit)).then(|| self.last_arrival + QUIET)
    }

    /// Brings pulls or consumers in line with the credit.
    pub(super) async fn share(&mut self, within: usize) -> lapin::Result<()> {
        let Some(shares) = &self.shares else { return Ok(()) };
        let (was_open, mut grown) = (!self.consumers.is_empty(), false);
        if was_open {
            let (old, hand) = (self.tracker.old(), self.tracker.len());
            let lowered = within < shares.opened && old + self.granted > within;
            let left_over = hand < within && self.last_arrival.elapsed() >= QUIET;
            let moved = shares.stirred && (within < SMALL || left_over);
            grown = !moved && within.saturating_sub(old + self.granted) >= self.granted;
            if !lowered && !moved && !grown {
                return Ok(());
            }
            self.stop().await?;
        }
        let free = within.saturating_sub(self.tracker.len());
        let Some(shares) = &mut self.shares else { return Ok(()) };
        if free == 0 || was_open {
            shares.begin();
        }
        if free == 0 || Instant::now() < self.not_before {
            return Ok(());
        }
        let long = grown || (within >= SMALL && shares.pulled >= LONG);
        match if long { None } else { shares.next() } {
            Some(lane) => self.pull(lane).await,
            None => self.open_all(within, free).await,
        }
    }

    async fn pull(&mut self, lane: PriorityLane) -> lapin::Result<()> {
        let name = self.queue(lane).as_str().into();
        let got = self.channel.basic_get(name, BasicGetOptions { no_ack: false });
        let got = self.answered(lane, got).await?;
        let Some(shares) = &mut self.shares else { return Ok(()) };
        match got {
            Some(message) => {
                shares.pulled();
                self.last_arrival = Instant::now();
                self.pause = FIRST_PAUSE;
                self.keep(vec![message.delivery]);
            }
            None => shares.missed(lane),
        }
        Ok(())
    }

    async fn open_all(&mut self, within: usize, free: usize) -> lapin::Result<()> {
        // What was pulled counts against the credit like what came before.
        self.tracker.start_over();
        let Some(shares) = &mut self.shares else { return Ok(()) };
        (shares.opened, shares.stirred) = (within, false);
        let divided = shares.divided(free);
        for (lane, share) in divided {
            let prefetch = u16::try_from(share).unwrap_or(u16::MAX);
            self.channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
            let name = self.queue(lane).as_str().into();
            let options = BasicConsumeOptions::default();
            let consume = self.channel.basic_consume(name, "".into(), options, FieldTable::default());
            let consumer = self.answered(lane, consume).await?;
            self.consumers.push(consumer);
            self.granted += share;
        }
        self.last_arrival = Instant::now();
        Ok(())
    }

    /// What a lane answered. A queue without a leader answers nothing; the channel is then given up, for
    /// nothing else is heard on it, and the next one leaves that lane alone. One that is gone is
    /// declared again.
    async fn answered<T>(&self, lane: PriorityLane, ask: impl Future<Output = lapin::Result<T>>) -> lapin::Result<T> {
        let answer = tokio::time::timeout(PATIENCE, ask)
            .await
            .unwrap_or_else(|_| Err(std::io::Error::other(format!("`{}` does not answer", self.queue(lane))).into()));
        if let Err(error) = &answer
            && topology::soft(error) != Some(AMQPSoftError::NOTFOUND)
            && let Some(queue) = &self.source.work
            && (self.is_up() || error.is_amqp_soft_error())
        {
            self.broker.lanes.leave_alone(&queue.name, lane);
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_lane_takes_no_turns_from_the_others() {
        let mut shares = Shares::of(PriorityLane::ALL.to_vec());
        let mut low = 0;
        for _ in 0..100 {
            shares.begin();
            let mut next = shares.next();
            if next == Some(PriorityLane::High) {
                shares.missed(PriorityLane::High);
                next = shares.next();
            }
            low += usize::from(next == Some(PriorityLane::Low));
            shares.pulled();
        }
        assert_eq!(low, 20);
    }

    #[test]
    fn a_credit_is_divided_by_weight_and_each_lane_gets_some() {
        let shares = Shares::of(PriorityLane::ALL.to_vec());
        let of = |free| {
            let mut divided = shares.divided(free);
            divided.sort_unstable();
            divided.into_iter().map(|(_, share)| share).collect::<Vec<_>>()
        };
        assert_eq!(of(210), [160, 40, 10]);
        assert_eq!(of(4), [2, 1, 1]);
        assert_eq!(of(1), [1, 1, 1]);
    }

    #[test]
    fn a_lane_that_had_nothing_is_asked_again_after_a_while() {
        let mut shares = Shares::of(vec![PriorityLane::High, PriorityLane::Normal]);
        assert_eq!(shares.next(), Some(PriorityLane::High));
        shares.missed(PriorityLane::High);
        for _ in 0..DRY {
            assert_eq!(shares.next(), Some(PriorityLane::Normal));
            shares.pulled();
        }
        assert_eq!(shares.next(), Some(PriorityLane::High));
    }
}
