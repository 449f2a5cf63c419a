//! Priority lanes: which lane a job takes, and whose turn it is among those that have work.
//!
//! A work queue has three lanes; each broker keeps them its own way and drains them by weight, so
//! that none starves. Refuses to order jobs within a lane: that is first come, first served.

use std::collections::BTreeMap;

/// One of a work queue's three lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PriorityLane {
    /// Priority 7 and above.
    High,
    /// Priority 3 to 6, or none. Every queue has it; the others come with their first job.
    Normal,
    /// Priority 0 to 2.
    Low,
}

impl PriorityLane {
    /// All, the most urgent first.
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];

    /// The lane of a priority.
    pub const fn of(priority: Option<u8>) -> Self {
        match priority {
            Some(7..) => Self::High,
            Some(0..=2) => Self::Low,
            Some(3..=6) | None => Self::Normal,
        }
    }

    /// What a lane's name has behind its queue's; nothing for the normal one.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::High => ".high",
            Self::Normal => "",
            Self::Low => ".low",
        }
    }

    /// The queue and the lane of a name.
    pub fn split(name: &str) -> (&str, Self) {
        for lane in [Self::High, Self::Low] {
            if let Some(queue) = name.strip_suffix(lane.suffix()).filter(|queue| !queue.is_empty()) {
                return (queue, lane);
            }
        }
        (name, Self::Normal)
    }

    /// How many of a lane start for how many of the others, while all have work.
    pub const fn weight(self) -> u32 {
        match self {
            Self::High => 16,
            Self::Normal => 4,
            Self::Low => 1,
        }
    }
}

/// Is the name that of a lane, and so none for a work queue?
pub fn is_reserved(name: &str) -> bool {
    PriorityLane::split(name).1 != PriorityLane::Normal
}

/// What to do about a reserved name.
pub const RESERVED: &str = "names that end in `.high` or `.low` are kept for the lanes of a queue: choose another name";

/// What is ready in the lanes besides the normal one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct LaneStats {
    /// In the high lane.
    pub high: u64,
    /// In the low lane.
    pub low: u64,
}

/// Whose turn it is: by weight, spread evenly, among those that have something.
#[derive(Clone, Debug, Default)]
pub struct Turns(BTreeMap<PriorityLane, i64>);

impl Turns {
    /// Nobody had a turn yet.
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// The next of these lanes; none when there are none.
    pub fn next(&mut self, of: impl Iterator<Item = PriorityLane>) -> Option<PriorityLane> {
        let of: Vec<PriorityLane> = of.collect();
        // A lane that has nothing saves up no turns.
        self.0.retain(|lane, _| of.contains(lane));
        let mut all = 0;
        for lane in &of {
            all += i64::from(lane.weight());
            *self.0.entry(*lane).or_default() += i64::from(lane.weight());
        }
        let (lane, credit) = self.0.iter_mut().rev().max_by_key(|(_, credit)| **credit)?;
        *credit -= all;
        Some(*lane)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_priority_has_one_lane() {
        let lanes = [Some(0), Some(2), Some(3), None, Some(6), Some(7), Some(9), Some(255)].map(PriorityLane::of);
        use PriorityLane::{High, Low, Normal};
        assert_eq!(lanes, [Low, Low, Normal, Normal, Normal, High, High, High]);
    }

    #[test]
    fn a_lanes_name_is_its_queues_with_a_suffix() {
        assert_eq!(PriorityLane::split("images.high"), ("images", PriorityLane::High));
        assert_eq!(PriorityLane::split("images.low"), ("images", PriorityLane::Low));
        assert_eq!(PriorityLane::split("images.highest"), ("images.highest", PriorityLane::Normal));
        assert_eq!(PriorityLane::split(".high"), (".high", PriorityLane::Normal));
        assert!(is_reserved("images.low") && !is_reserved("low"));
    }

    #[test]
    fn of_21_turns_among_all_lanes_16_are_high_4_normal_1_low_and_the_first_is_high() {
        let mut turns = Turns::default();
        let taken: Vec<_> = (0..42).filter_map(|_| turns.next(PriorityLane::ALL.into_iter())).collect();
        let count = |lane| taken.iter().filter(|taken| **taken == lane).count();
        assert_eq!(PriorityLane::ALL.map(count), [32, 8, 2]);
        assert_eq!(taken[0], PriorityLane::High);
        // Spread: no six in a row are high.
        assert!(taken.windows(6).all(|six| six.iter().any(|lane| *lane != PriorityLane::High)));
    }

    #[test]
    fn a_lane_without_work_saves_up_no_turns() {
        let mut turns = Turns::default();
        for _ in 0..100 {
            assert_eq!(turns.next([PriorityLane::Low].into_iter()), Some(PriorityLane::Low));
        }
        let both = [PriorityLane::High, PriorityLane::Low];
        let taken: Vec<_> = (0..17).filter_map(|_| turns.next(both.into_iter())).collect();
        assert_eq!(taken.iter().filter(|lane| **lane == PriorityLane::Low).count(), 1);
        assert_eq!(turns.next([].into_iter()), None);
    }
}
