//! One execution under the broker's eyes: when its delivery is held anew, and when it has passed
//! its probation. An execution that ends before that never comes here.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use spinor_executors::{Job, pool::AttemptKey};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit},
    time::{Duration, Instant, sleep_until, timeout},
};

use super::{
    ConsumerSettings,
    holding::{ARRIVE, Holding},
};
use crate::{
    broker::{AnyBroker, Broker, Keeps},
    message::{Past, Probation},
};

/// On probation for so long.
const PROBATION: Duration = Duration::from_secs(60);
/// A hold that failed is tried again after this long, if not earlier.
const RETRY: Duration = Duration::from_secs(10);

/// Keeps one running job.
pub struct Keeper<'a> {
    /// Whose consumer it is.
    pub settings: &'a ConsumerSettings,
    /// Where.
    pub broker: &'a AnyBroker,
    /// Its copies.
    pub holding: &'a Arc<Holding>,
    /// The attempt.
    pub key: AttemptKey,
    /// The job.
    pub job: &'a Job,
    /// Was it announced?
    pub journaled: bool,
    /// How it was started.
    pub past: Past,
    /// Its place, when it had to start alone.
    pub permit: Option<OwnedSemaphorePermit>,
    /// When.
    pub started: Instant,
    /// When it is held next.
    pub next: Instant,
}

impl Keeper<'_> {
    /// Runs the execution and keeps it meanwhile. At its end a copy that is under way is waited
    /// for, so that one delivery answers for the job.
    pub async fn during<T>(&mut self, run: impl Future<Output = T>, progressed: &Notify) -> T {
        tokio::pin!(run);
        loop {
            // A copy is under way.
            let busy = AtomicBool::new(false);
            let keep = self.keep(progressed, &busy);
            tokio::pin!(keep);
            tokio::select! {
                // The execution first: one that ends at once costs no timer.
                biased;
                end = &mut run => {
                    if busy.load(Ordering::Relaxed) {
                        let _ = timeout(ARRIVE, keep).await;
                    }
                    return end;
                }
                () = &mut keep => {}
            }
        }
    }

    /// Waits for the next reason to hold the job anew, and does. A step that ended is progress,
    /// and takes all charges away.
    async fn keep(&mut self, progressed: &Notify, busy: &AtomicBool) {
        let marked = matches!(self.past.probation, Some(Probation::Together | Probation::Alone));
        let charged = marked || self.past.crashes > 0 || self.past.returns > 0;
        let passes = self.started + PROBATION;
        let due = match self.broker.keeps() {
            Keeps::Copies if marked => Some(self.next.min(passes)),
            Keeps::Copies => Some(self.next),
            Keeps::Starts => marked.then_some(passes),
        };
        let waited = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = waited => if marked && Instant::now() >= passes {
                self.past.probation = Some(Probation::Passed);
            },
            () = progressed.notified(), if charged => {
                self.past = Past { probation: Some(Probation::Passed), ..Past::default() };
            }
        }
        busy.store(true, Ordering::Relaxed);
        self.tell().await;
        if self.past.probation == Some(Probation::Passed) {
            self.permit = None;
        }
    }

    async fn tell(&mut self) {
        let past = Past { probation: self.past.probation.or(Some(Probation::Passed)), ..self.past.clone() };
        let held = match self.broker.keeps() {
            Keeps::Starts => {
                self.holding.write_down(&self.key, &past);
                true
            }
            Keeps::Copies => {
                let copy = self.holding.copy(self.job, self.journaled, self.holding.is_claimed(&self.key), &past);
                self.holding.renew(self.key, &self.job.queue, copy).await
            }
        };
        let after = if held { self.settings.hold_after } else { self.settings.hold_after.min(RETRY) };
        self.next = Instant::now() + after;
    }
}
