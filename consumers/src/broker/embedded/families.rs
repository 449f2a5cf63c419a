//! The lanes of a work queue: each is a queue of its own on disk and in memory, with the
//! subscriptions of the queue they belong to.
//!
//! Owns how a lane comes to be, with the first job that needs it, and how it is found again by its
//! name. A queue that never saw a priority has no family and goes the short way. Refuses to know
//! whose turn it is: that is [`Turns`].

use super::{
    inbox::Parcel,
    queue::{Purpose, Queue},
    writer::Writer,
};
use crate::broker::{Address, LaneStats, PriorityLane, QueueStats, priority::Turns};

/// A work queue that has more lanes than the normal one.
#[derive(Debug)]
pub(super) struct Family {
    /// The queue itself.
    normal: u64,
    high: Option<u64>,
    low: Option<u64>,
    /// Whose turn it is.
    pub(super) turns: Turns,
}

impl Family {
    const fn of(normal: u64) -> Self {
        Self { normal, high: None, low: None, turns: Turns::new() }
    }

    /// The number of a lane, if there is one.
    pub(super) const fn lane(&self, lane: PriorityLane) -> Option<u64> {
        match lane {
            PriorityLane::High => self.high,
            PriorityLane::Normal => Some(self.normal),
            PriorityLane::Low => self.low,
        }
    }

    /// The queue itself.
    pub(super) const fn normal(&self) -> u64 {
        self.normal
    }

    /// All its numbers.
    pub(super) fn members(&self) -> impl Iterator<Item = u64> {
        PriorityLane::ALL.into_iter().filter_map(|lane| self.lane(lane))
    }
}

impl Writer {
    /// The number of the queue that a job of this priority goes into, by the work queue's name; the
    /// normal lane where the other could not be made.
    pub(super) fn lane(&self, name: &str, priority: Option<u8>) -> Option<u64> {
        let normal = *self.work.get(name)?;
        let family = self.families.get(&normal);
        Some(family.and_then(|family| family.lane(PriorityLane::of(priority))).unwrap_or(normal))
    }

    /// Makes the lanes that these messages need and that are not there yet.
    pub(super) async fn open_lanes(&mut self, parcels: &[Parcel]) {
        for parcel in parcels {
            let (Address::Work(name) | Address::Delayed { queue: name, .. } | Address::Held { queue: name, .. }) =
                &parcel.to
            else {
                continue;
            };
            let Ok((message, _)) = &parcel.content else { continue };
            let lane = PriorityLane::of(message.properties.priority);
            if lane == PriorityLane::Normal || self.trouble.is_some() {
                continue;
            }
            let Some(normal) = self.work.get(name).copied() else { continue };
            if self.families.get(&normal).is_some_and(|family| family.lane(lane).is_some()) {
                continue;
            }
            match self.store.declare(&format!("{name}{}", lane.suffix())).await {
                Ok(id) => {
                    let queue = Queue::new(id, name.clone(), Purpose::Work, 0, 0, 0);
                    self.join(normal, lane, queue);
                }
                // The disk takes nothing now, and what follows will say so.
                Err(error) => {
                    tracing::warn!(queue = name, %error, "A lane cannot be made; its job takes the normal one.");
                }
            }
        }
    }

    /// Takes a lane into its queue's family.
    pub(super) fn join(&mut self, normal: u64, lane: PriorityLane, mut queue: Queue) {
        let family = self.families.entry(normal).or_insert_with(|| Family::of(normal));
        match lane {
            PriorityLane::High => family.high = Some(queue.id),
            PriorityLane::Low => family.low = Some(queue.id),
            PriorityLane::Normal => return,
        }
        if let Some(normal) = self.queues.get_mut(&normal) {
            normal.laned = true;
            queue.subscriptions.clone_from(&normal.subscriptions);
        }
        queue.laned = true;
        self.queues.insert(queue.id, queue);
    }

    /// A work queue that was just made, with the lanes that a queue of this name had left.
    pub(super) fn found_family(&mut self, name: &str, normal: u64) {
        for lane in [PriorityLane::High, PriorityLane::Low] {
            if let Some(queue) = self.orphans.remove(&format!("{name}{}", lane.suffix())) {
                self.join(normal, lane, queue);
            }
        }
    }

    /// The numbers of a work queue and its lanes, or of any other queue.
    pub(super) fn members(&self, queue: u64) -> Vec<u64> {
        self.families.get(&queue).map_or_else(|| vec![queue], |family| family.members().collect())
    }

    /// Sends what the lanes have to those with credit, by weight.
    pub(super) fn dispatch_lanes(&mut self) {
        for family in self.families.values_mut() {
            self.subscribers.dispatch_lanes(&mut self.queues, family);
        }
    }

    /// What is known of a work queue, its lanes added up and apart.
    pub(super) fn stats_of(&self, normal: u64) -> Option<QueueStats> {
        let queue = self.queues.get(&normal)?;
        let mut stats = QueueStats {
            name: queue.name.clone(),
            consumers: queue.subscriptions.len() as u64,
            ..QueueStats::default()
        };
        let members = self.members(normal).into_iter().filter_map(|id| self.queues.get(&id));
        let (ready, in_hand) =
            members.fold((0, 0), |(ready, in_hand), queue| (ready + queue.waiting(), in_hand + queue.in_hand));
        (stats.ready, stats.unacked) = (ready, Some(in_hand));
        stats.lanes = self.families.get(&normal).map(|family| {
            let waiting = |lane| family.lane(lane).and_then(|id| self.queues.get(&id)).map_or(0, Queue::waiting);
            LaneStats { high: waiting(PriorityLane::High), low: waiting(PriorityLane::Low) }
        });
        Some(stats)
    }
}
