//! Deliveries in hand that wait for a slot, and the credit that bounds them.
//!
//! Owns the subscriptions, one forwarder task each, and the ready line. Refuses to look into a
//! delivery. What has not started within [`STALE`] is handed back, and the credit falls by itself.

use std::{
    collections::{HashSet, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use spinor_executors::{HeaderValue, pool::Running};
use tokio::{
    sync::Notify,
    time::{Duration, Instant, MissedTickBehavior},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use super::{
    credit::{BOUND, Credit, Speed},
    holders::Holders,
};
use crate::{
    broker::{
        Address, AnyBroker, Broker, BrokerError, Delivery, Outgoing, QueueSpec, Settlement, Subscription, Verdict,
    },
    message::{self, Past, header},
};

/// In hand for so long without a start: it goes back.
const STALE: Duration = Duration::from_secs(5);
/// A broker that says nothing is not waited for longer than this when the flow ends.
pub const LEAVE: Duration = Duration::from_secs(5);
/// How often credit is looked at while something is in hand.
const TICK: Duration = Duration::from_millis(50);

/// The line before the slots.
pub struct Intake {
    /// How many may run at once now, and how many slots there are to run them.
    slots: AtomicUsize,
    started: AtomicUsize,
    busy: AtomicUsize,
    holders: Arc<Holders>,
    running: Arc<Running<Delivery>>,
    line: Mutex<Line>,
    wake: Notify,
    finished: AtomicUsize,
    took_micros: AtomicU64,
    /// Taken out of the line to wait elsewhere: they take no slot, and so no credit.
    aside: AtomicUsize,
    /// Too many reports wait to be recorded: no credit.
    full: AtomicBool,
    moved: Notify,
    ended: CancellationToken,
}

struct Line {
    waiting: VecDeque<(Instant, Delivery)>,
    closed: bool,
    /// Queues from which nothing is taken now.
    paused: HashSet<String>,
}

impl Intake {
    /// An empty line before so many slots, of the consumer with this boot id.
    pub fn new(slots: usize, boot: Uuid, running: Arc<Running<Delivery>>) -> Self {
        Self {
            slots: AtomicUsize::new(slots),
            started: AtomicUsize::new(slots),
            busy: AtomicUsize::new(0),
            holders: Arc::new(Holders::new(boot)),
            running,
            line: Mutex::new(Line { waiting: VecDeque::new(), closed: false, paused: HashSet::new() }),
            ended: CancellationToken::new(),
            wake: Notify::new(),
            finished: AtomicUsize::new(0),
            took_micros: AtomicU64::new(0),
            aside: AtomicUsize::new(0),
            full: AtomicBool::new(false),
            moved: Notify::new(),
        }
    }

    /// The names under which this consumer holds jobs.
    pub fn holders(&self) -> &Arc<Holders> {
        &self.holders
    }

    /// So many deliveries wait elsewhere now.
    pub fn set_aside(&self, count: usize) {
        if self.aside.swap(count, Ordering::Relaxed) != count {
            self.moved.notify_waiters();
        }
    }

    /// Takes nothing more for now, or takes again: see `backlog`.
    pub fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::Relaxed);
        self.moved.notify_waiters();
    }

    /// Starts a forwarder for a queue.
    pub async fn subscribe(
        self: &Arc<Self>,
        broker: &AnyBroker,
        queue: &QueueSpec,
        tracker: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<(), BrokerError> {
        let nothing = self.full.load(Ordering::Relaxed) || self.lock().paused.contains(&queue.name);
        let first = if nothing { 0 } else { u32::try_from(self.slots()).unwrap_or(u32::MAX) };
        let subscription = broker.consume(&Address::Work(queue.name.clone()), first).await?;
        let forwarder = Forwarder {
            intake: Arc::clone(self),
            broker: broker.clone(),
            subscription,
            credit: Credit::new(first),
            speed: Speed::default(),
            queue: queue.name.clone(),
        };
        tracker.spawn(forwarder.run(stop.clone()));
        Ok(())
    }

    /// The next delivery; `None` once the line is closed. Cancel-safe.
    pub async fn next(&self) -> Option<Delivery> {
        loop {
            let woken = self.wake.notified();
            {
                let mut line = self.lock();
                if line.closed {
                    // Pass it on, so that every slot learns it.
                    self.wake.notify_one();
                    return None;
                }
                if self.has_room()
                    && let Some((_, delivery)) = line.waiting.pop_front()
                {
                    self.busy.fetch_add(1, Ordering::Relaxed);
                    if !line.waiting.is_empty() {
                        self.wake.notify_one();
                    }
                    return Some(delivery);
                }
            }
            woken.await;
        }
    }

    /// A delivery was answered after so long in a slot: the consumer's speed, and so its credit.
    pub fn ended(&self, took: Duration) {
        self.finished.fetch_add(1, Ordering::Relaxed);
        self.took_micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.busy.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many jobs run at once at most, now.
    pub fn slots(&self) -> usize {
        self.slots.load(Ordering::Relaxed)
    }

    /// How many slots there are; more than may run when their number was lowered.
    pub fn started(&self) -> usize {
        self.started.load(Ordering::Relaxed)
    }

    /// So many slots more are there.
    pub fn has_started(&self, more: usize) {
        self.started.fetch_add(more, Ordering::Relaxed);
    }

    /// Lets so many run at once from now on; tells whether that is news.
    pub fn set_slots(&self, wanted: usize) -> bool {
        let news = self.slots.swap(wanted, Ordering::Relaxed) != wanted;
        if news {
            self.moved.notify_waiters();
            self.wake.notify_one();
        }
        news
    }

    /// A slot more than may run waits until the number is raised again.
    fn has_room(&self) -> bool {
        let slots = self.slots();
        slots >= self.started() || self.busy.load(Ordering::Relaxed) < slots
    }

    /// Takes nothing from these queues, gives back what waits of them, and takes again from all others.
    pub fn pause(&self, broker: &AnyBroker, paused: HashSet<String>) {
        let mut line = self.lock();
        if line.paused == paused {
            return;
        }
        let waiting = std::mem::take(&mut line.waiting);
        let (left, stay) = waiting.into_iter().partition(|(_, delivery)| paused.contains(&delivery.queue));
        line.waiting = stay;
        line.paused = paused;
        drop(line);
        let left: VecDeque<(Instant, Delivery)> = left;
        left.into_iter().for_each(|(_, delivery)| give_back(broker, &self.holders, delivery));
        self.moved.notify_waiters();
    }

    /// Is nothing taken from this queue?
    fn is_paused(&self, queue: &str) -> bool {
        let line = self.lock();
        !line.paused.is_empty() && line.paused.contains(queue)
    }

    /// Is nothing taken any more?
    pub fn is_closed(&self) -> bool {
        self.ended.is_cancelled()
    }

    /// Waits for that.
    pub async fn closed(&self) {
        self.ended.cancelled().await;
    }

    /// What it takes, for people.
    pub fn word(&self) -> String {
        let line = self.lock();
        if line.closed {
            return "draining".to_owned();
        }
        if self.full.load(Ordering::Relaxed) {
            return "too many reports wait to be recorded".to_owned();
        }
        let mut paused: Vec<&str> = line.paused.iter().map(String::as_str).collect();
        paused.sort_unstable();
        match paused.as_slice() {
            [] => "taking".to_owned(),
            queues => format!("paused: {}", queues.join(", ")),
        }
    }

    /// Ends the line: what waits goes back without penalty, slots get `None`.
    pub fn close(&self, broker: &AnyBroker) {
        let left = {
            let mut line = self.lock();
            line.closed = true;
            std::mem::take(&mut line.waiting)
        };
        self.ended.cancel();
        self.wake.notify_one();
        for (_, delivery) in left {
            give_back(broker, &self.holders, delivery);
        }
    }

    /// Puts arrivals in line, or hands them back when it is closed.
    pub fn arrive(&self, broker: &AnyBroker, arrivals: &mut Vec<Delivery>) {
        if arrivals.iter().any(|delivery| delivery.redelivered) {
            let unless_running = |delivery: Delivery| match delivery.redelivered {
                true => self.unless_running(broker, delivery),
                false => Some(delivery),
            };
            *arrivals = arrivals.drain(..).filter_map(unless_running).collect();
        }
        let mut line = self.lock();
        if line.closed {
            drop(line);
            arrivals.drain(..).for_each(|delivery| give_back(broker, &self.holders, delivery));
            return;
        }
        let paused = if line.paused.is_empty() {
            Vec::new()
        } else {
            // They were on their way when it was paused.
            arrivals.extract_if(.., |delivery| line.paused.contains(&delivery.queue)).collect()
        };
        let now = Instant::now();
        line.waiting.extend(arrivals.drain(..).map(|delivery| (now, delivery)));
        drop(line);
        paused.into_iter().for_each(|delivery| give_back(broker, &self.holders, delivery));
        self.wake.notify_one();
    }

    /// What runs here already needs no slot: the newer delivery answers for both, and all slots may
    /// be taken by what came again. One whose own link is lost answers for nothing: it would take the
    /// place of one that is good, and the job would be nowhere but here.
    pub fn unless_running(&self, broker: &AnyBroker, delivery: Delivery) -> Option<Delivery> {
        if !broker.in_hand(&delivery.tag) {
            drop(broker.settle(delivery, Settlement::default()));
            return None;
        }
        let Some(key) = message::attempt_of(&delivery.message, &delivery.queue) else { return Some(delivery) };
        match self.running.replace(&key, delivery) {
            Ok(old) => {
                // Acking a lost one does nothing.
                drop(broker.settle(old, Settlement::default()));
                None
            }
            Err(delivery) => Some(delivery),
        }
    }

    /// Hands back what waited too long.
    fn sweep(&self, broker: &AnyBroker) {
        let now = Instant::now();
        let mut stale = Vec::new();
        {
            let mut line = self.lock();
            while line.waiting.front().is_some_and(|(since, _)| now.duration_since(*since) > STALE) {
                stale.extend(line.waiting.pop_front());
            }
        }
        for (_, delivery) in stale {
            tracing::debug!(queue = %delivery.queue, "Handed back: no slot came free in time.");
            give_back(broker, &self.holders, delivery);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_empty(&self) -> bool {
        self.lock().waiting.is_empty()
    }
}

/// Gives a delivery back to its queue without penalty. What this consumer holds itself goes home
/// as a message of its own, without a holder: nobody shall ask, or charge, one that left in peace.
pub fn give_back(broker: &AnyBroker, holders: &Holders, delivery: Delivery) {
    let mut past = Past::of(&delivery.message.properties);
    let mut settlement = Settlement { verdict: Verdict::HandBack, ..Settlement::default() };
    if past.holder.take().is_some_and(|holder| holders.has(holder)) {
        let mut message = delivery.message.clone();
        past.write(&mut message.properties.headers);
        message.properties.headers.insert(header::AGAIN.to_owned(), HeaderValue::Bool(true));
        let to = Address::Delayed { queue: delivery.queue.clone(), after: Duration::ZERO };
        settlement = Settlement { publish: vec![Outgoing { to, message, must: true }], ..Settlement::default() };
    }
    // The receipt is not awaited: if the link is gone, the broker takes it back by itself.
    drop(broker.settle(delivery, settlement));
}

/// Moves deliveries of one subscription into the line and sets its credit.
struct Forwarder {
    intake: Arc<Intake>,
    broker: AnyBroker,
    subscription: Subscription,
    credit: Credit,
    speed: Speed,
    queue: String,
}

impl Forwarder {
    async fn run(mut self, stop: CancellationToken) {
        let mut arrivals = Vec::with_capacity(BOUND);
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // At rest nothing ticks: an idle consumer costs no wake-ups.
            let busy = self.credit.told() as usize > self.intake.slots() || !self.intake.is_empty();
            let moved = self.intake.moved.notified();
            tokio::select! {
                () = stop.cancelled() => break,
                count = self.subscription.next_many(&mut arrivals, BOUND) => {
                    if count == 0 {
                        return;
                    }
                    self.intake.arrive(&self.broker, &mut arrivals);
                    if !busy {
                        tick.reset();
                    }
                }
                _ = tick.tick(), if busy => {
                    self.intake.sweep(&self.broker);
                }
                () = moved => {}
            }
            self.follow_speed();
        }
        self.leave().await;
    }

    fn follow_speed(&mut self) {
        let count = self.intake.finished.swap(0, Ordering::Relaxed);
        let took = Duration::from_micros(self.intake.took_micros.swap(0, Ordering::Relaxed));
        self.speed.finished(count, took, Instant::now());
        let aside = u32::try_from(self.intake.aside.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
        let wanted = match self.intake.is_paused(&self.queue) || self.intake.full.load(Ordering::Relaxed) {
            true => 0,
            false => self.speed.credit(self.intake.slots()).saturating_add(aside),
        };
        if let Some(credit) = self.credit.change(wanted) {
            self.subscription.credit(credit);
        }
    }

    /// Stops the flow, then hands back what was under way. A broker that does not answer gets it
    /// back with the link.
    async fn leave(mut self) {
        let left = async {
            if self.subscription.cancel().await.is_ok() {
                while let Some(delivery) = self.subscription.next().await {
                    give_back(&self.broker, &self.intake.holders, delivery);
                }
            }
        };
        let _ = tokio::time::timeout(LEAVE, left).await;
    }
}
