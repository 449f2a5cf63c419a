//! What our objects are called on the broker, and which arguments they have for ever.
//!
//! Queue arguments are frozen at the first version: what may be tuned goes by policy. Refuses to
//! talk to the broker.

use std::time::Duration;

use lapin::types::{AMQPValue, FieldTable};
use uuid::Uuid;

use crate::{
    broker::PriorityLane,
    message::header,
    planted::{Fault, planted},
};

/// Never -1 (3.10 destroys at the first nack), never absent (4.0 destroys at the 21st).
const DELIVERY_LIMIT: i64 = 1_000_000;
/// The copy for the search index drops its oldest beyond this.
const SEARCH_BYTES: i64 = 1 << 30;

/// A queue that holds messages for a fixed time and then sends them back to their work queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tier {
    /// Its part of the name.
    pub name: &'static str,
    /// How long it holds.
    pub holds: Duration,
}

/// Shortest first.
pub const TIERS: [Tier; 6] = [
    Tier { name: "1s", holds: Duration::from_secs(1) },
    Tier { name: "5s", holds: Duration::from_secs(5) },
    Tier { name: "15s", holds: Duration::from_secs(15) },
    Tier { name: "1m", holds: Duration::from_secs(60) },
    Tier { name: "5m", holds: Duration::from_secs(300) },
    Tier { name: "15m", holds: Duration::from_secs(900) },
];

/// The tier for what is left of a wait: one that ends less than a second late, else the longest
/// that ends before, and the message hops on.
pub fn tier(rest: Duration) -> Tier {
    let late = Duration::from_secs(1);
    TIERS
        .into_iter()
        .find(|tier| tier.holds >= rest && tier.holds - rest < late)
        .or_else(|| TIERS.into_iter().rev().find(|tier| tier.holds <= rest))
        .unwrap_or(TIERS[0])
}

/// The names, all with one prefix.
#[derive(Clone, Debug)]
pub struct Names {
    prefix: String,
}

impl Names {
    /// Names that start with `prefix`.
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    fn of(&self, rest: &str) -> String {
        format!("{}.{rest}", self.prefix)
    }

    /// A work queue's full name.
    pub fn work(&self, short: &str) -> String {
        format!("{}.jobs.{short}", self.prefix)
    }

    /// Where whoever takes from a work queue with lanes is counted; nothing is ever in it.
    pub fn takers(&self, short: &str) -> String {
        format!("{}.takers.{short}", self.prefix)
    }

    /// The report queue.
    pub fn results(&self) -> String {
        self.of("results")
    }

    /// The copies of the reports.
    pub fn search(&self) -> String {
        self.of("search")
    }

    /// What follows a job's end.
    pub fn next(&self) -> String {
        self.of("next")
    }

    /// The road to the dead-letter table.
    pub fn dead(&self) -> String {
        self.of("dead")
    }

    /// The exchange that brings delayed messages home.
    pub fn back(&self) -> String {
        self.of("back")
    }

    /// The exchange for those whose home is gone.
    pub fn lost(&self) -> String {
        self.of("lost")
    }

    /// The exchange of lossy events.
    pub fn events(&self) -> String {
        self.of("events")
    }

    /// The exchange that finds a holder's queue.
    pub fn holding(&self) -> String {
        self.of("held")
    }

    /// A consumer's queue of what it holds.
    pub fn held(&self, holder: Uuid) -> String {
        format!("{}.held.{}", self.prefix, holder.simple())
    }

    /// What deliveries say of a queue that messages go home to by this key.
    pub fn short<'a>(&self, full: &'a str) -> &'a str {
        let rest = full.strip_prefix(self.prefix.as_str()).and_then(|rest| rest.strip_prefix(".jobs."));
        // From whichever lane; somebody else's queue has none.
        rest.map_or(full, |rest| PriorityLane::split(rest).0)
    }

    /// A tier's exchange and queue.
    pub fn delay(&self, tier: Tier) -> String {
        format!("{}.delay.{}", self.prefix, tier.name)
    }
}

fn table<const N: usize>(entries: [(&str, AMQPValue); N]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in entries {
        table.insert(name.into(), value);
    }
    table
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

/// The arguments of every queue that must not lose anything.
pub fn durable() -> FieldTable {
    table([("x-queue-type", text("quorum")), ("x-delivery-limit", AMQPValue::LongLongInt(DELIVERY_LIMIT))])
}

/// The arguments of the search copy: full means that the oldest goes, never that a report is refused.
pub fn lossy() -> FieldTable {
    table([
        ("x-queue-type", text("quorum")),
        ("x-delivery-limit", AMQPValue::LongLongInt(DELIVERY_LIMIT)),
        ("x-max-length-bytes", AMQPValue::LongLongInt(SEARCH_BYTES)),
        ("x-overflow", text("drop-head")),
    ])
}

/// The arguments of a tier: at-least-once needs `reject-publish`, without it expiry loses.
pub fn delaying(tier: Tier, back: &str) -> FieldTable {
    table([
        ("x-queue-type", text("quorum")),
        ("x-delivery-limit", AMQPValue::LongLongInt(DELIVERY_LIMIT)),
        ("x-message-ttl", AMQPValue::LongLongInt(i64::try_from(tier.holds.as_millis()).unwrap_or(i64::MAX))),
        ("x-dead-letter-exchange", text(back)),
        ("x-dead-letter-strategy", text("at-least-once")),
        ("x-overflow", text("reject-publish")),
    ])
}

/// The arguments of a holder's queue: what nobody takes goes home after a moment, as from a tier;
/// gone when nobody used it for an hour.
pub fn held(back: &str) -> FieldTable {
    if planted(Fault::ForgottenHold) {
        return table([("x-queue-type", text("quorum")), ("x-message-ttl", AMQPValue::LongLongInt(2000))]);
    }
    table([
        ("x-queue-type", text("quorum")),
        ("x-delivery-limit", AMQPValue::LongLongInt(DELIVERY_LIMIT)),
        ("x-message-ttl", AMQPValue::LongLongInt(2000)),
        ("x-expires", AMQPValue::LongLongInt(3_600_000)),
        ("x-dead-letter-exchange", text(back)),
        ("x-dead-letter-strategy", text("at-least-once")),
        ("x-overflow", text("reject-publish")),
    ])
}

/// The binding that brings a holder what is its own, whatever the key.
pub fn of_holder(holder: Uuid) -> FieldTable {
    table([("x-match", text("all")), (header::HOLDER, text(&holder.to_string()))])
}

/// The arguments of the exchange that brings messages home.
pub fn with_alternate(exchange: &str) -> FieldTable {
    table([("alternate-exchange", text(exchange))])
}

/// The arguments of a reply queue: classic, because quorum queues are not made for short lives.
pub fn replying() -> FieldTable {
    table([("x-queue-type", text("classic")), ("x-expires", AMQPValue::LongLongInt(3_600_000))])
}

/// The arguments of a queue that only counts its consumers.
pub fn counting() -> FieldTable {
    table([("x-queue-type", text("classic"))])
}

/// The arguments of one listener's queue.
pub fn listening() -> FieldTable {
    table([("x-max-length", AMQPValue::LongLongInt(10_000)), ("x-overflow", text("drop-head"))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_goes_home_as_its_queue_and_a_foreign_queue_as_itself() {
        let names = Names::new("spinor");
        for lane in PriorityLane::ALL {
            assert_eq!(names.short(&format!("{}{}", names.work("images"), lane.suffix())), "images");
        }
        assert_eq!(names.short("theirs.high"), "theirs.high");
    }

    #[test]
    fn a_wait_hops_down_and_ends_less_than_a_second_late() {
        let expected: [(u64, &[&str]); 7] = [
            (300, &["1s"]),
            (1_000, &["1s"]),
            (4_500, &["5s"]),
            (7_000, &["5s", "1s", "1s"]),
            (15_000, &["15s"]),
            (61_500, &["1m", "1s", "1s"]),
            (1_800_000, &["15m", "15m"]),
        ];
        for (wait, names) in expected {
            let mut rest = Duration::from_millis(wait);
            let mut seen = Vec::new();
            while rest > Duration::ZERO {
                let next = tier(rest);
                seen.push(next.name);
                assert!(next.holds < rest + Duration::from_secs(1));
                rest = rest.saturating_sub(next.holds);
            }
            assert_eq!(seen, names, "{wait} ms");
        }
    }
}
