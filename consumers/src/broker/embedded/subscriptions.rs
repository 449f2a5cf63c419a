//! Who consumes what, what they have in hand, and whose turn it is.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::{mpsc, oneshot};

use super::{
    families::Family,
    inbox::{Inbox, Op},
    queue::{Queue, Ready},
    store,
};
use crate::broker::{Delivery, DeliveryTag, Home, PriorityLane, Steer, Subscription, Verdict};

/// A credit is never more than this: the room of a subscription's channel.
const MAX_CREDIT: u32 = 1 << 16;

/// Never the same twice in a process, so that a delivery of a closed broker is not taken for one
/// of its successor's.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// One subscription.
#[derive(Debug)]
pub(super) struct Subscriber {
    pub(super) queue: u64,
    credit: u32,
    /// The numbers of what is out and not answered.
    hand: HashSet<u64>,
    /// Gone once cancelled; what is in hand can still be answered.
    stream: Option<mpsc::Sender<Delivery>>,
    /// What its deliveries fall back on.
    home: Arc<Wheel>,
}

impl Subscriber {
    /// How many more may go out, `freed` answers from now.
    pub(super) fn free(&self, freed: usize) -> usize {
        if self.stream.is_none() {
            return 0;
        }
        (self.credit as usize).saturating_sub(self.hand.len().saturating_sub(freed))
    }
}

/// All subscriptions.
#[derive(Debug, Default)]
pub(super) struct Subscribers(HashMap<u64, Subscriber>);

impl Subscribers {
    /// A new one on a queue, and its number.
    pub(super) fn add(&mut self, queue: &mut Queue, credit: u32, inbox: &Arc<Inbox>) -> (u64, Subscription) {
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let (stream, deliveries) = mpsc::channel(MAX_CREDIT as usize);
        let credit = credit.min(MAX_CREDIT);
        queue.subscriptions.push(id);
        let wheel = Wheel { id, inbox: Arc::clone(inbox) };
        let home = Arc::new(wheel.clone());
        self.0.insert(id, Subscriber { queue: queue.id, credit, hand: HashSet::new(), stream: Some(stream), home });
        (id, Subscription::new(deliveries, Box::new(wheel)))
    }

    pub(super) fn get(&self, id: u64) -> Option<&Subscriber> {
        self.0.get(&id)
    }

    pub(super) fn credit(&mut self, id: u64, credit: u32) {
        if let Some(subscriber) = self.0.get_mut(&id) {
            subscriber.credit = credit.min(MAX_CREDIT);
        }
    }

    /// Ends the flow; the queue it was on, when it was still flowing.
    pub(super) fn cancel(&mut self, id: u64) -> Option<u64> {
        let subscriber = self.0.get_mut(&id)?;
        subscriber.stream.take()?;
        let queue = subscriber.queue;
        self.forget_if_done(id);
        Some(queue)
    }

    /// The queue of a delivery that is in hand.
    pub(super) fn holds(&self, tag: &DeliveryTag) -> Option<u64> {
        let subscriber = self.0.get(&tag.subscription)?;
        subscriber.hand.contains(&tag.number).then(|| queue_of(subscriber.queue, tag.number))
    }

    /// Out of the hand; the queue it is of.
    pub(super) fn release(&mut self, tag: &DeliveryTag) -> Option<u64> {
        let subscriber = self.0.get_mut(&tag.subscription)?;
        if !subscriber.hand.remove(&tag.number) {
            return None;
        }
        let queue = queue_of(subscriber.queue, tag.number);
        self.forget_if_done(tag.subscription);
        Some(queue)
    }

    fn forget_if_done(&mut self, id: u64) {
        if self.0.get(&id).is_some_and(|subscriber| subscriber.stream.is_none() && subscriber.hand.is_empty()) {
            self.0.remove(&id);
        }
    }

    /// Sends what a queue has to those with credit, in turns.
    pub(super) fn dispatch(&mut self, queue: &mut Queue) {
        let mut passed = 0;
        while passed < queue.subscriptions.len() {
            queue.turn = (queue.turn + 1) % queue.subscriptions.len();
            let id = queue.subscriptions[queue.turn];
            let Some(subscriber) = self.0.get_mut(&id).filter(|subscriber| subscriber.free(0) > 0) else {
                passed += 1;
                continue;
            };
            let Some(ready) = queue.pop() else { return };
            if subscriber.send(id, queue, ready) {
                passed = 0;
            } else {
                passed += 1;
            }
        }
    }

    /// The same for a queue with lanes: whose turn it is among those with credit, and which lane's
    /// among those that have something.
    pub(super) fn dispatch_lanes(&mut self, queues: &mut BTreeMap<u64, Queue>, family: &mut Family) {
        let mut passed = 0;
        loop {
            let Some(normal) = queues.get_mut(&family.normal()).filter(|queue| passed < queue.subscriptions.len())
            else {
                return;
            };
            normal.turn = (normal.turn + 1) % normal.subscriptions.len();
            let id = normal.subscriptions[normal.turn];
            let Some(subscriber) = self.0.get_mut(&id).filter(|subscriber| subscriber.free(0) > 0) else {
                passed += 1;
                continue;
            };
            let ready =
                |lane: &PriorityLane| family.lane(*lane).and_then(|id| queues.get(&id)).is_some_and(Queue::deliverable);
            let ready: Vec<PriorityLane> = PriorityLane::ALL.into_iter().filter(ready).collect();
            let Some(lane) = family.turns.next(ready.into_iter()) else { return };
            let Some(queue) = family.lane(lane).and_then(|id| queues.get_mut(&id)) else { return };
            let Some(ready) = queue.pop() else { return };
            if subscriber.send(id, queue, ready) {
                passed = 0;
            } else {
                passed += 1;
            }
        }
    }
}

/// The number of a delivery. Lanes count each for itself, so the number says the queue too; the
/// queue of a reply does not fit, and has no lanes.
fn number(queue: &Queue, sequence: u64) -> u64 {
    if queue.durable() { store::number(queue.id, sequence) } else { sequence }
}

/// The queue of a number, on a subscription of this one.
const fn queue_of(subscribed: u64, number: u64) -> u64 {
    let (queue, _) = store::place(number);
    if queue == 0 { subscribed } else { queue }
}

impl Subscriber {
    fn send(&mut self, id: u64, queue: &mut Queue, ready: Ready) -> bool {
        let Some(stream) = &self.stream else { return false };
        let Ready { sequence, message, redelivered, started } = ready;
        let tag = DeliveryTag { subscription: id, number: number(queue, sequence) };
        let home: Arc<dyn Home> = Arc::<Wheel>::clone(&self.home);
        let mut delivery = Delivery::new(message, queue.name.clone(), redelivered, tag, home);
        delivery.started = started;
        match stream.try_send(delivery) {
            Ok(()) => {
                self.hand.insert(tag.number);
                queue.in_hand += 1;
                true
            }
            // Dropped a moment ago: it was never in hand, and the notice of it is on its way.
            Err(mpsc::error::TrySendError::Closed(delivery) | mpsc::error::TrySendError::Full(delivery)) => {
                queue.give_back(untaken(delivery));
                self.credit = 0;
                false
            }
        }
    }
}

/// The message of a delivery that nobody took, as it was.
pub(super) fn untaken(delivery: Delivery) -> Ready {
    let redelivered = delivery.redelivered;
    Ready { redelivered, ..returned(delivery) }
}

/// The message of a delivery that was in hand.
pub(super) fn returned(delivery: Delivery) -> Ready {
    let mut delivery = delivery.without_home();
    let message = std::mem::take(&mut delivery.message);
    let (_, sequence) = store::place(delivery.tag.number);
    Ready { sequence, message, redelivered: true, started: delivery.started }
}

/// What a subscription and its deliveries hold of their broker.
#[derive(Clone, Debug)]
struct Wheel {
    id: u64,
    inbox: Arc<Inbox>,
}

impl Wheel {
    fn push(&self, op: Op) {
        // Refused by a closed broker: then nothing flows anyway, and who waits for an answer sees it dropped.
        drop(self.inbox.push(op));
    }
}

impl Steer for Wheel {
    fn credit(&self, credit: u32) {
        self.push(Op::Credit { subscription: self.id, credit });
    }

    fn cancel(&self, done: oneshot::Sender<()>) {
        self.push(Op::Cancel { subscription: self.id, done });
    }

    fn dropped(&self, left: Vec<Delivery>) {
        let left = left.into_iter().map(Delivery::without_home).collect();
        self.push(Op::Dropped { subscription: self.id, left });
    }
}

impl Home for Wheel {
    fn take_back(&self, delivery: Delivery) {
        let (done, _) = oneshot::channel();
        let (lines, parcels) = (Vec::new(), Vec::new());
        self.push(Op::Settle { delivery: Box::new(delivery), lines, parcels, verdict: Verdict::HandBack, done });
    }
}
