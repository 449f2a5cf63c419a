//! What a job needs everybody's agreement for: that nobody cancelled it, a place under its limits,
//! and, for what could be a copy, the claim of its attempt.
//!
//! Owns the order of these questions and what their answers mean. A job that needs none of them
//! pays one look at a flag. Refuses to run without an answer what must not run without one.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use spinor_executors::{Cause, HeaderValue, Job, State as JobState, pool::AttemptKey};
use tokio::time::{Duration, Instant, sleep, sleep_until, timeout};
use uuid::Uuid;

use super::{LOOK_UP, NO_LOOK, Reason, Slots};
use crate::{
    broker::{Backlog, Broker, Delivery, Settlement, Verdict},
    consumer::{
        permits::{LEASE, Permit},
        verdict,
    },
    message::header,
    planted::{Fault, planted},
    state::{Admission, CLAIM_KEPT, Claimed, LOST, Limit, Mark, State, StateError, ended, ended_of},
    trigger::FAN_OUT_KIND,
};

/// How long a job over a limit stays away, by how often it came in vain.
const AWAY: [u64; 6] = [1, 1, 5, 5, 5, 15];
/// No longer than this, whatever the limit says: it may be raised meanwhile.
const LONGEST: Duration = Duration::from_secs(15);
/// At most one job over a limit goes back each such time: they shall not fill the broker with copies.
const PACE: Duration = Duration::from_millis(5);
/// An at-most-once job that may have run is lost after this long without a report.
const DOUBT: Duration = Duration::from_secs(15);
/// The same of one that is known to have ended: its report is out, unless its consumer died that moment.
const REPORTED: Duration = Duration::from_secs(60);
/// What needs State comes again after this long while it is away.
const STATE_AWAY: Duration = Duration::from_secs(5);

/// What a consumer knows of limits and of State without asking.
#[derive(Default)]
pub struct Learnt {
    /// Limits that were full a moment ago, and until when nobody asks again.
    full: Mutex<HashMap<String, Instant>>,
    /// State did not answer; until then it is not asked.
    unasked: Mutex<Option<Instant>>,
    /// When the next job over a limit may go back.
    next: tokio::sync::Mutex<Option<Instant>>,
}

/// A job may start, and has this until its end.
#[derive(Default)]
pub struct Agreement {
    /// It runs at most once, and has the claim for that.
    pub once: bool,
    /// It has the claim of its attempt.
    pub claimed: bool,
    _permit: Option<Permit>,
}

impl Learnt {
    fn full(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.full.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unasked(&self) -> MutexGuard<'_, Option<Instant>> {
        self.unasked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One of these limits was full a moment ago.
    fn is_full(&self, limits: &[Limit]) -> Option<(String, Duration)> {
        let mut full = self.full();
        if full.is_empty() {
            return None;
        }
        let now = Instant::now();
        full.retain(|_, until| *until > now);
        let found = limits.iter().find_map(|limit| full.get_key_value(&limit.key));
        found.map(|(key, until)| (key.clone(), until.duration_since(now)))
    }
}

impl Slots {
    /// The wish that this job shall not run, or not go on.
    pub(super) fn wish(&self, job: &Job) -> Option<Mark> {
        self.agreed.marks.cancelled(job.id, job.run).filter(|_| !planted(Fault::LostCancel))
    }

    /// A job that somebody cancelled is answered without running.
    pub(super) fn unless_cancelled(&self, job: &Job, journaled: bool, delivery: Delivery) -> Option<Delivery> {
        let Some(mark) = self.wish(job) else { return Some(delivery) };
        let report = self.blank(job, journaled, Uuid::nil(), Timestamp::now());
        let why = format!("cancelled: {}", wish_text(&mark));
        let mut report = verdict::unrun(report, JobState::Cancelled, Cause::Cancelled, why);
        let settlement = verdict::settlement(&mut report, job, None, journaled);
        self.settle(delivery, settlement);
        self.free_key(job);
        None
    }

    /// Everybody's agreement that this execution starts; `None`: the delivery was answered, or comes
    /// again.
    pub(super) async fn agree(
        &self,
        job: &Job,
        journaled: bool,
        claimed: bool,
        delivery: Delivery,
        execution: Uuid,
    ) -> Option<(Delivery, Agreement)> {
        let kind = self.kind(&job.kind);
        let limits = match kind {
            Some(kind) if !kind.limits.is_empty() => self.limits(kind.limits.iter().chain(&job.limits)),
            _ if job.limits.is_empty() => Vec::new(),
            _ => self.limits(job.limits.iter()),
        };
        let named = !job.limits.is_empty() || kind.is_some_and(|kind| !kind.limits.is_empty());
        if named && !self.agreed.marks.is_whole() {
            // A command may have bounded them in a store that was never read.
            self.wait_for_state(job, delivery);
            return None;
        }
        // A fan-out may ask again: of two runs that it begins the first counts.
        let once = kind.is_some_and(|kind| kind.at_most_once) && job.kind != FAN_OUT_KIND;
        // A job that stayed away was published anew; a death between that and the ack left two of it.
        let copy = (claimed || job.attempt > 1 || delivery.redelivered) && !planted(Fault::SettleTwice);
        if limits.is_empty() && !once && !copy {
            return Some((delivery, Agreement::default()));
        }
        let (delivery, permit) = self.within(&limits, job, delivery).await?;
        let delivery = match (once, copy) {
            (true, _) => self.claim_once(job, journaled, delivery, execution).await?,
            (false, true) => self.claim(job, delivery, execution).await?,
            (false, false) => delivery,
        };
        Some((delivery, Agreement { once, claimed: once || copy, _permit: permit }))
    }

    /// The limits of these names as they are now; a name that nobody bounded bounds nothing.
    fn limits<'a>(&self, names: impl Iterator<Item = &'a String>) -> Vec<Limit> {
        let limit = |name: &String| {
            let base = name.split_once(':').map_or(name.as_str(), |(base, _)| base);
            let known = |name| self.agreed.marks.bound(name).or_else(|| self.settings.limits.get(name).cloned());
            let bound = known(name).or_else(|| known(base))?;
            let rate = bound.rate_ms.map(|(count, millis)| (count, Duration::from_millis(millis)));
            Some(Limit { key: name.clone(), at_once: bound.at_once, rate })
        };
        names.filter_map(limit).collect()
    }

    /// A place under every limit; a job that finds none stays away for a while.
    async fn within(&self, limits: &[Limit], job: &Job, delivery: Delivery) -> Option<(Delivery, Option<Permit>)> {
        if limits.is_empty() {
            return Some((delivery, None));
        }
        if let Some((key, after)) = self.learnt.is_full(limits) {
            self.bounce(job, &key, delivery, after).await;
            return None;
        }
        let Some(state) = self.state() else {
            self.wait_for_state(job, delivery);
            return None;
        };
        match state.acquire(limits, job.id, LEASE).await {
            Ok(Admission::Granted) => Some((delivery, Some(self.permits.keep(job.id)))),
            Ok(Admission::Later { key, after }) => {
                self.learnt.full().insert(key.clone(), Instant::now() + after.min(Duration::from_secs(1)));
                self.bounce(job, &key, delivery, after).await;
                None
            }
            Err(error) => {
                // It may have been granted: the same owner is never counted twice, and leases end.
                self.is_away(&error);
                self.wait_for_state(job, delivery);
                None
            }
        }
    }

    /// Back to its queue, longer each time, and never too many at once.
    async fn bounce(&self, job: &Job, limit: &str, mut delivery: Delivery, after: Duration) {
        let headers = &mut delivery.message.properties.headers;
        let before = match headers.get(header::BOUNCES) {
            Some(HeaderValue::Int(count)) => usize::try_from(*count).unwrap_or(0),
            _ => 0,
        };
        let away = Duration::from_secs(AWAY[before.min(AWAY.len() - 1)]).max(after).min(LONGEST);
        headers.insert(header::BOUNCES.to_owned(), HeaderValue::Int(i64::try_from(before + 1).unwrap_or(i64::MAX)));
        headers.insert(header::CLAIM.to_owned(), HeaderValue::Bool(true));
        let mut next = self.learnt.next.lock().await;
        if let Some(at) = *next {
            sleep_until(at).await;
        }
        *next = Some(Instant::now() + PACE);
        drop(next);
        self.away.note(job.id, Reason::Limit, limit, away);
        self.put_off(delivery, away);
    }

    /// A copy whose attempt another copy has is dropped; one that comes back takes the claim over.
    async fn claim(&self, job: &Job, delivery: Delivery, execution: Uuid) -> Option<Delivery> {
        // Without State it runs: an attempt may run twice, and both executions are recorded.
        let Some(state) = self.state() else { return Some(delivery) };
        let key = (job.id, job.replay, job.attempt);
        match state.claim(key, execution, was_claimed(&delivery)).await {
            Ok(Claimed::Yes) => Some(delivery),
            Ok(Claimed::Taken { by }) => {
                tracing::info!(job = %job.id, queue = job.queue, attempt = job.attempt, %by, "A copy of an attempt that another copy has was dropped.");
                self.settle(delivery, Settlement::default());
                None
            }
            Err(error) => {
                self.is_away(&error);
                self.hand_back(delivery);
                None
            }
        }
    }

    /// An at-most-once job runs only if nobody can have started it.
    async fn claim_once(&self, job: &Job, journaled: bool, delivery: Delivery, execution: Uuid) -> Option<Delivery> {
        let Some(state) = self.state() else {
            self.wait_for_state(job, delivery);
            return None;
        };
        match state.claim((job.id, job.replay, job.attempt), execution, false).await {
            Ok(Claimed::Yes) => Some(delivery),
            // A fresh copy is of something that answers for itself.
            Ok(Claimed::Taken { .. }) if !was_claimed(&delivery) => {
                self.settle(delivery, Settlement::default());
                None
            }
            Ok(Claimed::Taken { by }) => {
                self.doubt(job, journaled, delivery, by).await;
                None
            }
            Err(error) => {
                // The claim may be taken now: the redelivery is then told that it may have run.
                self.is_away(&error);
                self.hand_back(delivery);
                None
            }
        }
    }

    /// It may have run: whoever claimed it may only have lost its link, and report once that is back, or its
    /// report waits to be recorded. It is lost when nothing of that can be any more.
    async fn doubt(&self, job: &Job, journaled: bool, delivery: Delivery, by: Uuid) {
        let key = (job.id, job.replay, job.attempt);
        let doubted = match delivery.message.properties.headers.get(header::DOUBTED) {
            Some(HeaderValue::Int(since)) => Timestamp::from_microsecond(*since).ok(),
            _ => None,
        };
        let enough = if ended_of(by).is_some() { REPORTED } else { DOUBT };
        let long = doubted.is_some_and(|since| Timestamp::now().duration_since(since).unsigned_abs() >= enough);
        match self.is_recorded(&key).await {
            Some(true) => {
                if let Some(delivery) = self.tell_again(&key, delivery).await {
                    self.put_off(delivery, STATE_AWAY);
                }
                return;
            }
            Some(false) if long && self.has_caught_up().await => {}
            _ => return self.look_again(job, delivery, doubted),
        }
        let Some(state) = self.state() else { return self.wait_for_state(job, delivery) };
        match state.pass_claim(key, by, LOST).await {
            Ok(true) => {}
            // It has ended just now, and reports.
            Ok(false) => return self.look_again(job, delivery, None),
            Err(error) => {
                self.is_away(&error);
                return self.wait_for_state(job, delivery);
            }
        }
        let by = ended_of(by).unwrap_or(by);
        let why = format!("it runs at most once, and may have run: execution {by} left no report");
        let report = self.blank(job, journaled, Uuid::nil(), Timestamp::now());
        let mut report = verdict::unrun(report, JobState::Lost, Cause::Crash, why);
        let settlement = verdict::settlement(&mut report, job, None, journaled);
        self.settle(delivery, settlement);
        self.free_key(job);
    }

    /// Does no report wait to be recorded? The word of the record is as old as what it has not read.
    async fn has_caught_up(&self) -> bool {
        matches!(timeout(LOOK_UP, self.broker.backlog()).await, Ok(Ok(Backlog { packs: 0, .. })))
    }

    /// An execution of a job that runs at most once may answer for it, unless it was given up as lost
    /// meanwhile; from now on it is not. Without State it answers: who gives it up needs State, too.
    pub(super) async fn may_answer(&self, job: &Job, execution: Uuid) -> bool {
        let Some(state) = self.state() else { return true };
        match state.pass_claim((job.id, job.replay, job.attempt), execution, ended(execution)).await {
            Ok(true) => true,
            Ok(false) => {
                tracing::warn!(job = %job.id, %execution, "A job that runs at most once was given up as lost before it ended: it stays lost.");
                false
            }
            Err(error) => {
                self.is_away(&error);
                true
            }
        }
    }

    /// What runs longer than a claim is kept keeps it. Without end.
    pub(super) async fn keep_claim(&self, key: AttemptKey, execution: Uuid) -> Infallible {
        loop {
            sleep(CLAIM_KEPT / 4).await;
            // Another may have taken it over; this one answers at its end as ever.
            if let Some(state) = self.state()
                && let Err(error) = state.pass_claim(key, execution, execution).await
            {
                self.is_away(&error);
            }
        }
    }

    /// It looks again before it is lost.
    fn look_again(&self, job: &Job, mut delivery: Delivery, doubted: Option<Timestamp>) {
        let since = doubted.unwrap_or_else(Timestamp::now).as_microsecond();
        let headers = &mut delivery.message.properties.headers;
        headers.insert(header::DOUBTED.to_owned(), HeaderValue::Int(since));
        headers.insert(header::AGAIN.to_owned(), HeaderValue::Bool(true));
        let why = "it runs at most once and may have run: it is lost unless its report comes by then";
        self.away.note(job.id, Reason::Doubt, why, DOUBT);
        self.put_off(delivery, DOUBT);
    }

    /// What must not run without an answer comes again.
    fn wait_for_state(&self, job: &Job, delivery: Delivery) {
        let why = "it has limits or runs at most once, and the store of state does not answer";
        self.away.note(job.id, Reason::State, why, STATE_AWAY);
        self.put_off(delivery, STATE_AWAY);
    }

    /// State, unless it is away or was a moment ago.
    fn state(&self) -> Option<&State> {
        let mut unasked = self.learnt.unasked();
        if unasked.is_some_and(|until| until > Instant::now()) {
            return None;
        }
        *unasked = None;
        self.agreed.state.get()
    }

    fn is_away(&self, error: &StateError) {
        let before = self.learnt.unasked().replace(Instant::now() + NO_LOOK);
        if before.is_none() {
            tracing::warn!(%error, "State does not answer: jobs that have limits or run at most once wait, others go on.");
        }
    }

    /// Back as a redelivery: what this consumer may have done to its claim is then taken over.
    fn hand_back(&self, delivery: Delivery) {
        self.settle(delivery, Settlement { verdict: Verdict::HandBack, ..Settlement::default() });
    }

    /// The unique key of a job that has ended belongs to nobody. One that cannot be given back now is
    /// taken by the next who wants it: its job has ended.
    pub(super) fn free_key(&self, job: &Job) {
        let Some(unique) = job.unique.as_ref().filter(|unique| unique.until_end) else { return };
        let Some(state) = self.state().cloned() else { return };
        let (key, id) = (unique.key.clone(), job.id);
        self.tasks.spawn(async move {
            if let Err(error) = state.free_key(&key, id).await {
                tracing::debug!(%error, key, "A unique key was not given back; the next who wants it finds that its job has ended.");
            }
        });
    }
}

/// May this very message have been claimed before?
fn was_claimed(delivery: &Delivery) -> bool {
    delivery.redelivered || delivery.message.properties.headers.contains_key(header::AGAIN)
}

/// Who wished it, and why.
pub fn wish_text(mark: &Mark) -> String {
    match &mark.why {
        Some(why) => format!("by {}: {why}", mark.by),
        None => format!("by {}", mark.by),
    }
}
