//! One delivery in a slot, from decoding to settling.
//!
//! Owns the order of the questions: is it a job, was it answered already, does another consumer
//! hold it, was it cancelled, is it too late, does somebody here serve its kind, does everybody agree;
//! then the execution and its answer.
//! Refuses to know how many slots there are.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, PoisonError},
};

use jiff::{SignedDuration, Timestamp};
use spinor_executors::{
    Bounds, Cancelled, Cause, Context, Executor, Job, Json, Outcome, Ready, Registry, Report, RetryPolicy, State,
    pool::{self, AttemptKey, Running, Work},
    programs::Drafts,
};
use tokio::{
    sync::{Notify, mpsc},
    time::{Duration, Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use super::{
    Agreed, Background, Consumer, ConsumerSettings, KindSettings, Record,
    asking::Asking,
    celery,
    holding::Holding,
    intake::{Intake, give_back},
    keeping::Keeper,
    lately::Lately,
    permits::Permits,
    verdict,
};
use crate::{
    blobs::Blobs,
    broker::{Address, AnyBroker, Broker, Delivery, Outgoing, Receipt, Settlement, Verdict},
    entry::Entry,
    message::{self, Decoded, Past, header},
    next::{End, NewRun, Next},
    state::WaitingJob,
    trigger::FAN_OUT_KIND,
};

mod agreement;
mod away;
mod ears;
mod large;
mod programs;
mod suspects;

use agreement::Learnt;
use away::{Away, Reason};
use ears::Ears;
use programs::publish_with;

pub use agreement::wish_text;

/// A look-up of a redelivered job waits no longer than this; then the job runs.
const LOOK_UP: Duration = Duration::from_secs(2);
/// After a look-up without an answer none is made for so long: otherwise jobs wait for their slots,
/// are handed back and come again, each to wait for a database that is down.
const NO_LOOK: Duration = Duration::from_secs(10);

/// What all slots of a consumer share.
pub struct Slots {
    settings: Arc<ConsumerSettings>,
    registry: Arc<Registry>,
    broker: AnyBroker,
    record: Record,
    intake: Arc<Intake>,
    running: Arc<Running<Delivery>>,
    lately: Lately,
    /// The record did not answer; until then it is not asked.
    unasked: Mutex<Option<Instant>>,
    holding: Arc<Holding>,
    asking: Asking,
    blobs: Blobs,
    agreed: Agreed,
    learnt: Learnt,
    drafts: Option<Arc<dyn Drafts>>,
    away: Away,
    permits: Arc<Permits>,
    /// What outlives a slot's turn.
    tasks: TaskTracker,
    abandoned: CancellationToken,
}

impl Work for Slots {
    type Item = Delivery;

    async fn next(&self) -> Option<Delivery> {
        self.intake.next().await
    }

    async fn perform(&self, delivery: Delivery) {
        let (now, since) = (Timestamp::now(), Instant::now());
        if !self.broker.in_hand(&delivery.tag) {
            // Its link was lost while it waited: it comes again, here or elsewhere, and would run twice.
            self.settle(delivery, Settlement::default());
            return self.intake.ended(since.elapsed());
        }
        match message::decode(&delivery.message, &delivery.queue, self.default_kind(&delivery.queue), now) {
            Ok(decoded) => self.admit(decoded, delivery, now).await,
            Err(rubbish) => self.bury(delivery, &rubbish.0, Vec::new()),
        }
        self.intake.ended(since.elapsed());
    }
}

impl Slots {
    /// Slots of this consumer.
    pub fn new(
        consumer: &Consumer,
        intake: Arc<Intake>,
        running: Arc<Running<Delivery>>,
        permits: Arc<Permits>,
        background: &Background,
    ) -> Self {
        let who = consumer.settings.origin.consumer.clone();
        let holding =
            Holding::new(who, consumer.broker.clone(), Arc::clone(&running), Arc::clone(&intake), background.clone());
        Self {
            settings: Arc::clone(&consumer.settings),
            registry: Arc::clone(&consumer.registry),
            broker: consumer.broker.clone(),
            record: Arc::clone(&consumer.record),
            asking: Asking::new(consumer.broker.clone(), Arc::clone(&intake)),
            blobs: consumer.blobs.clone(),
            intake,
            running,
            lately: Lately::default(),
            unasked: Mutex::default(),
            holding: Arc::new(holding),
            agreed: consumer.agreed.clone(),
            learnt: Learnt::default(),
            drafts: consumer.drafts.clone(),
            away: Away::default(),
            permits,
            tasks: background.0.clone(),
            abandoned: CancellationToken::new(),
        }
    }

    /// How many executions run.
    pub fn running(&self) -> usize {
        self.running.count()
    }

    /// Asks those to end for which there is a reason, by job and run.
    pub fn cancel(&self, why: impl Fn(Uuid, Option<Uuid>) -> Option<Cancelled>) {
        self.running.cancel_where(|(job, ..), delivery| why(*job, message::run_of(&delivery.message)));
    }

    /// Up to so many of the jobs that run, with kind and how long each has.
    pub fn run_since(&self, limit: usize) -> Vec<(Uuid, String, Duration)> {
        self.running.list(limit, |(job, ..), delivery, ago| {
            (*job, message::kind_of(&delivery.message.properties).unwrap_or_default().to_owned(), ago)
        })
    }

    /// Up to so many of the jobs that went back for a while, and why.
    pub fn sent_away(&self, limit: usize) -> Vec<WaitingJob> {
        self.away.list(limit)
    }

    /// Asks all of them to end.
    pub fn cancel_all(&self, why: &Cancelled) {
        self.running.cancel_all(why);
    }

    /// Drops all of them; their deliveries go back when the broker is closed.
    pub fn abandon(&self) {
        self.abandoned.cancel();
    }

    /// The questions before a job runs, in the order of their price.
    async fn admit(&self, decoded: Decoded, delivery: Delivery, now: Timestamp) {
        let Decoded { job, unnamed, journaled, claimed } = decoded;
        if unnamed {
            // Without an id of its own a copy could not be told from another job.
            let named =
                Outgoing { to: Address::Work(job.queue.clone()), message: message::encode(&job, false), must: true };
            return self.settle(delivery, Settlement { publish: vec![named], ..Settlement::default() });
        }
        let key = (job.id, job.replay, job.attempt);
        let Some(delivery) = self.unless_answered(key, delivery).await else { return };
        let Some((job, delivery)) = self.unless_held(job, journaled, delivery) else { return };
        let Some(delivery) = self.unless_cancelled(&job, journaled, delivery) else { return };
        if job.expires_at.is_some_and(|at| at <= now) {
            return self.expire(&job, journaled, delivery, now);
        }
        if let Some(due) = job.due.filter(|due| *due > now) {
            return self.delay(job, journaled, delivery, due.duration_since(now));
        }
        let Some(executor) = self.registry.get(&job.kind) else {
            return self.unserved(job, journaled, delivery, now, None);
        };
        // Before anything is agreed on: a job that goes back has taken no claim.
        let Some((job, delivery)) = self.load(job, journaled, delivery, now).await else { return };
        let Some((ready, job, delivery)) = self.made_ready(&**executor, job, journaled, delivery, now).await else {
            return;
        };
        self.run(&**executor, ready, job, (journaled, claimed), delivery, now).await;
    }

    /// A redelivered job may be running here, answered here a moment ago, or final in the record.
    async fn unless_answered(&self, key: AttemptKey, delivery: Delivery) -> Option<Delivery> {
        if !delivery.redelivered {
            return Some(delivery);
        }
        let delivery = self.intake.unless_running(&self.broker, delivery)?;
        if let Some(again) = self.lately.recall(&key) {
            self.settle(delivery, again);
            return None;
        }
        if self.is_recorded(&key).await == Some(true) {
            return self.tell_again(&key, delivery).await;
        }
        Some(delivery)
    }

    /// Acks what the record answers. A death between the report and the word of the end may have left
    /// the report alone: who waits for the end is told again. `None`: answered.
    pub(super) async fn tell_again(&self, key: &AttemptKey, delivery: Delivery) -> Option<Delivery> {
        let mut publish = Vec::new();
        if delivery.message.properties.headers.contains_key(header::NEXT) {
            // A fan-out that succeeded is followed by its run, which may not have been begun: it is asked for again.
            let fan_out = message::kind_of(&delivery.message.properties) == Some(FAN_OUT_KIND);
            let Some(results) = self.record.get() else { return Some(delivery) };
            match timeout(LOOK_UP, results.ending(key.0)).await {
                Ok(Ok(Some(report))) if fan_out && report.state == State::Succeeded => return Some(delivery),
                Ok(Ok(Some(report))) if report.replay == key.1 => publish.push(End::reported(&report).outgoing()),
                // A later attempt or replay tells its own end.
                Ok(Ok(_)) => {}
                _ => return Some(delivery),
            }
        }
        self.settle(delivery, Settlement { publish, ..Settlement::default() });
        None
    }

    /// Does the record say that it was answered? `None`: it does not answer; one that was never open says no.
    async fn is_recorded(&self, key: &AttemptKey) -> Option<bool> {
        let unasked = || self.unasked.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(results) = self.record.get() else { return Some(false) };
        if unasked().is_some_and(|until| until > Instant::now()) {
            return None;
        }
        match timeout(LOOK_UP, results.answered(&[*key])).await {
            Ok(Ok(found)) => Some(found.contains(key)),
            _ => {
                *unasked() = Some(Instant::now() + NO_LOOK);
                None
            }
        }
    }

    fn expire(&self, job: &Job, journaled: bool, delivery: Delivery, now: Timestamp) {
        let report = self.blank(job, journaled, Uuid::nil(), now);
        let mut report =
            verdict::unrun(report, State::Expired, Cause::Error, "it expired before it started".to_owned());
        let settlement = verdict::settlement(&mut report, job, None, journaled);
        self.settle(delivery, settlement);
        self.free_key(job);
    }

    /// Its publisher wants it later: it waits where all such jobs do, and is told to the record meanwhile.
    fn delay(&self, job: Job, journaled: bool, delivery: Delivery, rest: SignedDuration) {
        let lines = if journaled { Vec::new() } else { vec![Entry::Queued(Box::new(job.carried())).line()] };
        // A death between this and the ack leaves two of it.
        let message = message::encode_claimed(&job, true);
        let after = Duration::try_from(rest).unwrap_or_default();
        let publish = vec![Outgoing { to: Address::Delayed { queue: job.queue, after }, message, must: true }];
        self.settle(delivery, Settlement { lines, publish, verdict: Verdict::Ack });
    }

    async fn run(
        &self,
        executor: &dyn Executor,
        ready: Ready,
        job: Job,
        (journaled, claimed): (bool, bool),
        delivery: Delivery,
        now: Timestamp,
    ) {
        let key = (job.id, job.replay, job.attempt);
        let execution = Uuid::now_v7();
        let agreed = self.agree(&job, journaled, claimed, delivery, execution).await;
        // What it was granted is given back when this execution has its answer.
        let Some((delivery, agreement)) = agreed else { return };
        // What runs at most once has a claim that nobody had before.
        let maybe_rerun = delivery.started && !agreement.once;
        let (mut delivery, mut past, mut permit) = (delivery, Past::default(), None);
        if delivery.started {
            let Some(suspect) = self.suspect(&job, journaled, delivery).await else { return };
            (delivery, past, permit) = suspect;
        }
        self.broker.starting(&delivery, &past);
        delivery.started = true;
        let started = Instant::now();
        let (emissions, heard) = mpsc::channel(ears::DEPTH);
        let mut context = Context::new(execution, Some(emissions));
        context.keep_output = self.settings.keep_output;
        context.soft_to_hard = self.settings.soft_to_hard;
        context.bounds = self.kind(&job.kind).map_or_else(Bounds::default, |kind| kind.bounds);
        let limits = job.timeout.or_else(|| self.kind(&job.kind).and_then(|kind| kind.timeout));
        // One limit for both: its processes are asked then, and have the usual time to go.
        context.limit_to_hard =
            limits.map(|limits| limits.hard.saturating_sub(limits.soft)).filter(|rest| !rest.is_zero());
        context.maybe_rerun = maybe_rerun;
        context.limits = limits;
        context.last_attempt = self.policy(&job).delay_after(job.attempt, 0.0).is_none();
        let context = context.with_drafts(self.drafts.clone());
        context.bring(ready);
        if let Err(copy) = self.running.start(key, delivery, context.canceller()) {
            tracing::warn!(job = %job.id, queue = job.queue, attempt = job.attempt, "Two of one attempt came here at once; one of them runs.");
            // The one that runs may have lost its link, and this be what came again: it answers for both.
            if let Some(ended) = self.intake.unless_running(&self.broker, copy) {
                give_back(&self.broker, &self.holding.holders, ended);
            }
            return;
        }
        // A wish that came between the look and the start is not missed: it is looked for again.
        if let Some(mark) = self.wish(&job) {
            context.canceller().cancel(Cancelled::Person(wish_text(&mark)));
        }
        let progressed = Notify::new();
        let mut keeper = Keeper {
            settings: &self.settings,
            broker: &self.broker,
            holding: &self.holding,
            key,
            job: &job,
            journaled,
            past,
            permit,
            started,
            next: started + self.settings.hold_after,
        };
        let mut ears = Ears::new(&self.broker, &job, &self.settings.origin.consumer, heard, &progressed);
        let outcome = tokio::select! {
            outcome = keeper.during(ears.during(pool::execute(executor, &job, &context, limits)), &progressed) => outcome,
            never = self.keep_claim(key, execution), if agreement.claimed => match never {},
            // Dropping the execution ends what it started.
            () = self.abandoned.cancelled() => return self.give_up(key),
        };
        // The place of one that starts alone is free when its answer is stored: until then a death counts.
        let alone = keeper.permit.take();
        drop(keeper);
        let (outcome, put) = self.put_away(&job, outcome).await;
        let (value_ref, whole) = put.unzip();
        let outcome = self.put_drafts_away(&context, outcome).await;
        let Some(delivery) = self.running.end(&key) else { return };
        if is_cut_by_drain(&context, &outcome) {
            return give_back(&self.broker, &self.holding.holders, delivery);
        }
        if agreement.once && !self.may_answer(&job, execution).await {
            return self.settle(delivery, Settlement::default());
        }
        let mut report = self.blank(&job, journaled, execution, now);
        report.maybe_rerun = maybe_rerun;
        report.value_ref = value_ref;
        let (report, receipt) = self.answer(&job, journaled, delivery, report, &context, (outcome, whole));
        ears.ended(report);
        if alone.is_some() {
            let _ = timeout(LOOK_UP, receipt).await;
        }
    }

    /// An execution was dropped: its job goes back, charged with nothing.
    fn give_up(&self, key: AttemptKey) {
        if let Some(delivery) = self.running.end(&key) {
            give_back(&self.broker, &self.holding.holders, delivery);
        }
    }

    /// What the execution's end means, settled; the whole report.
    fn answer(
        &self,
        job: &Job,
        journaled: bool,
        delivery: Delivery,
        mut report: Report,
        context: &Context,
        (outcome, whole): (Outcome, Option<Json>),
    ) -> (Report, Receipt) {
        report.ended = Timestamp::now();
        let kept = context.take_kept();
        (report.stdout, report.stderr, report.exit, report.usage) = (kept.stdout, kept.stderr, kept.exit, kept.usage);
        let crashed = matches!(&outcome, Outcome::Failed(failure) if failure.cause == Cause::Crash);
        let again = verdict::decide(&mut report, outcome, self.policy(job), draw());
        // What its success begins tells its own end, and this one's is none.
        let begins = kept.begins.and_then(|begins| begins.downcast::<NewRun>().ok());
        let begins = begins.filter(|_| report.state == State::Succeeded);
        let mut settlement = match again.filter(|_| crashed) {
            Some(after) => self.after_a_crash(&mut report, job, after, journaled, &delivery),
            None if begins.is_some() => {
                verdict::settlement_of(&mut report, &Job { next: false, ..job.clone() }, None, journaled, None)
            }
            None => verdict::settlement_of(&mut report, job, again, journaled, whole.as_ref()),
        };
        settlement.publish.extend(begins.map(|run| Next::Run(run).outgoing()));
        if report.state == State::Succeeded {
            publish_with(&mut settlement, kept.publish);
        }
        self.lately.remember((job.id, job.replay, job.attempt), &settlement);
        if report.state.is_final() {
            self.free_key(job);
        }
        (report, self.broker.settle(delivery, settlement))
    }

    fn bury(&self, delivery: Delivery, why: &str, lines: Vec<bytes::Bytes>) {
        tracing::warn!(queue = %delivery.queue, why, "A message became a dead letter.");
        let letter =
            verdict::dead_letter(delivery.message.clone(), &delivery.queue, why, &self.settings.origin.consumer);
        let end = End::buried(&delivery.message, &delivery.queue, why).map(End::outgoing);
        let answer = celery::buried(&delivery.message, why);
        let publish = [letter].into_iter().chain(end).chain(answer).collect();
        self.settle(delivery, Settlement { lines, publish, verdict: Verdict::Ack });
    }

    fn settle(&self, delivery: Delivery, settlement: Settlement) {
        // The receipt is not awaited: the slot is free now, and a settle that fails comes again.
        drop(self.broker.settle(delivery, settlement));
    }

    /// The report every answer starts from.
    fn blank(&self, job: &Job, journaled: bool, execution: Uuid, now: Timestamp) -> Report {
        let mut report = Report::of(job, &self.settings.origin, execution, now);
        if !journaled || self.settings.whole_reports {
            report.whole = Some(Box::new(job.carried()));
        }
        report
    }

    fn kind(&self, kind: &str) -> Option<&KindSettings> {
        self.settings.kinds.iter().find(|settings| settings.pattern.matches(kind))
    }

    fn policy(&self, job: &Job) -> RetryPolicy {
        let by_kind = || self.kind(&job.kind).and_then(|kind| kind.retry);
        job.retry.or_else(by_kind).unwrap_or(RetryPolicy::NONE)
    }

    fn default_kind(&self, queue: &str) -> Option<&str> {
        let queue = self.settings.queues.iter().find(|settings| settings.spec.name == queue)?;
        queue.default_kind.as_deref()
    }
}

fn is_cut_by_drain(context: &Context, outcome: &Outcome) -> bool {
    matches!(context.why_cancelled(), Some(Cancelled::Drain)) && !matches!(outcome, Outcome::Succeeded(_))
}

/// A number in `0.0..1.0`.
fn draw() -> f64 {
    (RandomState::new().hash_one(()) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    #[test]
    fn draws_are_spread_over_the_unit() {
        let draws: Vec<f64> = (0..1000).map(|_| super::draw()).collect();
        assert!(draws.iter().all(|draw| (0.0..1.0).contains(draw)));
        assert!(draws.iter().any(|draw| *draw < 0.1) && draws.iter().any(|draw| *draw > 0.9));
    }
}
