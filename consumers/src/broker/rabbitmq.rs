//! The broker on a RabbitMQ server or cluster, 3.10 and newer.
//!
//! Owns the wiring of its parts: three supervised connections (publish, consume, events), the
//! publish lanes, the settle sink, the feeds of the subscriptions. Only this module and the files
//! under it know the AMQP client; its own recovery stays off, see `connection`.
//!
//! ```text
//! publish -> parcels -> lane (confirms)         queue -> feed -> intake -> Subscription
//! settle  -> sink -> parcels -> lane -> tracker (acks)
//! ```

mod channels;
mod connection;
mod events;
mod feed;
mod generation;
mod intake;
mod lane;
mod lanes;
mod link;
mod making;
mod names;
mod parcels;
mod priorities;
mod queues;
mod settings;
mod sink;
mod topology;
mod tracker;
mod wanted;
mod wire;
mod wishes;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use bytes::Bytes;
use lapin::Channel;
use tokio::{
    sync::{Mutex as AsyncMutex, mpsc, oneshot, watch},
    time::{Instant, timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use self::{
    connection::{State, Supervised},
    events::{Caster, Listener, Ring},
    feed::Feed,
    lane::{Lane, Parcel, Sent},
    lanes::Flight,
    names::Names,
    sink::{Item, Sink},
};
use super::{
    Address, Backlog, Broker, BrokerError, BrokerObject, Delivery, DeliveryTag, Event, Events, Keeps, Link, Outgoing,
    PublishError, QueueSpec, QueueStats, RESERVED, Receipt, Settlement, Subscription, Topic, Verdict, is_reserved,
};
use crate::planted::{self, Fault, planted};

pub use settings::RabbitSettings;

/// Publish channels for what callers publish themselves.
const LANES: usize = 2;
/// No answer of the broker to a subscribe or a listen is waited for longer.
const ANSWER: Duration = Duration::from_secs(10);
/// A close takes no longer than this, whatever the broker does.
const CLOSE: Duration = Duration::from_secs(10);
/// Of it, this much is kept for saying the last acks and closing the connections.
const FAREWELL: Duration = Duration::from_secs(3);
/// Deliveries ready to be taken out of a subscription.
const READY: usize = 1024;

/// A RabbitMQ server or cluster. Cheap to clone.
#[derive(Clone)]
pub struct RabbitMq(Arc<Inner>);

/// What all parts share.
struct Inner {
    settings: RabbitSettings,
    names: Names,
    publishing: watch::Receiver<State>,
    consuming: watch::Receiver<State>,
    eventing: watch::Receiver<State>,
    link: watch::Receiver<Link>,
    flights: mpsc::Sender<Flight>,
    /// The lanes of held queues.
    holding: Mutex<Vec<(Uuid, mpsc::Sender<Flight>)>>,
    sink: Sink,
    pack_size: parcels::PackSize,
    /// Work queues this process declared or met, by short name.
    known: Mutex<BTreeMap<String, QueueSpec>>,
    /// The lanes beside them.
    lanes: priorities::Known,
    trackers: Mutex<HashMap<u64, channels::Open>>,
    generations: AtomicU64,
    /// A channel without confirms for the copies that nobody waits for.
    loose: Mutex<Option<Channel>>,
    ring: Arc<Ring>,
    /// Intake ends.
    closing: CancellationToken,
    /// Channels are closed, with what is settled answered.
    ending: CancellationToken,
    /// Everything ends.
    stop: CancellationToken,
    feeds: TaskTracker,
    tasks: TaskTracker,
}

impl RabbitMq {
    /// Connects. A wrong password or virtual host is `Misconfigured` at once, a server that is
    /// away `Unreachable`; later losses heal by themselves.
    pub async fn connect(settings: RabbitSettings) -> Result<Self, BrokerError> {
        let hosts: Arc<[settings::Host]> = settings::hosts(&settings)?.into();
        let small: Arc<[settings::Host]> = hosts.iter().map(settings::Host::with_small_frames).collect();
        let names = Names::new(&settings.prefix);
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let named = |role: &str| format!("{} {role}", settings.connection_name);
        let roles = [named("publish"), named("consume"), named("events")];
        // One after the other would triple the wait for a slow server; the first error is the word.
        let (publish, consume, events) = tokio::try_join!(
            connection::connect(&hosts, &roles[0]),
            connection::connect(&hosts, &roles[1]),
            connection::connect(&small, &roles[2]),
        )?;
        let [publishing, consuming, eventing] = [publish, consume, events];
        let supervise = |first, hosts: &Arc<[settings::Host]>, name: &String| {
            Supervised { hosts: Arc::clone(hosts), name: name.clone(), stop: stop.clone() }.start(first, &tasks)
        };
        let publishing = supervise(publishing, &hosts, &roles[0]);
        let consuming = supervise(consuming, &hosts, &roles[1]);
        let eventing = supervise(eventing, &small, &roles[2]);
        let (flights, taken) = mpsc::channel(64);
        let inner = Arc::new(Inner {
            link: link::watch_both(publishing.clone(), consuming.clone(), &tasks),
            settings,
            names,
            publishing,
            consuming,
            eventing,
            flights,
            holding: Mutex::default(),
            sink: Sink::default(),
            pack_size: parcels::PackSize::default(),
            known: Mutex::default(),
            lanes: priorities::Known::default(),
            trackers: Mutex::default(),
            generations: AtomicU64::new(1),
            loose: Mutex::default(),
            ring: Arc::default(),
            closing: CancellationToken::new(),
            ending: CancellationToken::new(),
            feeds: TaskTracker::new(),
            stop,
            tasks,
        });
        inner.start(taken);
        Ok(Self(inner))
    }

    /// Events that could not be sent, so far.
    pub fn events_dropped(&self) -> u64 {
        self.0.ring.dropped()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    fn start(self: &Arc<Self>, taken: mpsc::Receiver<Flight>) {
        let patience = self.settings.confirm_timeout;
        let taken = Arc::new(AsyncMutex::new(taken));
        for _ in 0..LANES {
            let lane = Lane::new(self.publishing.clone(), patience);
            self.tasks.spawn(lanes::fly_on(lane, Arc::clone(&taken), self.stop.clone()));
        }
        for first in [true, false] {
            let lane = Lane::new(self.publishing.clone(), patience);
            self.tasks.spawn(Arc::clone(self).flush_settlements(lane, first));
        }
        self.tasks.spawn(Arc::clone(self).declare_after_each_loss());
        let caster = Caster {
            state: self.eventing.clone(),
            exchange: self.names.events(),
            ring: Arc::clone(&self.ring),
            stop: self.stop.clone(),
        };
        self.tasks.spawn(caster.run());
    }

    /// Sends a batch over a lane, what it needs made first; a result for each, in order.
    async fn send(&self, batch: &[Outgoing]) -> Vec<Sent> {
        let lanes = self.open_lanes_patiently(batch).await;
        let mut results: Vec<Option<Sent>> = Vec::with_capacity(batch.len());
        let mut parcels = Vec::with_capacity(batch.len());
        for outgoing in batch {
            match self.ready_to_send(outgoing, &lanes).await {
                Ok(parcel) => {
                    parcels.push(parcel);
                    results.push(None);
                }
                Err(error) => results.push(Some(Err(error))),
            }
        }
        let mut sent = self.fly(parcels, one_holder(batch)).await.into_iter();
        let sent = results.into_iter().map(|result| {
            result.or_else(|| sent.next()).unwrap_or_else(|| Err(PublishError::Unconfirmed(String::new())))
        });
        sent.collect()
    }

    async fn ready_to_send(&self, outgoing: &Outgoing, lanes: &Sent) -> Result<Parcel, PublishError> {
        if let Err(error) = lanes
            && self.lacks_its_lane(outgoing)
        {
            return Err(error.clone());
        }
        // A tier takes anything, so the broker cannot say that the way home is missing.
        if let Address::Delayed { queue, .. } = &outgoing.to
            && !self.knows(queue).await?
        {
            return Err(PublishError::Unroutable { queue: queue_of(&outgoing.to), known: Vec::new() });
        }
        self.parcel(outgoing)
    }

    /// Settles, or reports when there is no tag.
    fn put(self: &Arc<Self>, tag: Option<DeliveryTag>, settlement: Settlement) -> Receipt {
        let (receipt, receive) = Receipt::pair();
        let Settlement { lines, publish, verdict } = settlement;
        if self.closing.is_cancelled() {
            // The receipt says that the broker was closed; the delivery goes back.
            return receive;
        }
        if lines.is_empty() && publish.is_empty() {
            if let Some(tag) = tag
                && let Some(tracker) = self.tracker(tag.subscription)
            {
                match verdict {
                    Verdict::Ack => tracker.finish([tag.number]),
                    Verdict::HandBack => tracker.hand_back(tag.number),
                }
            }
            let _ = receipt.send(Ok(()));
        } else {
            let early = tag.filter(|_| planted(Fault::AckBeforeConfirm) && verdict == Verdict::Ack);
            let item = Item { tag, lines, publish, verdict, receipt, tries: 0 };
            match early.and_then(|tag| Some((self.tracker(tag.subscription)?, tag.number))) {
                None => self.sink.push(item),
                Some((tracker, number)) => {
                    tracker.finish([number]);
                    let this = Arc::clone(self);
                    self.tasks.spawn(async move {
                        tokio::time::sleep(planted::GAP).await;
                        this.sink.push(item);
                    });
                }
            }
        }
        receive
    }
}

impl Broker for RabbitMq {
    async fn declare(&self, queues: &[QueueSpec]) -> Result<(), BrokerError> {
        if let Some(queue) = queues.iter().find(|queue| !queue.foreign && is_reserved(&queue.name)) {
            return Err(BrokerError::Misconfigured(format!("`{}` is the name of a lane; {RESERVED}", queue.name)));
        }
        self.0.ensure(queues).await?;
        let mut known = lock(&self.0.known);
        known.extend(queues.iter().map(|queue| (queue.name.clone(), queue.clone())));
        Ok(())
    }

    async fn publish(&self, batch: Vec<Outgoing>) -> Vec<Result<(), PublishError>> {
        let laned: Vec<(usize, Outgoing)> = batch
            .iter()
            .enumerate()
            .filter(|(_, one)| self.0.goes_by_a_lane(one))
            .map(|(at, one)| (at, one.clone()))
            .collect();
        let mut results = self.0.send(&batch).await;
        drop(batch);
        // A lane that somebody deleted is made again, once.
        let gone = |(at, _): &(usize, Outgoing)| matches!(results[*at], Err(PublishError::Unroutable { .. }));
        let (places, again): (Vec<usize>, Vec<Outgoing>) = laned.into_iter().filter(gone).unzip();
        if self.0.forget_lanes(again.iter()) {
            for (at, result) in places.into_iter().zip(self.0.send(&again).await) {
                results[at] = result;
            }
        }
        for result in &mut results {
            if let Err(PublishError::Unroutable { known, .. }) = result {
                *known = self.0.known_names();
            }
        }
        results
    }

    async fn consume(&self, from: &Address, credit: u32) -> Result<Subscription, BrokerError> {
        let source = self.0.source(from)?;
        let topology = self.0.declaring()?;
        if self.0.closing.is_cancelled() {
            return Err(BrokerError::Closed);
        }
        if matches!(from, Address::Reply(_)) {
            topology.ensure_reply(&source.full).await?;
        } else if let Some(holder) = source.held {
            topology.ensure_held(holder).await?;
        } else if topology.look(&source.full).await?.is_none()
            || (source.work.as_ref().is_some_and(|queue| !queue.foreign) && is_reserved(&source.short))
        {
            return Err(BrokerError::Misconfigured(format!(
                "there is no queue `{}`; queues known here: {}",
                source.short,
                self.0.known_names().join(", ")
            )));
        }
        if let Some(queue) = source.work.as_ref().filter(|queue| !queue.foreign) {
            self.0.listen_for_lanes();
            self.0.find_lanes(&queue.name).await;
        }
        let (out, deliveries) = mpsc::channel(READY);
        let (wheel, wishes) = wishes::pair(credit);
        let (ready, subscribed) = oneshot::channel();
        let feed = Feed {
            broker: Arc::clone(&self.0),
            source: Arc::new(source),
            credit,
            out: Some(out),
            wishes,
            state: self.0.consuming.clone(),
            ready: Some(ready),
            leaving: false,
        };
        self.0.feeds.spawn(feed.run());
        let subscription = Subscription::new(deliveries, Box::new(wheel));
        match timeout(ANSWER, subscribed).await {
            Ok(Ok(())) => Ok(subscription),
            Ok(Err(_)) => Err(BrokerError::Closed),
            Err(_) => Err(BrokerError::Unreachable("no answer to a subscribe within 10 s".to_owned())),
        }
    }

    fn settle(&self, delivery: Delivery, settlement: Settlement) -> Receipt {
        self.0.put(Some(delivery.without_home().tag), settlement)
    }

    fn keeps(&self) -> Keeps {
        Keeps::Copies
    }

    fn in_hand(&self, tag: &DeliveryTag) -> bool {
        self.0.tracker(tag.subscription).is_some()
    }

    async fn let_go(&self, delivery: Delivery) {
        self.0.let_go(&delivery.without_home().tag).await;
    }

    fn report(&self, lines: Vec<Bytes>) -> Receipt {
        self.0.put(None, Settlement { lines, ..Settlement::default() })
    }

    fn cast(&self, event: Event) {
        self.0.ring.push(event);
    }

    async fn listen(&self, topic: Topic) -> Result<Events, BrokerError> {
        let (out, heard) = mpsc::channel(1);
        let (ready, listening) = oneshot::channel();
        let listener = Listener {
            state: self.0.eventing.clone(),
            exchange: self.0.names.events(),
            topic,
            out,
            ready: Some(ready),
            stop: self.0.stop.clone(),
        };
        self.0.tasks.spawn(listener.run());
        match timeout(ANSWER, listening).await {
            Ok(Ok(())) => Ok(Events::new(heard)),
            Ok(Err(_)) => Err(BrokerError::Closed),
            Err(_) => Err(BrokerError::Unreachable("the broker did not take the listener within 10 s".to_owned())),
        }
    }

    fn link(&self) -> watch::Receiver<Link> {
        self.0.link.clone()
    }

    async fn stats(&self, queues: &[String]) -> Result<Vec<QueueStats>, BrokerError> {
        let queues = if queues.is_empty() { self.0.known_names() } else { queues.to_vec() };
        let topology = self.0.declaring()?;
        let mut all = Vec::with_capacity(queues.len());
        for queue in queues {
            all.extend(self.0.stats_of(&topology, &queue).await?);
        }
        Ok(all)
    }

    async fn objects(&self, queues: &[QueueSpec]) -> Result<Vec<BrokerObject>, BrokerError> {
        let seen = self.0.declaring()?.seen(self.0.settings.search, queues).await?;
        Ok(seen.into_iter().map(wanted::shown).collect())
    }

    async fn road(&self, of: &Address) -> Result<Option<QueueStats>, BrokerError> {
        let full = match of {
            Address::Results => self.0.names.results(),
            Address::Next => self.0.names.next(),
            _ => return Ok(None),
        };
        self.0.declaring()?.look(&full).await
    }

    async fn backlog(&self) -> Result<Backlog, BrokerError> {
        let results = self.0.declaring()?.look(&self.0.names.results()).await?;
        let packs = results.map_or(0, |queue| queue.ready);
        Ok(Backlog { packs, bytes: packs.saturating_mul(self.0.pack_size.mean()) })
    }

    async fn close(&self) -> usize {
        let end = Instant::now() + CLOSE;
        self.0.closing.cancel();
        self.0.sink.drain(end - FAREWELL).await;
        self.0.ending.cancel();
        self.0.feeds.close();
        if timeout_at(end - FAREWELL / 2, self.0.feeds.wait()).await.is_err() {
            tracing::warn!("Some subscriptions did not end in time; what they had in hand comes again.");
        }
        self.0.stop.cancel();
        self.0.tasks.close();
        if timeout_at(end, self.0.tasks.wait()).await.is_err() {
            tracing::warn!("Some tasks of the broker did not end in time.");
        }
        self.0.sink.unanswered()
    }
}

/// The holder that all of these go to.
fn one_holder(batch: &[Outgoing]) -> Option<Uuid> {
    let holder = |one: &Outgoing| match one.to {
        Address::Held { holder, .. } => Some(holder),
        _ => None,
    };
    let first = batch.first().and_then(holder)?;
    batch.iter().all(|one| holder(one) == Some(first)).then_some(first)
}

fn queue_of(to: &Address) -> String {
    match to {
        Address::Work(queue) | Address::Delayed { queue, .. } | Address::Reply(queue) | Address::Held { queue, .. } => {
            queue.clone()
        }
        Address::Results => "results".to_owned(),
        Address::Search => "search".to_owned(),
        Address::Dead => "dead".to_owned(),
        Address::Next => "next".to_owned(),
    }
}
