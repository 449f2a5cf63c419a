//! How times are spread: counts in buckets that are a fourth of a doubling wide, from 0.1 ms on.

use std::collections::BTreeMap;

const FIRST: f64 = 0.0001;
const PER_DOUBLING: f64 = 4.0;

/// Counts of times; a quantile of them is right to about a tenth of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spread(BTreeMap<u8, u64>);

impl Spread {
    pub(super) fn add(&mut self, bucket: u8, times: u64) {
        *self.0.entry(bucket).or_default() += times;
    }

    /// How many there are.
    pub fn times(&self) -> u64 {
        self.0.values().sum()
    }

    /// How many took at most so many seconds, about.
    pub fn within(&self, seconds: f64) -> u64 {
        self.0.iter().filter(|(bucket, _)| middle(**bucket) <= seconds).map(|(_, times)| times).sum()
    }

    /// The seconds that a share of them, from 0 to 1, did not exceed; `None` of none.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let wanted = (self.times() as f64 * share).ceil().max(1.0) as u64;
        let mut sum = 0;
        self.0.iter().find_map(|(bucket, times)| {
            sum += times;
            (sum >= wanted).then(|| middle(*bucket))
        })
    }
}

/// The bucket of a time in seconds.
pub fn bucket(seconds: f64) -> u8 {
    let doublings = (seconds.max(FIRST) / FIRST).log2();
    (doublings * PER_DOUBLING).floor().clamp(0.0, 255.0) as u8
}

fn middle(bucket: u8) -> f64 {
    FIRST * ((f64::from(bucket) + 0.5) / PER_DOUBLING).exp2()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_right_to_a_tenth_of_itself() {
        let mut spread = Spread::default();
        assert_eq!(spread.quantile(0.5), None);
        (1..=1000).for_each(|ms| spread.add(bucket(f64::from(ms) / 1000.0), 1));
        for (share, exact) in [(0.5, 0.5), (0.95, 0.95), (0.99, 0.99), (0.001, 0.001), (1.0, 1.0)] {
            let found = spread.quantile(share).unwrap();
            assert!((found / exact - 1.0).abs() < 0.1, "{share}: {found}");
        }
        assert_eq!((spread.times(), spread.within(10.0)), (1000, 1000));
        assert!((450..=550).contains(&spread.within(0.5)), "{}", spread.within(0.5));
        assert_eq!((bucket(-1.0), bucket(0.0), bucket(1e30)), (0, 0, 255));
    }
}
