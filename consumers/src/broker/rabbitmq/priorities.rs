//! The priority lanes of the work queues: each is a queue of its own beside its work queue, made
//! by whoever first publishes into it.
//!
//! Owns which lanes are known here, how they are made, and how consumers hear of them: at once by
//! an event, and at the latest by a look once a minute (a look for what is not there is an error
//! in the server's log, so it is a rare one). Where a lane cannot be made, its jobs take the normal
//! one: late is better than lost. Refuses to know how they are drained: that is `generation`'s.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, atomic::AtomicBool, atomic::Ordering},
    time::Duration,
};

use tokio::{
    sync::{Mutex as AsyncMutex, mpsc, watch},
    time::{Instant, timeout},
};

use super::{Inner, connection, events::Listener, lock, topology::Topology};
use crate::broker::{Address, BrokerError, Event, LaneStats, Outgoing, PriorityLane, PublishError, QueueStats, Topic};

/// Nobody looks again for lanes that are not there before this.
const LOOK: Duration = Duration::from_secs(60);

/// What is known of lanes.
#[derive(Default)]
pub struct Known {
    /// Those that exist, by name: the queue's, with the lane's suffix.
    lanes: watch::Sender<BTreeSet<String>>,
    /// When somebody last looked for the lanes of a queue.
    looked: Mutex<HashMap<String, Instant>>,
    /// Those that could not be made, and when that was.
    refused: Mutex<HashMap<String, Instant>>,
    /// Those that did not answer whoever takes from them, and when that was.
    silent: Mutex<HashMap<String, Instant>>,
    /// Does somebody listen for new ones?
    listening: AtomicBool,
    /// One declares at a time: the second would be answered before the queue of the first has started (see
    /// `making`, which minds other processes).
    making: AsyncMutex<()>,
}

impl Known {
    /// The names of all lanes, now and on change.
    pub fn watch(&self) -> watch::Receiver<BTreeSet<String>> {
        self.lanes.subscribe()
    }

    fn has(&self, name: &str) -> bool {
        self.lanes.borrow().contains(name)
    }

    fn found(&self, name: &str) {
        self.lanes.send_if_modified(|lanes| lanes.insert(name.to_owned()));
    }

    /// The lanes of a queue, besides the normal one.
    pub fn of(&self, queue: &str) -> Vec<PriorityLane> {
        let lanes = self.lanes.borrow();
        let mut of = vec![PriorityLane::High, PriorityLane::Low];
        of.retain(|lane| lanes.contains(&name(queue, *lane)));
        of
    }
}

impl Known {
    /// The lanes to take from: one that did not answer must not hold up the others.
    pub fn answering(&self, queue: &str) -> Vec<PriorityLane> {
        let silent = lock(&self.silent);
        let mut of = self.of(queue);
        of.retain(|lane| silent.get(&name(queue, *lane)).is_none_or(|at| at.elapsed() >= LOOK));
        of
    }

    /// A lane gave no answer, or an error: it is left alone for a minute.
    pub fn leave_alone(&self, queue: &str, lane: PriorityLane) {
        if lane != PriorityLane::Normal {
            tracing::warn!(
                queue,
                lane = lane.suffix(),
                "A lane does not answer; its jobs wait, the other lanes go on."
            );
            lock(&self.silent).insert(name(queue, lane), Instant::now());
        }
    }
}

fn name(queue: &str, lane: PriorityLane) -> String {
    format!("{queue}{}", lane.suffix())
}

/// The work queue and the lane that a message wants, when it is not the normal one.
fn wanted(outgoing: &Outgoing) -> Option<(&str, PriorityLane)> {
    let lane = PriorityLane::of(outgoing.message.properties.priority);
    match &outgoing.to {
        _ if lane == PriorityLane::Normal => None,
        Address::Work(queue) | Address::Delayed { queue, .. } | Address::Held { queue, .. } => Some((queue, lane)),
        _ => None,
    }
}

impl Inner {
    /// The full name of the queue that a job of this priority goes into.
    pub(super) fn key(&self, queue: &str, priority: Option<u8>) -> String {
        let lane = PriorityLane::of(priority);
        // A queue of somebody else's is not in the list.
        if lane != PriorityLane::Normal && self.lanes.has(&name(queue, lane)) {
            return self.names.work(&name(queue, lane));
        }
        self.full(queue)
    }

    fn missing<'a>(&self, outgoing: &'a Outgoing) -> Option<(&'a str, PriorityLane)> {
        let (queue, lane) = wanted(outgoing)?;
        let name = name(queue, lane);
        let lately = || lock(&self.lanes.refused).get(&name).is_some_and(|at| at.elapsed() < LOOK);
        (!self.lanes.has(&name) && !lately() && !self.is_foreign(queue)).then_some((queue, lane))
    }

    /// Makes the lanes that these messages need and that are not known here. `Err`: the broker
    /// cannot be asked now. What it does not allow is told once a minute, and done without.
    pub(super) async fn open_lanes(&self, all: impl Iterator<Item = &Outgoing> + Send) -> Result<(), BrokerError> {
        let missing: BTreeSet<(&str, PriorityLane)> = all.filter_map(|one| self.missing(one)).collect();
        for (queue, lane) in missing {
            // Without a link nobody is asked; a connection of its own would be waited for.
            self.declaring()?;
            // Of a queue that is not there, publishing itself says so.
            if !self.knows(queue).await.map_err(|error| BrokerError::Unreachable(error.to_string()))? {
                continue;
            }
            let name = name(queue, lane);
            let _alone = self.lanes.making.lock().await;
            if self.lanes.has(&name) {
                continue;
            }
            match self.make_lane(&name).await {
                Ok(()) => {
                    self.lanes.found(&name);
                    // Also when others made it: who should have heard of it may have missed it.
                    self.ring.push(Event::Laned { name });
                }
                Err(error @ (BrokerError::Unreachable(_) | BrokerError::Closed)) => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, "A lane cannot be made; jobs of its priority take the normal one.");
                    lock(&self.lanes.refused).insert(name, Instant::now());
                }
            }
        }
        Ok(())
    }

    /// The same for a caller's batch, once the broker is there, within the bound of a publish.
    pub(super) async fn open_lanes_patiently(&self, batch: &[Outgoing]) -> Result<(), PublishError> {
        if !batch.iter().any(|one| self.missing(one).is_some()) {
            return Ok(());
        }
        // If it is not there in time, asking says why.
        let _ = timeout(self.settings.confirm_timeout, connection::up(&mut self.consuming.clone())).await;
        self.open_lanes(batch.iter()).await.map_err(|error| PublishError::Refused(error.to_string()))
    }

    /// Does it go by a lane of its own?
    pub(super) fn goes_by_a_lane(&self, outgoing: &Outgoing) -> bool {
        wanted(outgoing).is_some_and(|(queue, _)| !self.is_foreign(queue))
    }

    /// Does it still need a lane that could not be asked for?
    pub(super) fn lacks_its_lane(&self, outgoing: &Outgoing) -> bool {
        self.missing(outgoing).is_some()
    }

    /// The lanes of these were gone: they are made again before the next publish. False when none
    /// has one.
    pub(super) fn forget_lanes<'a>(&self, of: impl Iterator<Item = &'a Outgoing>) -> bool {
        let names: Vec<String> = of.filter_map(wanted).map(|(queue, lane)| name(queue, lane)).collect();
        self.lanes.lanes.send_if_modified(|lanes| {
            let before = lanes.len();
            lanes.retain(|lane| !names.contains(lane));
            lanes.len() < before
        })
    }

    /// Declares a queue's lanes again, as far as they are known: it may be another server.
    pub(super) async fn ensure_lanes(&self, queue: &str) -> Result<(), BrokerError> {
        let topology = self.declaring()?;
        for lane in self.lanes.of(queue) {
            topology.ensure_lane(&name(queue, lane)).await?;
        }
        Ok(())
    }

    /// Looks which lanes a queue has, if nobody did lately.
    pub(super) async fn find_lanes(&self, queue: &str) {
        let lately = |at: &Instant| at.elapsed() < LOOK;
        if self.is_foreign(queue) || lock(&self.lanes.looked).get(queue).is_some_and(lately) {
            return;
        }
        lock(&self.lanes.looked).insert(queue.to_owned(), Instant::now());
        let Ok(topology) = self.declaring() else { return };
        let _alone = self.lanes.making.lock().await;
        for lane in [PriorityLane::High, PriorityLane::Low] {
            let name = name(queue, lane);
            // Whoever gets no answer looks again in a minute.
            if !self.lanes.has(&name)
                && let Ok(Some(_)) = topology.look(&self.names.work(&name)).await
                && self.lane_answers(&name).await.is_ok()
            {
                self.lanes.found(&name);
            }
        }
    }

    /// From the first subscription to a work queue on, new lanes are heard of.
    pub(super) fn listen_for_lanes(self: &Arc<Self>) {
        if self.lanes.listening.swap(true, Ordering::Relaxed) {
            return;
        }
        let (out, mut heard) = mpsc::channel(1);
        let listener = Listener {
            state: self.eventing.clone(),
            exchange: self.names.events(),
            topic: Topic::Control,
            out,
            ready: None,
            stop: self.stop.clone(),
        };
        self.tasks.spawn(listener.run());
        let this = Arc::clone(self);
        self.tasks.spawn(async move {
            while let Some(event) = heard.recv().await {
                if let Event::Laned { name } = event {
                    this.lanes.found(&name);
                }
            }
        });
    }

    /// A work queue's figures, its lanes added up and apart.
    pub(super) async fn stats_of(&self, topology: &Topology, queue: &str) -> Result<Option<QueueStats>, BrokerError> {
        let Some(mut stats) = topology.look(&self.full(queue)).await? else { return Ok(None) };
        queue.clone_into(&mut stats.name);
        self.find_lanes(queue).await;
        let lanes = self.lanes.of(queue);
        if !lanes.is_empty()
            && let Some(takers) = topology.look(&self.names.takers(queue)).await?
        {
            // While they pull, nobody consumes the lanes themselves.
            stats.consumers = stats.consumers.max(takers.consumers);
        }
        for lane in lanes {
            let Some(found) = topology.look(&self.names.work(&name(queue, lane))).await? else { continue };
            stats.ready += found.ready;
            let lanes = stats.lanes.get_or_insert(LaneStats::default());
            match lane {
                PriorityLane::Low => lanes.low = found.ready,
                _ => lanes.high = found.ready,
            }
        }
        Ok(Some(stats))
    }
}
