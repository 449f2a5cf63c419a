//! The held queues of a consumer: the one in use, and those before it that answered nothing.
//!
//! A server that is killed just after a queue was declared may keep its name and never answer on it
//! again. Owns when a queue is given up for a new one. Refuses to subscribe, and to know copies.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    sync::OnceCell,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::consumer::holders::Holders;

/// After one is left the next is, for as long as it answers nothing, left no sooner than after this; doubling...
const FIRST_PAUSE: Duration = Duration::from_secs(60);
/// ...up to here: a broker that is slow everywhere is not helped by new queues.
const LAST_PAUSE: Duration = Duration::from_secs(600);
/// So many are listened to, in case that they answer after all; the one before is left to expire.
const KEPT: usize = 4;

/// A held queue.
pub struct Place {
    /// Its name.
    pub holder: Uuid,
    /// Subscribed to, when first needed.
    pub open: OnceCell<()>,
    /// Nobody listens to it any more.
    pub stop: CancellationToken,
    /// A copy came from it.
    heard: Mutex<Option<Instant>>,
}

impl Place {
    fn new(holder: Uuid, stop: &CancellationToken) -> Arc<Self> {
        Arc::new(Self { holder, open: OnceCell::new(), stop: stop.child_token(), heard: Mutex::default() })
    }

    /// A copy came.
    pub fn answers(&self) {
        *lock(&self.heard) = Some(Instant::now());
    }

    fn is_silent_since(&self, since: Instant) -> bool {
        lock(&self.heard).is_none_or(|heard| heard < since)
    }
}

/// All that are listened to, the one in use last.
pub struct Places {
    holders: Arc<Holders>,
    stop: CancellationToken,
    all: Mutex<VecDeque<Arc<Place>>>,
    /// When one was left last, and how long the next is kept at least.
    left: Mutex<Option<(Instant, Duration)>>,
}

impl Places {
    /// One, under the consumer's first name.
    pub fn new(holders: Arc<Holders>, stop: CancellationToken) -> Self {
        let first = Place::new(holders.current(), &stop);
        Self { holders, stop, all: Mutex::new(VecDeque::from([first])), left: Mutex::default() }
    }

    /// The one in use.
    pub fn current(&self) -> Arc<Place> {
        let mut all = lock(&self.all);
        match all.back() {
            Some(place) => Arc::clone(place),
            None => self.add(&mut all),
        }
    }

    /// Nothing came from it since then: another one is used from now on. `false`: it does answer.
    pub fn leave(&self, place: &Arc<Place>, since: Instant) -> bool {
        let mut all = lock(&self.all);
        if all.back().is_some_and(|current| !Arc::ptr_eq(current, place)) {
            return true;
        }
        if !place.is_silent_since(since) {
            return false;
        }
        let mut left = lock(&self.left);
        let pause = match *left {
            Some((at, pause)) if at.elapsed() < pause => return false,
            // It answered for a while: what is silent now is another matter.
            Some((at, pause)) if place.is_silent_since(at) => (pause * 2).min(LAST_PAUSE),
            _ => FIRST_PAUSE,
        };
        *left = Some((Instant::now(), pause));
        let next = self.add(&mut all);
        tracing::warn!(
            silent = %place.holder, holder = %next.holder,
            "A held queue gives no answer; jobs are held in a new one from now on."
        );
        // One that was never subscribed to has nothing in it.
        all.retain(|one| one.open.initialized() || Arc::ptr_eq(one, &next));
        while all.len() > KEPT {
            if let Some(oldest) = all.pop_front() {
                oldest.stop.cancel();
            }
        }
        true
    }

    fn add(&self, all: &mut VecDeque<Arc<Place>>) -> Arc<Place> {
        let next = Place::new(Uuid::now_v7(), &self.stop);
        self.holders.take(next.holder);
        all.push_back(Arc::clone(&next));
        next
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
