//! What this consumer holds: copies of its running jobs in a queue of its own, so that the broker
//! never waits too long for an answer and knows how each one was started.
//!
//! To hold is: publish the copy, receive it, let the old delivery go. Owns that queue's
//! subscription, made when first needed, and the one place for a job that must start alone.
//! A queue that gives no answer is left for a new one (`places`). Refuses to judge a job: that is
//! `past`'s, and the slot's.

mod places;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use spinor_executors::{
    HeaderValue, Job,
    pool::{AttemptKey, Running},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::{Duration, Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    holders::Holders,
    intake::{Intake, give_back},
};
use crate::{
    broker::{Address, AnyBroker, Broker, Delivery, Link, Outgoing, Subscription},
    message::{self, Message, Past, header},
};
use places::{Place, Places};

/// A copy that is not here by then is not waited for.
pub const ARRIVE: Duration = Duration::from_secs(5);
/// The place of one that starts alone is waited for so long, if it was taken only so long ago.
const QUICK: Duration = Duration::from_secs(1);
/// At most so many copies are in hand.
const CREDIT: u32 = 5000;

/// Why a copy did not come.
enum Failed {
    /// Its queue gave no answer; there is a new one.
    Silent,
    /// Whatever it is, it may be over later.
    NotNow,
}

/// What this consumer holds.
pub struct Holding {
    /// Which consumer this is, until its process ends.
    pub holders: Arc<Holders>,
    /// Its name.
    name: String,
    broker: AnyBroker,
    running: Arc<Running<Delivery>>,
    intake: Arc<Intake>,
    awaited: Mutex<HashMap<AttemptKey, oneshot::Sender<Delivery>>>,
    places: Places,
    alone: Arc<Semaphore>,
    alone_since: Mutex<Instant>,
    /// The subscriptions' tasks; they outlive the intake.
    tasks: TaskTracker,
}

impl Holding {
    /// Nothing is held yet, and no queue is made.
    pub fn new(
        name: String,
        broker: AnyBroker,
        running: Arc<Running<Delivery>>,
        intake: Arc<Intake>,
        (tasks, stop): (TaskTracker, CancellationToken),
    ) -> Self {
        let holders = Arc::clone(intake.holders());
        Self {
            places: Places::new(Arc::clone(&holders), stop),
            holders,
            name,
            broker,
            running,
            intake,
            awaited: Mutex::default(),
            alone: Arc::new(Semaphore::new(1)),
            alone_since: Mutex::new(Instant::now()),
            tasks,
        }
    }

    /// The place for the one that starts alone; none when it is taken by one that takes its time.
    pub async fn alone(&self) -> Option<OwnedSemaphorePermit> {
        let place = Arc::clone(&self.alone);
        let permit = match Arc::clone(&place).try_acquire_owned() {
            Ok(permit) => permit,
            // Many short ones follow each other quickly.
            Err(_) if self.alone_since().elapsed() < QUICK => timeout(QUICK, place.acquire_owned()).await.ok()?.ok()?,
            Err(_) => return None,
        };
        *self.alone_since() = Instant::now();
        Some(permit)
    }

    fn alone_since(&self) -> MutexGuard<'_, Instant> {
        self.alone_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves a job that has not started to this consumer's queue; the delivery that answers for it
    /// from now on, which is the old one when the copy did not come.
    pub async fn hold(self: &Arc<Self>, key: AttemptKey, delivery: Delivery, copy: Message) -> Delivery {
        // One whose link is gone comes again by itself; a copy would make two of it.
        if !self.broker.in_hand(&delivery.tag) {
            return delivery;
        }
        let mut newer = self.fetch(key, &delivery.queue, copy.clone()).await;
        // Its link may have gone meanwhile, see above.
        if matches!(newer, Err(Failed::Silent)) && self.broker.in_hand(&delivery.tag) {
            newer = self.fetch(key, &delivery.queue, copy).await;
        }
        match newer {
            Ok(newer) => {
                self.broker.let_go(delivery).await;
                newer
            }
            Err(_) => delivery,
        }
    }

    /// Holds a running job anew, so that the broker's clock starts again; `false`: not now.
    pub async fn renew(self: &Arc<Self>, key: AttemptKey, queue: &str, copy: Message) -> bool {
        // A delivery whose link is gone comes again by itself; a copy would make two of it.
        if !self.running.look(&key, |delivery| self.broker.in_hand(&delivery.tag)).unwrap_or(false) {
            return false;
        }
        let Ok(newer) = self.fetch(key, queue, copy).await else { return false };
        self.take(newer);
        tracing::debug!(job = %key.0, "A running job is held anew.");
        true
    }

    /// The copy of a job, with how it is held.
    pub fn copy(&self, job: &Job, journaled: bool, claimed: bool, past: &Past) -> Message {
        let mut copy = message::encode(job, journaled);
        let headers = &mut copy.properties.headers;
        if claimed {
            headers.insert(header::CLAIM.to_owned(), HeaderValue::Bool(true));
        }
        Past { holder: Some(self.holders.current()), held_by: Some(self.name.clone()), ..past.clone() }.write(headers);
        copy
    }

    /// May the running job be one copy of several?
    pub fn is_claimed(&self, key: &AttemptKey) -> bool {
        let claimed = |delivery: &Delivery| delivery.message.properties.headers.contains_key(header::CLAIM);
        self.running.look(key, claimed).unwrap_or(false)
    }

    /// Where the broker keeps starts: the running job goes on with another past.
    pub fn write_down(&self, key: &AttemptKey, past: &Past) {
        self.running.look(key, |delivery| self.broker.starting(delivery, past));
    }

    async fn fetch(self: &Arc<Self>, key: AttemptKey, queue: &str, copy: Message) -> Result<Delivery, Failed> {
        let (place, began) = (self.places.current(), Instant::now());
        let (send, mut arrived) = oneshot::channel();
        let publish = async {
            place.open.get_or_try_init(|| self.subscribe(&place)).await.map_err(|error| error.to_string())?;
            self.awaited().insert(key, send);
            let to = Address::Held { holder: place.holder, queue: queue.to_owned() };
            let sent = self.broker.publish(vec![Outgoing { to, message: copy, must: true }]).await;
            sent.into_iter().collect::<Result<(), _>>().map_err(|error| error.to_string())?;
            (&mut arrived).await.map_err(|error| error.to_string())
        };
        let ended = timeout(ARRIVE, publish).await;
        self.awaited().remove(&key);
        let (why, silent) = match ended {
            Ok(Ok(delivery)) => return Ok(delivery),
            Ok(Err(why)) => (why, false),
            Err(_) => ("it did not come back in time".to_owned(), true),
        };
        // It may have come between the end of the wait and the look away.
        arrived.close();
        if let Ok(delivery) = arrived.try_recv() {
            return Ok(delivery);
        }
        tracing::warn!(job = %key.0, why, "A job could not be held; it is tried again while it runs.");
        let up = matches!(*self.broker.link().borrow(), Link::Up);
        Err(if silent && up && self.places.leave(&place, began) { Failed::Silent } else { Failed::NotNow })
    }

    async fn subscribe(self: &Arc<Self>, place: &Arc<Place>) -> Result<(), crate::broker::BrokerError> {
        let from = Address::Held { holder: place.holder, queue: String::new() };
        let subscription = self.broker.consume(&from, CREDIT).await?;
        self.tasks.spawn(Arc::clone(self).receive(subscription, Arc::clone(place)));
        Ok(())
    }

    /// Hands each copy to whoever waits for it, or to the execution it is of.
    async fn receive(self: Arc<Self>, mut subscription: Subscription, place: Arc<Place>) {
        loop {
            let delivery = tokio::select! {
                delivery = subscription.next() => delivery,
                () = place.stop.cancelled() => break,
            };
            let Some(delivery) = delivery else { return };
            place.answers();
            match message::decode(&delivery.message, &delivery.queue, None, Timestamp::now()) {
                Ok(decoded) => {
                    let job = decoded.job;
                    self.arrived((job.id, job.replay, job.attempt), delivery);
                }
                // The slots bury what is no job.
                Err(_) => self.intake.arrive(&self.broker, &mut vec![delivery]),
            }
        }
        if subscription.cancel().await.is_ok() {
            while let Some(delivery) = subscription.next().await {
                give_back(&self.broker, &self.holders, delivery);
            }
        }
    }

    fn arrived(&self, key: AttemptKey, delivery: Delivery) {
        let awaited = self.awaited().remove(&key);
        match awaited {
            Some(awaited) => {
                if let Err(delivery) = awaited.send(delivery) {
                    self.take(delivery);
                }
            }
            None => self.take(delivery),
        }
    }

    /// The newer delivery answers for a running job; one that does not run waits for a slot.
    fn take(&self, newer: Delivery) {
        if let Some(newer) = self.intake.unless_running(&self.broker, newer) {
            self.intake.arrive(&self.broker, &mut vec![newer]);
        }
    }

    fn awaited(&self) -> MutexGuard<'_, HashMap<AttemptKey, oneshot::Sender<Delivery>>> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
