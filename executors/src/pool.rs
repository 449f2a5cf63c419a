//! The pool: N slots that run executions, and what runs in them right now.
//!
//! Owns the slots, the deadline, the panic guard and the list of running executions. Refuses to
//! know where work comes from and where outcomes go: a [`Work`] hands jobs out and takes answers
//! back. A slot is free when its execution ends, not when its report is confirmed.

use std::{
    collections::HashMap,
    future::Future,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::{Cancelled, Canceller, Cause, Context, Executor, Failure, Job, Outcome, Timeout};

/// Where a slot gets its work, and all that is done with it.
pub trait Work: Send + Sync + 'static {
    /// What a slot takes.
    type Item: Send;

    /// The next piece of work; `None` when there will be none. Must be cancel-safe.
    fn next(&self) -> impl Future<Output = Option<Self::Item>> + Send;

    /// Does it, from decoding to settling. Panics in an executor are caught below this.
    fn perform(&self, item: Self::Item) -> impl Future<Output = ()> + Send;
}

/// Starts `slots` slots on `tracker`; each ends when the work does.
pub fn start<W: Work>(work: &Arc<W>, slots: usize, tracker: &TaskTracker) {
    for _ in 0..slots {
        let work = Arc::clone(work);
        tracker.spawn(async move {
            while let Some(item) = work.next().await {
                work.perform(item).await;
                // Work that never waits must still let the broker's tasks have their turn.
                tokio::task::consume_budget().await;
            }
        });
    }
}

/// Runs one job once under its limits: asked to end at the soft one, given up at the hard one.
/// What an executor started ends when its future is dropped, so giving up leaves nothing behind.
pub async fn execute(executor: &dyn Executor, job: &Job, context: &Context, limits: Option<Timeout>) -> Outcome {
    let guarded = AssertUnwindSafe(executor.run(job, context)).catch_unwind();
    let caught = match limits {
        None => guarded.await,
        Some(limits) => match within(guarded, context, limits).await {
            Some(caught) => caught,
            None => return timed_out(limits),
        },
    };
    match caught {
        Ok(outcome) => settle_cancelled(outcome, context, limits),
        Err(panic) => Outcome::Failed(Failure {
            cause: Cause::Panic,
            message: format!("the executor panicked: {}", word(&*panic)),
        }),
    }
}

async fn within<T>(run: impl Future<Output = T>, context: &Context, limits: Timeout) -> Option<T> {
    tokio::pin!(run);
    if let Ok(end) = tokio::time::timeout(limits.soft, &mut run).await {
        return Some(end);
    }
    context.canceller().cancel(Cancelled::Timeout);
    // The executor gets until the hard limit, and its own soft-to-hard time to end what it started.
    let rest = limits.hard.saturating_sub(limits.soft).max(context.soft_to_hard) + context.soft_to_hard;
    tokio::time::timeout(rest, run).await.ok()
}

/// An executor that ended because it was asked to is reported by the reason it was asked for.
fn settle_cancelled(outcome: Outcome, context: &Context, limits: Option<Timeout>) -> Outcome {
    match (context.why_cancelled(), outcome) {
        (None, outcome) | (_, outcome @ Outcome::Succeeded(_)) => outcome,
        (Some(Cancelled::Timeout), outcome) => match limits {
            Some(limits) => {
                let mut told = timed_out(limits);
                if let (Outcome::Failed(told), Outcome::Failed(own)) = (&mut told, outcome) {
                    told.message = format!("{} ({})", told.message, own.message);
                }
                told
            }
            None => outcome,
        },
        (Some(Cancelled::Person(who)), _) => {
            Outcome::Failed(Failure { cause: Cause::Cancelled, message: format!("cancelled: {who}") })
        }
        (Some(Cancelled::Drain), _) => {
            Outcome::Failed(Failure { cause: Cause::Interrupted, message: "the consumer is stopping".to_owned() })
        }
    }
}

fn timed_out(limits: Timeout) -> Outcome {
    let (soft, hard) = (limits.soft.as_secs_f64(), limits.hard.as_secs_f64());
    let message = if soft < hard {
        format!("ran out of time: it is asked to end after {soft} s, and ended after {hard} s")
    } else {
        format!("ended after its limit of {soft} s")
    };
    Outcome::Failed(Failure { cause: Cause::Timeout, message })
}

fn word(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

/// A job's identity at one attempt: what a redelivery has in common with what it repeats.
pub type AttemptKey = (Uuid, u32, u32);

/// What runs now, by attempt. Shared by slots (which add and remove) and whoever cancels or drains.
#[derive(Default)]
pub struct Running<D> {
    entries: Mutex<HashMap<AttemptKey, Entry<D>>>,
    count: AtomicUsize,
}

struct Entry<D> {
    duty: D,
    canceller: Canceller,
    since: Instant,
}

impl<D> Running<D> {
    /// Nothing runs.
    pub fn new() -> Self {
        Self { entries: Mutex::new(HashMap::new()), count: AtomicUsize::new(0) }
    }

    /// An execution starts; its duty (the delivery) waits here until it ends. If that attempt
    /// runs already, the duty comes back.
    pub fn start(&self, key: AttemptKey, duty: D, canceller: Canceller) -> Result<(), D> {
        match self.lock().entry(key) {
            std::collections::hash_map::Entry::Occupied(_) => Err(duty),
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(Entry { duty, canceller, since: Instant::now() });
                self.count.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
        }
    }

    /// An execution ended; gives its duty back.
    pub fn end(&self, key: &AttemptKey) -> Option<D> {
        let entry = self.lock().remove(key)?;
        self.count.fetch_sub(1, Ordering::Relaxed);
        Some(entry.duty)
    }

    /// A newer duty for a running attempt takes the older one's place, which comes back. `Err`
    /// when that attempt does not run.
    pub fn replace(&self, key: &AttemptKey, duty: D) -> Result<D, D> {
        match self.lock().get_mut(key) {
            Some(entry) => Ok(std::mem::replace(&mut entry.duty, duty)),
            None => Err(duty),
        }
    }

    /// Looks at the duty of a running attempt; `None` when it does not run.
    pub fn look<T>(&self, key: &AttemptKey, with: impl FnOnce(&D) -> T) -> Option<T> {
        self.lock().get(key).map(|entry| with(&entry.duty))
    }

    /// Asks every running execution to end.
    pub fn cancel_all(&self, why: &Cancelled) {
        for entry in self.lock().values() {
            entry.canceller.cancel(why.clone());
        }
    }

    /// Asks each to end for which there is a reason.
    pub fn cancel_where(&self, why: impl Fn(&AttemptKey, &D) -> Option<Cancelled>) {
        for (key, entry) in self.lock().iter() {
            if let Some(why) = why(key, &entry.duty) {
                entry.canceller.cancel(why);
            }
        }
    }

    /// Up to so many of what runs, with how long each has.
    pub fn list<T>(&self, limit: usize, with: impl Fn(&AttemptKey, &D, Duration) -> T) -> Vec<T> {
        self.lock().iter().take(limit).map(|(key, entry)| with(key, &entry.duty, entry.since.elapsed())).collect()
    }

    /// How many run.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AttemptKey, Entry<D>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::{BoxFuture, Json};

    struct Act(fn(&Context) -> BoxFuture<'_, Outcome>);

    impl Executor for Act {
        fn run<'a>(&'a self, _: &'a Job, context: &'a Context) -> BoxFuture<'a, Outcome> {
            (self.0)(context)
        }
    }

    async fn run(act: Act, limits: Option<Timeout>) -> Outcome {
        let mut context = Context::new(Uuid::now_v7(), None);
        context.soft_to_hard = Duration::from_secs(1);
        execute(&act, &Job::new("k", "q", Json::null()), &context, limits).await
    }

    const LIMITS: Option<Timeout> = Some(Timeout { soft: Duration::from_secs(5), hard: Duration::from_secs(6) });

    fn cause(outcome: &Outcome) -> Option<Cause> {
        match outcome {
            Outcome::Failed(failure) => Some(failure.cause),
            _ => None,
        }
    }

    #[tokio::test]
    async fn a_panic_is_a_failure_and_says_what_it_said() {
        let outcome = run(Act(|_| Box::pin(async { panic!("no such image") })), None).await;
        assert!(matches!(&outcome, Outcome::Failed(failure) if failure.message.contains("no such image")));
        assert_eq!(cause(&outcome), Some(Cause::Panic));
    }

    #[tokio::test(start_paused = true)]
    async fn an_executor_that_heeds_the_soft_limit_is_reported_as_timed_out() {
        let outcome = run(
            Act(|context| {
                Box::pin(async {
                    context.cancelled().await;
                    Outcome::failed("stopped")
                })
            }),
            LIMITS,
        )
        .await;
        let Outcome::Failed(Failure { cause: Cause::Timeout, message }) = outcome else { panic!("{outcome:?}") };
        assert!(message.contains("after 5 s") && message.contains("after 6 s"), "both limits are named: {message}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_executor_that_heeds_nothing_is_given_up() {
        static DROPPED: AtomicBool = AtomicBool::new(false);
        struct Witness;
        impl Drop for Witness {
            fn drop(&mut self) {
                DROPPED.store(true, Ordering::SeqCst);
            }
        }
        let outcome = run(
            Act(|_| {
                Box::pin(async {
                    let _witness = Witness;
                    std::future::pending().await
                })
            }),
            LIMITS,
        )
        .await;
        assert_eq!(cause(&outcome), Some(Cause::Timeout));
        assert!(DROPPED.load(Ordering::SeqCst));
    }

    #[test]
    fn a_redelivery_takes_the_place_of_what_runs() {
        let running = Running::new();
        let canceller = Context::new(Uuid::now_v7(), None).canceller();
        let key = (Uuid::now_v7(), 0, 1);
        assert!(running.replace(&key, "early").is_err());
        assert!(running.start(key, "first", canceller.clone()).is_ok());
        assert_eq!(running.start(key, "forked", canceller), Err("forked"));
        assert_eq!(running.replace(&key, "second"), Ok("first"));
        assert_eq!((running.count(), running.end(&key)), (1, Some("second")));
        assert_eq!((running.count(), running.end(&key)), (0, None));
    }
}
