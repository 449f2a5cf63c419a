//! The plan: which fault strikes when, drawn from a seed. Owns what faults there are and how long
//! they hold; refuses to strike.

use std::time::Duration;

use crate::recorder::entries::Draw;

/// What is done to a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL of a consumer, and another one started.
    Kill,
    /// SIGSTOP and SIGCONT of a consumer.
    Freeze,
    /// SIGTERM of a consumer, its end awaited, and another one started.
    Restart,
    /// A consumer's connections end, and no new ones come through.
    Cut,
    /// The next bytes on a consumer's connections are cut in the middle, and the connections with them.
    Tear,
    /// What the broker answers a consumer is held back and then lost with the connection.
    LoseConfirms,
    /// What a consumer sends is held back and then lost with the connection.
    LoseRequests,
    /// The operator closes all connections.
    CloseConnections,
    /// The broker takes no publishes for want of memory, and a consumer is killed meanwhile.
    KillUnderAlarm,
    /// The broker takes no publishes for want of disk.
    DiskAlarm,
    /// A delay tier loses its binding: what is published there comes back.
    Unbind,
    /// SIGKILL of the broker, and its restart.
    BrokerKill,
    /// SIGSTOP and SIGCONT of the broker.
    BrokerFreeze,
    /// SIGKILL of the database, and its restart.
    DatabaseKill,
    /// SIGSTOP and SIGCONT of the database.
    DatabaseFreeze,
    /// SIGKILL of the Redis that holds State, and its restart.
    StateKill,
    /// SIGSTOP and SIGCONT of it.
    StateFreeze,
    /// SIGKILL of the search server, and its restart.
    SearchKill,
    /// SIGSTOP and SIGCONT of it.
    SearchFreeze,
    /// SIGKILL of a consumer that runs jobs at most once, and another one started.
    OnceKill,
    /// SIGSTOP and SIGCONT of such a one.
    OnceFreeze,
    /// What the broker answers such a one is held back and then lost with the connection.
    OnceLoseConfirms,
    /// SIGKILL of the recorder, and another one started.
    RecorderKill,
    /// SIGSTOP and SIGCONT of the recorder.
    RecorderFreeze,
    /// SIGKILL of the process that takes jobs from the publisher, and another one started.
    DoorKill,
}

/// One strike of the plan.
#[derive(Clone, Copy, Debug)]
pub struct Planned {
    /// So long after the strike before it.
    pub after: Duration,
    pub fault: Fault,
    /// Which consumer, where it is one.
    pub target: usize,
    /// From its begin to its end, where it has one.
    pub hold: Duration,
}

/// Faults that strike consumers; so many kills, because some have to meet a job that is held.
pub const AT_CONSUMERS: &[Fault] = &[
    Fault::Kill,
    Fault::Freeze,
    Fault::Kill,
    Fault::Cut,
    Fault::Kill,
    Fault::Tear,
    Fault::Kill,
    Fault::Restart,
    Fault::Kill,
    Fault::LoseConfirms,
    Fault::LoseRequests,
    Fault::Kill,
];

/// Faults that strike what consumers lean on.
pub const AT_SERVERS: &[Fault] = &[
    Fault::CloseConnections,
    Fault::KillUnderAlarm,
    Fault::Unbind,
    Fault::DatabaseKill,
    Fault::RecorderKill,
    Fault::BrokerKill,
    Fault::DoorKill,
    Fault::RecorderFreeze,
];

/// Faults that strike what jobs and record can do without, and those who run jobs at most once.
pub const AT_THE_SIDES: &[Fault] = &[
    Fault::StateKill,
    Fault::OnceKill,
    Fault::SearchKill,
    Fault::OnceFreeze,
    Fault::StateFreeze,
    Fault::OnceKill,
    Fault::SearchFreeze,
    Fault::OnceLoseConfirms,
];

/// Those that only the long form has time for.
pub const SLOW: &[Fault] = &[Fault::BrokerFreeze, Fault::DatabaseFreeze, Fault::DiskAlarm];

/// Faults that strike the one process of an embedded installation.
pub const AT_THE_PROCESS: &[Fault] =
    &[Fault::Kill, Fault::Freeze, Fault::Kill, Fault::Restart, Fault::Kill, Fault::Kill, Fault::Freeze, Fault::Kill];

/// Strikes without end: the deck is shuffled, dealt, and shuffled again.
pub struct Plan {
    draw: Draw,
    deck: Vec<Fault>,
    left: Vec<Fault>,
    targets: usize,
    long: bool,
}

impl Plan {
    /// A plan over these faults.
    pub fn new(seed: u64, deck: &[Fault], targets: usize, long: bool) -> Self {
        Self { draw: Draw::new(seed), deck: deck.to_vec(), left: Vec::new(), targets, long }
    }

    /// How many strikes deal the deck once.
    pub fn round(&self) -> usize {
        self.deck.len()
    }

    /// The next strike.
    pub fn deal(&mut self) -> Planned {
        if self.left.is_empty() {
            self.left.clone_from(&self.deck);
            self.draw.shuffle(&mut self.left);
        }
        let fault = self.left.pop().expect("a deck has a card");
        // Now and then one that outlasts heartbeats.
        let scale = if self.long && self.draw.below(8) == 0 { 12 } else { 1 };
        let pause = if self.long { 3000 } else { 1000 };
        Planned {
            after: self.millis(pause / 3, pause),
            fault,
            target: self.draw.below(self.targets),
            hold: self.millis(800, 2500) * scale,
        }
    }

    fn millis(&mut self, from: usize, to: usize) -> Duration {
        Duration::from_millis((from + self.draw.below(to - from)) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_deals_the_same_plan_and_each_round_every_fault() {
        let deal = |seed| {
            let mut plan = Plan::new(seed, AT_SERVERS, 3, false);
            let cards: Vec<_> = (0..plan.round()).map(|_| plan.deal()).collect();
            cards.iter().map(|card| format!("{card:?}")).collect::<Vec<_>>()
        };
        assert_eq!(deal(7), deal(7));
        assert_ne!(deal(7), deal(8));
        for fault in AT_SERVERS {
            assert!(deal(7).iter().any(|card| card.contains(&format!("{fault:?}"))), "{fault:?}");
        }
    }
}
