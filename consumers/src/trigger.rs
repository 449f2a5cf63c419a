//! The part `trigger`: fires what follows, after a job or at a time.
//!
//! [`Ticker`] is the clock: one process leads, and fires the instants of triggers; [`Delays`] publishes delayed
//! jobs there. The rest follows jobs.
//! Owns the loop over `spinor.next`: what was said is stored in one transaction, what is due after it is
//! published, then marked as published, then the messages are acked. A look at what is overdue does what
//! another one left undone, so any number of them may run. Refuses to know how a job runs and what is on
//! record.

mod args;
mod delayed;
mod each;
mod fan_out;
mod fire;
mod looking;
mod tick;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    blobs::Blobs,
    broker::{Address, Broker, BrokerError, Delivery, Settlement, Subscription, Verdict},
    consumer::{verdict, wish_text},
    marks::Marks,
    next::Next,
    results::{Followed, Results, ResultsError},
    state::Subject,
};

pub use args::{check as check_args, has_words};
pub use delayed::{Delays, tell_cancelled};
pub use fan_out::{Asked, FAN_OUT_KIND, FanOut, ItemSource};
pub use tick::Ticker;

/// Messages in hand at most.
const CREDIT: u32 = 1000;
/// Messages to a transaction.
const BATCH: usize = 500;
/// What is overdue is looked for this often.
const SWEEP: Duration = Duration::from_secs(1);
/// The first wait for a database or a broker that does not answer, and the longest.
const WAITS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

/// Drives runs of jobs until told to stop.
pub struct Trigger<B> {
    broker: B,
    results: Results,
    blobs: Blobs,
    marks: Arc<Marks>,
    /// The database does not answer.
    away: Said,
    /// What is due could not be published.
    unsent: Said,
}

/// A trouble of which is said when it begins and when it is over, and nothing in between.
#[derive(Debug, Default)]
struct Said(AtomicBool);

impl Said {
    fn begins(&self) -> bool {
        !self.0.swap(true, Ordering::Relaxed)
    }

    fn is_over(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

/// It was told to stop while the database was down.
struct Stopped;

impl<B: Broker> Trigger<B> {
    /// Follows what `broker` brings, with its tables in `results`.
    pub fn new(broker: B, results: Results, blobs: Blobs, marks: Arc<Marks>) -> Self {
        Self { broker, results, blobs, marks, away: Said::default(), unsent: Said::default() }
    }

    /// Follows until `stop`. Ends early with an error when the broker was closed or refuses the queue for good.
    pub async fn run(self, stop: CancellationToken) -> Result<(), BrokerError> {
        let mut wait = WAITS.0;
        loop {
            match self.broker.consume(&Address::Next, CREDIT).await {
                Ok(subscription) => {
                    self.follow(subscription, &stop).await;
                    return if stop.is_cancelled() { Ok(()) } else { Err(BrokerError::Closed) };
                }
                Err(BrokerError::Unreachable(_)) => {
                    if stop.run_until_cancelled(sleep(wait)).await.is_none() {
                        return Ok(());
                    }
                    wait = (wait * 2).min(WAITS.1);
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn follow(&self, mut subscription: Subscription, stop: &CancellationToken) {
        let mut arrivals = Vec::with_capacity(BATCH);
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                _ = sweep.tick() => self.sweep().await,
                count = subscription.next_many(&mut arrivals, BATCH) => {
                    if count == 0 || self.take(std::mem::take(&mut arrivals), stop).await.is_err() {
                        break;
                    }
                }
            }
        }
        // What is on its way goes back.
        if subscription.cancel().await.is_ok() {
            while let Some(delivery) = subscription.next().await {
                self.answer(vec![delivery], Verdict::HandBack);
            }
        }
    }

    /// Does what somebody left undone.
    async fn sweep(&self) {
        match self.results.overdue().await {
            Ok(followed) => {
                self.answers();
                self.fire(followed).await;
            }
            Err(error) => self.is_away(&error),
        }
    }

    fn is_away(&self, error: &ResultsError) {
        if self.away.begins() {
            tracing::warn!(%error, "Runs wait: the database with what is to follow does not answer; the ends of jobs stay in their queue.");
        }
    }

    fn answers(&self) {
        if self.away.is_over() {
            tracing::info!("Runs go on: the database with what is to follow answers again.");
        }
    }

    /// Stores what these say, does what follows, and acks them.
    async fn take(&self, deliveries: Vec<Delivery>, stop: &CancellationToken) -> Result<(), Stopped> {
        let (mut said, mut good) = (Vec::new(), Vec::new());
        for delivery in deliveries {
            match Next::read(&delivery.message) {
                Ok(next) => {
                    said.push(next);
                    good.push(delivery);
                }
                Err(why) => self.bury(delivery, &why),
            }
        }
        if said.is_empty() {
            return Ok(());
        }
        match self.insist(&said, stop).await {
            Ok(Ok(followed)) => self.fire(followed).await,
            Ok(Err(_)) if said.len() > 1 => {
                // One of them is to blame, and its neighbours shall not pay.
                for (next, delivery) in said.iter().zip(good) {
                    Box::pin(self.take_one(next, delivery, stop)).await?;
                }
                return Ok(());
            }
            Ok(Err(why)) => {
                good.drain(..).for_each(|delivery| self.bury(delivery, &why));
            }
            Err(stopped) => {
                self.answer(good, Verdict::HandBack);
                return Err(stopped);
            }
        }
        self.answer(good, Verdict::Ack);
        Ok(())
    }

    async fn take_one(&self, next: &Next, delivery: Delivery, stop: &CancellationToken) -> Result<(), Stopped> {
        match self.insist(std::slice::from_ref(next), stop).await {
            Ok(Ok(followed)) => self.fire(followed).await,
            Ok(Err(why)) => {
                self.bury(delivery, &why);
                return Ok(());
            }
            Err(stopped) => {
                self.answer(vec![delivery], Verdict::HandBack);
                return Err(stopped);
            }
        }
        self.answer(vec![delivery], Verdict::Ack);
        Ok(())
    }

    /// Tries until the database answers; the inner error is a refusal of the content.
    async fn insist(&self, said: &[Next], stop: &CancellationToken) -> Result<Result<Followed, String>, Stopped> {
        let cancelled = |run: Uuid| {
            let mark = self.marks.get(&Subject::CancelRun(run))?;
            Some(wish_text(&mark))
        };
        let mut wait = WAITS.0;
        loop {
            match self.results.follow(said, &cancelled).await {
                Ok(followed) => {
                    self.answers();
                    return Ok(Ok(followed));
                }
                Err(ResultsError::Refused(why)) => return Ok(Err(why)),
                Err(error) => self.is_away(&error),
            }
            stop.run_until_cancelled(sleep(wait)).await.ok_or(Stopped)?;
            wait = (wait * 2).min(WAITS.1);
        }
    }

    fn answer(&self, deliveries: Vec<Delivery>, verdict: Verdict) {
        for delivery in deliveries {
            // An ack that gets lost brings the message again, which is harmless.
            drop(self.broker.settle(delivery, Settlement { verdict, ..Settlement::default() }));
        }
    }

    fn bury(&self, delivery: Delivery, why: &str) {
        tracing::error!(why, "A message on the way to the part `trigger` became a dead letter.");
        let letter = verdict::dead_letter(delivery.message.clone(), "next", why, "trigger");
        drop(self.broker.settle(delivery, Settlement { publish: vec![letter], ..Settlement::default() }));
    }
}
