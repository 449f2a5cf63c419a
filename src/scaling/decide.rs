//! How many replicas to start or drain here: the rule, pure.
//!
//! Owns the order in which replicas go: the newest first, over all machines. Every supervisor of a
//! group judges the same list by it, so that none is ended twice for one. Refuses to read anything.

use jiff::Timestamp;

/// A consumer of the group that takes jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// When it started, by its own word; the same for whoever looks.
    pub started: Timestamp,
    /// Its name; of one that has not told it yet, nothing.
    pub consumer: String,
    /// Does this supervisor have it?
    pub mine: bool,
}

/// What to do here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    Keep,
    /// Start so many.
    Start(usize),
    /// Drain so many of this supervisor's own.
    Drain(usize),
}

/// Only who `leads` starts. Who `insists` makes up for consumers beyond the number that nobody ends.
pub fn decide(wanted: usize, mut seen: Vec<Seen>, leads: bool, insists: bool) -> Change {
    let Some(excess) = seen.len().checked_sub(wanted).filter(|excess| *excess > 0) else {
        let missing = wanted - seen.len();
        return if leads && missing > 0 { Change::Start(missing) } else { Change::Keep };
    };
    seen.sort_by(|left, right| (right.started, &right.consumer).cmp(&(left.started, &left.consumer)));
    let own = |seen: &[Seen]| seen.iter().filter(|one| one.mine).count();
    let drained = if leads && insists { own(&seen).min(excess) } else { own(&seen[..excess]) };
    if drained > 0 { Change::Drain(drained) } else { Change::Keep }
}

#[cfg(test)]
mod tests {
    use super::{Change, Seen, decide};
    use jiff::Timestamp;

    /// A group by its consumers' starts: `+` is mine, `-` another's.
    fn seen(order: &str) -> Vec<Seen> {
        let one = |(at, sign): (usize, char)| Seen {
            started: Timestamp::from_second(at as i64).unwrap(),
            consumer: format!("c{at}"),
            mine: sign == '+',
        };
        order.chars().enumerate().map(one).collect()
    }

    #[test]
    fn what_is_missing_is_started_by_the_leader_alone() {
        assert_eq!(decide(5, seen("+--"), true, false), Change::Start(2));
        assert_eq!(decide(5, seen("+--"), false, true), Change::Keep);
        assert_eq!(decide(3, seen("+--"), true, true), Change::Keep);
        assert_eq!(decide(1, seen(""), true, false), Change::Start(1));
    }

    #[test]
    fn of_too_many_everybody_drains_what_is_newest_and_together_it_is_the_excess() {
        assert_eq!(decide(2, seen("+-+-+"), false, false), Change::Drain(2));
        assert_eq!(decide(2, seen("-+-+-"), true, false), Change::Drain(1));
        assert_eq!(decide(0, seen("+-"), false, false), Change::Drain(1));
        assert_eq!(decide(1, seen("+-"), true, false), Change::Keep);
    }

    #[test]
    fn an_excess_that_nobody_ends_is_made_up_for_by_the_leader_when_it_insists() {
        assert_eq!(decide(1, seen("++--"), true, true), Change::Drain(2));
        assert_eq!(decide(2, seen("++--"), false, true), Change::Keep);
        assert_eq!(decide(2, seen("++--"), true, false), Change::Keep);
        assert_eq!(decide(1, seen("---"), true, true), Change::Keep);
    }

    #[test]
    fn two_of_one_moment_have_one_order_for_everybody() {
        let twins = |mine: &str| -> Vec<Seen> {
            let one = |name: &str| Seen { started: Timestamp::UNIX_EPOCH, consumer: name.into(), mine: name == mine };
            ["a", "b"].map(one).into()
        };
        assert_eq!(decide(1, twins("a"), false, false), Change::Keep);
        assert_eq!(decide(1, twins("b"), false, false), Change::Drain(1));
    }
}
