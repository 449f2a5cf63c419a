//! Which objects an installation wants on the server, in the order of dependence, and how they are shown.
//!
//! Owns the list: what is declared and what is looked at are the same. Refuses to talk to the broker.

use std::collections::BTreeMap;

use lapin::{
    ExchangeKind,
    types::{AMQPValue, FieldTable},
};

use super::{
    names::{self, Names, TIERS},
    topology::Seen,
};
use crate::broker::{BrokerObject, ObjectKind, ObjectState, QueueSpec};

/// One of them.
#[derive(Clone)]
pub enum Wanted {
    /// A queue of ours, with its arguments.
    Queue(String, FieldTable),
    /// An exchange of ours.
    Exchange(String, ExchangeKind, FieldTable),
    /// A way from an exchange to a queue.
    Binding {
        /// To.
        queue: String,
        /// From.
        exchange: String,
        /// By.
        key: String,
    },
    /// A queue of somebody else's, which must be there.
    Theirs(String),
}

/// All of them: no message may find its next stop missing.
pub fn of(names: &Names, search: bool, queues: &[QueueSpec]) -> Vec<Wanted> {
    let (dead, lost, back) = (names.dead(), names.lost(), names.back());
    let plain = |full: &str, kind| Wanted::Exchange(full.to_owned(), kind, FieldTable::default());
    let durable = |full: &str| Wanted::Queue(full.to_owned(), names::durable());
    let mut all = vec![
        durable(&dead),
        plain(&lost, ExchangeKind::Fanout),
        binding(&dead, &lost, ""),
        Wanted::Exchange(back.clone(), ExchangeKind::Direct, names::with_alternate(&lost)),
    ];
    for tier in TIERS {
        let both = names.delay(tier);
        all.push(Wanted::Queue(both.clone(), names::delaying(tier, &back)));
        all.push(plain(&both, ExchangeKind::Fanout));
        all.push(binding(&both, &both, ""));
    }
    all.push(plain(&names.holding(), ExchangeKind::Headers));
    all.extend([durable(&names.results()), durable(&names.next())]);
    if search {
        all.push(Wanted::Queue(names.search(), names::lossy()));
    }
    all.push(plain(&names.events(), ExchangeKind::Topic));
    for queue in queues {
        let full = if queue.foreign { queue.name.clone() } else { names.work(&queue.name) };
        all.push(if queue.foreign { Wanted::Theirs(full.clone()) } else { durable(&full) });
        // A delayed job comes home by this, to a foreign queue too.
        all.push(binding(&full, &back, &full));
    }
    all
}

fn binding(queue: &str, exchange: &str, key: &str) -> Wanted {
    Wanted::Binding { queue: queue.to_owned(), exchange: exchange.to_owned(), key: key.to_owned() }
}

/// One of them as it is shown, with what stands in its place.
pub fn shown((wanted, seen): (Wanted, Seen)) -> BrokerObject {
    let (kind, name, arguments) = match wanted {
        Wanted::Queue(full, arguments) => (ObjectKind::Queue, full, texts(&arguments)),
        Wanted::Theirs(full) => (ObjectKind::ForeignQueue, full, BTreeMap::new()),
        Wanted::Exchange(full, kind, arguments) => {
            let mut arguments = texts(&arguments);
            arguments.insert("type".to_owned(), kind_text(&kind).to_owned());
            (ObjectKind::Exchange, full, arguments)
        }
        Wanted::Binding { queue, exchange, key } => {
            let arguments = BTreeMap::from([("routing key".to_owned(), key)]);
            (ObjectKind::Binding, format!("{exchange} -> {queue}"), arguments)
        }
    };
    let (state, why, stats) = match seen {
        Seen::There(stats) => (ObjectState::InForce, None, stats),
        Seen::Missing => (ObjectState::Missing, None, None),
        Seen::Differs(why, stats) => (ObjectState::Differs, Some(why), stats),
        Seen::Unknown(why) => (ObjectState::NotKnown, why, None),
    };
    let in_force = (state == ObjectState::InForce && kind != ObjectKind::ForeignQueue).then(|| arguments.clone());
    let (ready, consumers) = (stats.as_ref().map(|stats| stats.ready), stats.map(|stats| stats.consumers));
    BrokerObject { kind, name, wanted: arguments, in_force, state, why, ready, consumers }
}

fn texts(arguments: &FieldTable) -> BTreeMap<String, String> {
    let text = |value: &AMQPValue| match value {
        AMQPValue::LongString(text) => text.to_string(),
        AMQPValue::LongLongInt(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    arguments.inner().iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}

fn kind_text(kind: &ExchangeKind) -> &str {
    match kind {
        ExchangeKind::Direct => "direct",
        ExchangeKind::Fanout => "fanout",
        ExchangeKind::Headers => "headers",
        ExchangeKind::Topic => "topic",
        ExchangeKind::Custom(name) => name,
    }
}
