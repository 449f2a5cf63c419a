//! Permits: this job counts against those limits.
//!
//! A rate is kept as one time a key (the generic cell rate algorithm): after a pause as many as the
//! rate names may start at once, then they come evenly. So within one period at most twice the rate
//! can start, and over many periods the rate holds.

use std::{collections::BTreeMap, time::Duration};

/// One limit that a job counts against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Its name: all jobs that name it count together.
    pub key: String,
    /// So many at once.
    pub at_once: Option<u32>,
    /// So many in each such time.
    pub rate: Option<(u32, Duration)>,
}

/// What counts against a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InUse {
    /// The limit.
    pub key: String,
    /// So many jobs have a permit now.
    pub held: u64,
    /// How far its rate is used up: when the next job would be due if all came evenly.
    pub due_in: Duration,
}

/// The answer to who wants to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It counts against every limit named, until it is released or its lease ends.
    Granted,
    /// It counts against none.
    Later {
        /// The limit that is in the way; the first by name.
        key: String,
        /// Worth another try after this.
        after: Duration,
    },
}

/// When a limit of so many at once is full, nobody knows when one ends.
pub(super) const FULL: Duration = Duration::from_secs(1);

/// One limit in numbers, as a store judges it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Measure {
    pub key: String,
    /// The key as it is stored.
    pub name: String,
    /// `None`: no bound.
    pub at_once: Option<i64>,
    /// Microseconds between two that come evenly, and how far they may run ahead; 0 = no bound.
    pub every: i64,
    pub ahead: i64,
}

/// By name, each once: whoever locks them locks them in this order.
pub(super) fn measures(limits: &[Limit]) -> Vec<Measure> {
    let mut all = BTreeMap::new();
    for limit in limits {
        let (every, ahead) = limit.rate.map_or((0, 0), |(count, time)| {
            let time = i64::try_from(time.as_micros()).unwrap_or(i64::MAX / 4).max(1);
            let every = (time / i64::from(count.max(1))).max(1);
            (every, time.max(every))
        });
        let name = super::short(&limit.key).into_owned();
        let measure =
            Measure { key: limit.key.clone(), name: name.clone(), at_once: limit.at_once.map(i64::from), every, ahead };
        all.insert(name, measure);
    }
    all.into_values().collect()
}

impl Limit {
    /// Would one more job have to wait, with so much in use?
    pub fn is_full(&self, in_use: &InUse) -> bool {
        let full = self.at_once.is_some_and(|most| in_use.held >= u64::from(most));
        let measure = measures(std::slice::from_ref(self));
        let due = i64::try_from(in_use.due_in.as_micros()).unwrap_or(i64::MAX / 4);
        full || measure.first().is_some_and(|measure| measure.next(due, 0).is_err())
    }
}

impl Measure {
    /// When the next one is due if one more starts now; or how long it has to wait.
    pub fn next(&self, due: i64, now: i64) -> Result<i64, Duration> {
        if self.every == 0 {
            return Ok(due);
        }
        let next = due.max(now) + self.every;
        let over = next - now - self.ahead;
        if over > 0 { Err(Duration::from_micros(over.unsigned_abs())) } else { Ok(next) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(count: u32, time: Duration) -> Measure {
        measures(&[Limit { key: "k".into(), at_once: None, rate: Some((count, time)) }]).remove(0)
    }

    #[test]
    fn a_rate_lets_so_many_start_at_once_and_then_one_each_share_of_its_time() {
        let rate = rate(4, Duration::from_secs(1));
        let now = 1_000_000_000;
        let mut due = 0;
        for _ in 0..4 {
            due = rate.next(due, now).expect("at once");
        }
        assert_eq!(rate.next(due, now), Err(Duration::from_millis(250)));
        due = rate.next(due, now + 250_000).expect("after its share of the time");
        assert_eq!(rate.next(due, now + 250_001), Err(Duration::from_micros(249_999)));
    }

    #[test]
    fn a_limit_is_full_when_one_more_would_wait() {
        let limit = Limit { key: "k".into(), at_once: Some(2), rate: Some((4, Duration::from_secs(1))) };
        let full = |held, due| limit.is_full(&InUse { key: "k".into(), held, due_in: Duration::from_millis(due) });
        assert_eq!([full(0, 0), full(1, 750), full(2, 0), full(0, 751)], [false, false, true, true]);
    }

    #[test]
    fn a_rate_that_does_not_divide_its_time_lets_no_more_start() {
        let rate = rate(3, Duration::from_secs(1));
        let mut due = 0;
        let started = (0..10).filter(|_| rate.next(due, 1 << 40).map(|next| due = next).is_ok()).count();
        assert_eq!(started, 3);
    }
}
