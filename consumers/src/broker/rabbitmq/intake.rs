//! From an AMQP delivery to ours: registered, read, and sent on again when it came too early.
//!
//! Refuses to judge a message: what is no job is the consumer's to say.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use spinor_executors::HeaderValue;

use super::{Inner, feed::Source, tracker::Tracker, wire};
use crate::{
    broker::{Address, Delivery, DeliveryTag, Home, Outgoing, Settlement, Verdict},
    message::{Properties, header},
};

/// A quorum queue's count of the deliveries before.
const COUNT: &str = "x-delivery-count";

/// Reads the deliveries of one channel.
pub struct Intake<'a> {
    /// The broker.
    pub broker: &'a Arc<Inner>,
    /// The queue.
    pub source: &'a Source,
    /// The channel's.
    pub tracker: &'a Arc<Tracker>,
}

impl Intake<'_> {
    /// The delivery; none when it came too early and hops on.
    pub fn take(&self, from: lapin::message::Delivery) -> Option<Delivery> {
        let number = from.delivery_tag;
        self.tracker.take_in(number);
        let mut message = wire::message(&from.properties, from.data);
        // One that was pulled says how often it was delivered before, even if it never was.
        if message.properties.int(COUNT) == Some(0) {
            message.properties.headers.remove(COUNT);
        }
        let redelivered = from.redelivered || was_elsewhere(&message.properties);
        let queue = match self.source.held {
            // The key is the way home.
            Some(_) => self.broker.names.short(from.routing_key.as_str()).to_owned(),
            None => self.source.short.clone(),
        };
        let tag = DeliveryTag { subscription: self.tracker.id, number };
        let home: Arc<dyn Home> = Arc::<Tracker>::clone(self.tracker);
        let delivery = Delivery::new(message, queue, redelivered, tag, home);
        match early(&delivery.message.properties) {
            Some(rest) if self.source.work.is_some() => {
                self.hop_on(delivery, rest);
                None
            }
            _ => Some(delivery),
        }
    }

    fn hop_on(&self, delivery: Delivery, after: Duration) {
        let to = Address::Delayed { queue: self.source.short.clone(), after };
        let mut delivery = delivery.without_home();
        let message = std::mem::take(&mut delivery.message);
        let publish = vec![Outgoing { to, message, must: true }];
        let settlement = Settlement { lines: Vec::new(), publish, verdict: Verdict::Ack };
        // The receipt is not needed: if it fails, the delivery comes again and is early again.
        drop(self.broker.put(Some(delivery.tag), settlement));
    }
}

/// May it have been in hand before, though the flag does not say so?
fn was_elsewhere(properties: &Properties) -> bool {
    !properties.headers.is_empty()
        && ([COUNT, "x-acquired-count"].iter().any(|name| properties.int(name).is_some_and(|count| count > 0))
            || [header::HOLDER, header::PROBATION].iter().any(|name| properties.headers.contains_key(*name)))
}

/// How much of its wait is left.
fn early(properties: &Properties) -> Option<Duration> {
    let Some(HeaderValue::Int(at)) = properties.headers.get(header::NOT_BEFORE) else {
        return None;
    };
    let rest = at.saturating_sub(Timestamp::now().as_microsecond());
    u64::try_from(rest).ok().filter(|rest| *rest > 0).map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &str, value: i64) -> Properties {
        let mut properties = Properties::default();
        properties.headers.insert(name.to_owned(), HeaderValue::Int(value));
        properties
    }

    #[test]
    fn a_count_above_zero_or_a_holder_means_that_it_was_elsewhere() {
        assert!(was_elsewhere(&with("x-delivery-count", 1)));
        assert!(was_elsewhere(&with("x-acquired-count", 2)));
        assert!(was_elsewhere(&with(header::HOLDER, 0)));
        assert!(!was_elsewhere(&with("x-delivery-count", 0)));
        assert!(!was_elsewhere(&Properties::default()));
    }

    #[test]
    fn only_an_instant_ahead_is_early() {
        let now = Timestamp::now().as_microsecond();
        assert!(early(&with(header::NOT_BEFORE, now + 5_000_000)).is_some());
        assert_eq!(early(&with(header::NOT_BEFORE, now - 1)), None);
        assert_eq!(early(&Properties::default()), None);
    }
}
