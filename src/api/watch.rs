//! Who waits here, and what recorders say of it.
//!
//! Owns the ids that this process waits for: recorders are told of them at once and again every few
//! seconds, and what they answer wakes the waits. Lossy and bounded: a wait that hears nothing looks
//! at the record by itself, ever less often. Refuses to read the record.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use spinor_consumers::broker::{AnyBroker, Broker as _, Event, Events, Topic};
use tokio::{
    sync::Notify,
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

/// More jobs are not asked for; their waits look at the record.
const MOST: usize = 20_000;
/// Ids to one event.
const ASKED_AT_ONCE: usize = 1000;
/// Recorders forget after 15 s.
const AGAIN: Duration = Duration::from_secs(4);

/// Everybody who waits in this process; cheap to clone.
#[derive(Clone)]
pub struct Watches(Arc<Shared>);

struct Shared {
    broker: AnyBroker,
    waiting: Mutex<HashMap<Uuid, Vec<Arc<Told>>>>,
}

/// What one wait was told and did not look at yet.
#[derive(Default)]
struct Told {
    jobs: Mutex<HashSet<Uuid>>,
    wake: Notify,
}

/// One wait, for one job or many; dropping it ends it.
pub(super) struct Watching {
    watches: Watches,
    jobs: Vec<Uuid>,
    told: Arc<Told>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watches {
    /// Starts to listen to what recorders say, until `stop`.
    pub fn start(broker: AnyBroker, tasks: &TaskTracker, stop: CancellationToken) -> Self {
        let watches = Self(Arc::new(Shared { broker, waiting: Mutex::default() }));
        let ours = watches.clone();
        tasks.spawn(async move { stop.run_until_cancelled(ours.run()).await });
        watches
    }

    async fn run(&self) {
        loop {
            if let Ok(events) = self.0.broker.listen(Topic::Recorded).await {
                self.hear(events).await;
            }
            sleep(Duration::from_secs(1)).await;
        }
    }

    /// Passes on what recorders say and asks again in between, until the end of the events.
    async fn hear(&self, mut events: Events) {
        let mut again = interval(AGAIN);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(Event::Watched { jobs } | Event::Recorded { jobs }) => self.tell(&jobs),
                    Some(_) => {}
                    None => return,
                },
                _ = again.tick() => {
                    let all: Vec<Uuid> = lock(&self.0.waiting).keys().copied().collect();
                    self.ask(&all);
                }
            }
        }
    }

    fn ask(&self, jobs: &[Uuid]) {
        for jobs in jobs.chunks(ASKED_AT_ONCE) {
            self.0.broker.cast(Event::Watch { jobs: jobs.to_vec() });
        }
    }

    fn tell(&self, jobs: &[Uuid]) {
        let waiting = lock(&self.0.waiting);
        for job in jobs {
            for told in waiting.get(job).into_iter().flatten() {
                lock(&told.jobs).insert(*job);
                told.wake.notify_one();
            }
        }
    }

    /// Begins a wait. Look at the record after this, not before.
    pub(super) fn watch(&self, jobs: &[Uuid]) -> Watching {
        let told = Arc::new(Told::default());
        let mut waiting = lock(&self.0.waiting);
        let jobs = if waiting.len() + jobs.len() > MOST { Vec::new() } else { jobs.to_vec() };
        for job in &jobs {
            waiting.entry(*job).or_default().push(Arc::clone(&told));
        }
        drop(waiting);
        self.ask(&jobs);
        Watching { watches: self.clone(), jobs, told }
    }
}

impl Watching {
    /// The jobs of which something is to be read; waits until there are some. Cancel-safe.
    pub(super) async fn told(&self) -> Vec<Uuid> {
        loop {
            let told: Vec<Uuid> = lock(&self.told.jobs).drain().collect();
            if !told.is_empty() {
                return told;
            }
            self.told.wake.notified().await;
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let mut waiting = lock(&self.watches.0.waiting);
        for job in &self.jobs {
            if let Some(all) = waiting.get_mut(job) {
                all.retain(|told| !Arc::ptr_eq(told, &self.told));
                if all.is_empty() {
                    waiting.remove(job);
                }
            }
        }
    }
}
