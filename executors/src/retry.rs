//! When an attempt that failed is followed by another. Pure: no clock, no counter of its own.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Attempt -> delay or the end. Exponential with jitter; validated when built.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Fields", into = "Fields")]
pub struct RetryPolicy {
    fields: Fields,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Fields {
    max: u32,
    #[serde(default = "first_ms")]
    first_ms: u64,
    #[serde(default = "factor")]
    factor: f64,
    #[serde(default = "jitter")]
    jitter: f64,
}

const fn first_ms() -> u64 {
    10_000
}
const fn factor() -> f64 {
    2.0
}
const fn jitter() -> f64 {
    0.2
}

/// No delay by policy is longer.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

impl RetryPolicy {
    /// Never again: what a job without a policy gets.
    pub const NONE: Self = Self { fields: Fields { max: 0, first_ms: first_ms(), factor: factor(), jitter: jitter() } };

    /// `max` retries after the first attempt, the first after `first`, each `factor` times the
    /// one before, each drawn from `1 +- jitter`.
    pub fn new(max: u32, first: Duration, factor: f64, jitter: f64) -> Result<Self, String> {
        let first_ms = u64::try_from(first.as_millis()).map_err(|_| "`first` is longer than a day".to_owned())?;
        Fields { max, first_ms, factor, jitter }.try_into()
    }

    /// How many retries follow the first attempt at most.
    pub const fn max(&self) -> u32 {
        self.fields.max
    }

    /// The delay before the attempt after `attempt` (counted from 1), or `None` when that was the
    /// last. `draw` is in `0.0..1.0`.
    pub fn delay_after(&self, attempt: u32, draw: f64) -> Option<Duration> {
        if attempt > self.fields.max {
            return None;
        }
        let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        let spread = 1.0 + self.fields.jitter * (2.0 * draw - 1.0);
        let millis = self.fields.first_ms as f64 * self.fields.factor.powi(exponent) * spread;
        Some(Duration::from_millis(millis.min(LONGEST.as_millis() as f64) as u64))
    }
}

impl TryFrom<Fields> for RetryPolicy {
    type Error = String;

    fn try_from(fields: Fields) -> Result<Self, String> {
        if u128::from(fields.first_ms) > LONGEST.as_millis() {
            return Err(format!("retry `first` of {} ms is longer than a day", fields.first_ms));
        }
        if !(1.0..=100.0).contains(&fields.factor) {
            return Err(format!("retry `factor` is {}, expected 1 to 100", fields.factor));
        }
        if !(0.0..=1.0).contains(&fields.jitter) {
            return Err(format!("retry `jitter` is {}, expected 0 to 1", fields.jitter));
        }
        Ok(Self { fields })
    }
}

impl From<RetryPolicy> for Fields {
    fn from(policy: RetryPolicy) -> Self {
        policy.fields
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::RetryPolicy;

    #[test]
    fn delays_grow_by_the_factor_and_end_after_max() -> Result<(), String> {
        let policy = RetryPolicy::new(3, Duration::from_secs(1), 2.0, 0.0)?;
        let delays: Vec<_> = (1..=4).map(|attempt| policy.delay_after(attempt, 0.9)).collect();
        let seconds = |n| Some(Duration::from_secs(n));
        assert_eq!(delays, [seconds(1), seconds(2), seconds(4), None]);
        Ok(())
    }

    #[test]
    fn jitter_stays_within_its_share() -> Result<(), String> {
        let policy = RetryPolicy::new(1, Duration::from_secs(10), 2.0, 0.2)?;
        assert_eq!(policy.delay_after(1, 0.0), Some(Duration::from_secs(8)));
        assert!(policy.delay_after(1, 0.999) < Some(Duration::from_secs(12)));
        Ok(())
    }

    #[test]
    fn nonsense_is_refused_with_the_field_named() {
        assert!(RetryPolicy::new(1, Duration::from_secs(1), f64::NAN, 0.1).is_err_and(|why| why.contains("factor")));
        assert!(RetryPolicy::new(1, Duration::from_secs(1), 2.0, 1.5).is_err_and(|why| why.contains("jitter")));
        assert!(serde_json::from_str::<RetryPolicy>(r#"{"max":1,"frist_ms":2}"#).is_err());
    }
}
