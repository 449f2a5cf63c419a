//! One subscription, kept fed: subscribe, forward, resubscribe, change the credit, end.
//!
//! Owns a subscription's life across the channels it needs: each is a [`Generation`], and when one
//! is lost the next begins. Hears what the subscription wishes, hands over what arrived, and
//! notices when nothing arrives that should. Refuses to answer deliveries: that is the tracker's
//! and the sink's.

use std::{
    future::{Future, pending, ready},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use lapin::{Connection, protocol::AMQPSoftError};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, timeout},
};
use uuid::Uuid;

use super::{
    Inner,
    connection::{State, jitter},
    generation::Generation,
    topology::{self, Topology},
    tracker::{PATIENCE, When},
    wishes::{Wish, Wishes},
};
use crate::broker::{Delivery, QueueSpec};

/// How often a quiet subscription looks whether it should be quiet.
const LOOK: Duration = Duration::from_secs(10);
/// Quiet for so long, with messages ready and credit left, means stuck.
const STUCK: Duration = Duration::from_secs(20);

/// Where a subscription's messages come from.
pub struct Source {
    /// The queue's full name.
    pub full: String,
    /// What deliveries say.
    pub short: String,
    /// A work queue, declared again when it is gone.
    pub work: Option<QueueSpec>,
    /// The queue of what this consumer holds, declared again when it is gone.
    pub held: Option<Uuid>,
}

/// One subscription's task.
pub struct Feed {
    /// The broker.
    pub broker: Arc<Inner>,
    /// The queue.
    pub source: Arc<Source>,
    /// How many may be in hand.
    pub credit: u32,
    /// To the subscription; none once it ended.
    pub out: Option<mpsc::Sender<Delivery>>,
    /// From the subscription.
    pub wishes: Wishes,
    /// The consuming connection.
    pub state: watch::Receiver<State>,
    /// Told once the first subscribe is through.
    pub ready: Option<oneshot::Sender<()>>,
    /// Cancelled by the subscription: what is under way goes out, then the stream ends.
    pub leaving: bool,
}

/// Why a channel was given up.
enum Ended {
    /// Lost, or stuck: a new one.
    Lost,
    /// Nothing more is wanted and nothing is in hand.
    Done,
}

impl Feed {
    /// Runs until the subscription ends or the broker is closed.
    pub async fn run(mut self) {
        let mut pause = Duration::from_millis(50);
        while let Some(connection) = self.connection().await {
            let began = Instant::now();
            match self.serve(&self.broker.topology(&connection)).await {
                Ok(Ended::Done) => return,
                Ok(Ended::Lost) => {}
                Err(error) => {
                    tracing::debug!(queue = self.source.full, %error, "A subscription is tried again.");
                    self.declare_again(&self.broker.topology(&connection), &error).await;
                }
            }
            if self.leaving || self.out.is_none() {
                // What was in hand is stale, and nothing more is wanted.
                return;
            }
            if began.elapsed() > Duration::from_secs(30) {
                pause = Duration::from_millis(50);
            }
            let until = Instant::now() + pause / 2 + jitter(pause / 2);
            pause = (pause * 2).min(Duration::from_secs(15));
            if !self.idle_until(tokio::time::sleep_until(until)).await {
                return;
            }
        }
    }

    /// The connection when there is one; none means the end.
    async fn connection(&mut self) -> Option<Arc<Connection>> {
        let mut state = self.state.clone();
        let mut found = None;
        let wait = async {
            if let Ok(state) = state.wait_for(|state| !matches!(state, State::Down(_))).await {
                found = state.connection().cloned();
            }
        };
        // Boxed: it is held across the wishes.
        let wait: Pin<Box<dyn Future<Output = ()> + Send + '_>> = Box::pin(wait);
        self.idle_until(wait).await.then_some(())?;
        found
    }

    /// Waits without a channel, hearing what the subscription says; false when it ended.
    async fn idle_until(&mut self, wait: impl Future<Output = ()> + Send) -> bool {
        let mut wait = std::pin::pin!(wait);
        loop {
            tokio::select! {
                () = &mut wait => return true,
                wish = self.wishes.heard() => {
                    self.credit = wish.credit;
                    let cancelled = !wish.cancels.is_empty();
                    promise(wish.cancels);
                    if cancelled || wish.gone {
                        return false;
                    }
                }
                () = self.broker.closing.cancelled() => return false,
            }
        }
    }

    async fn declare_again(&self, topology: &Topology, error: &lapin::Error) {
        if topology::soft(error) != Some(AMQPSoftError::NOTFOUND) {
            return;
        }
        let queues: Vec<QueueSpec> = self.source.work.iter().filter(|queue| !queue.foreign).cloned().collect();
        if let Err(error) = topology.ensure(self.broker.settings.search, &queues).await {
            tracing::warn!(queue = self.source.full, %error, "A queue that is gone cannot be declared again yet.");
        }
        for queue in &queues {
            if let Err(error) = self.broker.ensure_lanes(&queue.name).await {
                tracing::warn!(queue = self.source.full, %error, "A lane that is gone cannot be declared again yet.");
            }
        }
        if let Some(holder) = self.source.held {
            // If it fails, the next subscribe does too, and comes back here.
            drop(topology.ensure_held(holder).await);
        }
    }

    async fn serve(&mut self, topology: &Topology) -> lapin::Result<Ended> {
        let mut this = Generation::open(&self.broker, &self.source, &topology.connection).await?;
        let ended = self.work(&mut this, topology).await;
        // What was not forwarded is stale with the rest: it comes again.
        self.broker.retire(&this.tracker);
        this.give_up();
        ended
    }

    async fn work(&mut self, this: &mut Generation, topology: &Topology) -> lapin::Result<Ended> {
        let mut look = tokio::time::interval_at(Instant::now() + LOOK, LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // When to look for what waited too long for its elders.
        let mut late: Option<Instant> = None;
        let tracker = Arc::clone(&this.tracker);
        let mut lanes = self.broker.lanes.watch();
        self.take_from_lanes(this, topology).await?;
        loop {
            let credit = if self.out.is_some() { self.credit } else { 0 };
            // A channel that does not answer is as good as lost, and nobody would look while it is waited for.
            match timeout(STUCK, this.adjust(credit)).await {
                Ok(adjusted) => adjusted?,
                Err(_) => return Ok(self.silent()),
            }
            if let Some(ready) = self.ready.take() {
                // The caller may have given up waiting.
                let _ = ready.send(());
            }
            self.forward(this);
            if self.out.is_none() && this.tracker.len() == 0 {
                this.end().await;
                return Ok(Ended::Done);
            }
            tokio::select! {
                // A new credit is heard before an answer makes room for more under the old one.
                biased;
                wish = self.wishes.heard() => match timeout(STUCK, self.hear(this, wish)).await {
                    Ok(heard) => heard?,
                    Err(_) => return Ok(self.silent()),
                },
                () = tracker.changed.notified() => {
                    let wait = tracker.answer(When::Now);
                    late = late.or_else(|| wait.then(|| Instant::now() + PATIENCE));
                }
                () = at(late) => late = tracker.answer(When::Late).then(|| Instant::now() + PATIENCE),
                () = self.broker.closing.cancelled(), if self.out.is_some() => self.leave(this).await?,
                () = self.broker.ending.cancelled() => {
                    this.end().await;
                    return Ok(Ended::Done);
                }
                _ = self.state.changed() => {}
                _ = lanes.changed() => self.take_from_lanes(this, topology).await?,
                () = at(this.starved_until()) => {}
                () = at(this.quiet_at(credit)) => {}
                _ = look.tick() => {
                    self.look_for_lanes();
                    // One that was left alone may answer again.
                    self.take_from_lanes(this, topology).await?;
                    if self.is_stuck(this, topology).await {
                        return Ok(Ended::Lost);
                    }
                }
                () = has_room(self.out.as_ref()), if !this.waiting.is_empty() => {}
                () = ready(()), if this.pulls(credit) => {}
                arrived = this.arrive() => this.take_up(arrived).await?,
            }
            if !this.is_up() {
                return Ok(Ended::Lost);
            }
        }
    }

    /// Hands over as much as the subscription has room for.
    fn forward(&mut self, this: &mut Generation) {
        let there = self.out.as_ref().is_some_and(|out| this.forward(out));
        if !there || (self.leaving && this.waiting.is_empty()) {
            self.out = None;
        }
    }

    async fn hear(&mut self, this: &mut Generation, wish: Wish) -> lapin::Result<()> {
        self.leaving |= !wish.cancels.is_empty();
        self.credit = if self.leaving { 0 } else { wish.credit };
        let stopped = match (wish.gone, self.leaving) {
            (true, _) => self.leave(this).await,
            (false, true) => this.stop().await,
            (false, false) => Ok(()),
        };
        // Also when the channel broke meanwhile: there is no other after it.
        promise(wish.cancels);
        stopped
    }

    /// Nobody takes anything out any more: it goes back, and what is in hand stays answerable.
    async fn leave(&mut self, this: &mut Generation) -> lapin::Result<()> {
        self.out = None;
        this.stop().await?;
        this.waiting.clear();
        Ok(())
    }

    /// A queue that is not somebody else's has lanes, as soon as somebody needs them.
    async fn take_from_lanes(&self, this: &mut Generation, topology: &Topology) -> lapin::Result<()> {
        let Some(queue) = &self.source.work else { return Ok(()) };
        let lanes = self.broker.lanes.answering(&queue.name);
        if !this.take_from(&lanes).await? {
            return Ok(());
        }
        match topology.ensure_takers(&queue.name).await {
            Ok(()) => this.be_counted(&self.broker.names.takers(&queue.name)).await,
            Err(error) => {
                tracing::debug!(queue = queue.name, %error, "Whoever takes from this queue is not counted.");
                Ok(())
            }
        }
    }

    /// Beside all else: a server that is slow to answer holds nothing up.
    fn look_for_lanes(&self) {
        if let Some(queue) = &self.source.work {
            let (broker, queue) = (Arc::clone(&self.broker), queue.name.clone());
            self.broker.tasks.spawn(async move { broker.find_lanes(&queue).await });
        }
    }

    fn silent(&self) -> Ended {
        tracing::warn!(queue = self.source.full, "The channel did not answer for 20 s: subscribing anew.");
        Ended::Lost
    }

    async fn is_stuck(&self, this: &Generation, topology: &Topology) -> bool {
        if this.quiet().is_none_or(|quiet| quiet < STUCK) {
            return false;
        }
        let mut stuck = false;
        for queue in this.queues() {
            let looked = topology.look(&queue).await;
            stuck |= looked.is_ok_and(|stats| stats.is_none_or(|stats| stats.ready > 0));
        }
        if stuck {
            tracing::warn!(queue = self.source.full, "Messages are ready and none came for 20 s: subscribing anew.");
        }
        stuck
    }
}

/// Nothing more is sent.
fn promise(cancels: Vec<oneshot::Sender<()>>) {
    for done in cancels {
        // Who gave up waiting needs no promise.
        let _ = done.send(());
    }
}

/// Until then, or for ever.
async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => pending().await,
    }
}

async fn has_room(out: Option<&mpsc::Sender<Delivery>>) {
    match out {
        // An error means that the subscription is gone, which the next round sees.
        Some(out) => drop(out.reserve().await),
        None => pending().await,
    }
}
