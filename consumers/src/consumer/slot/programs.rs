//! What executors that are not always ready need of a slot: a place before the job is agreed on, its
//! way back when there is none, and the jobs that leave with its success.
//!
//! A job that goes back here has not started: its attempt is the same, and nothing is held against it.

use jiff::Timestamp;
use spinor_executors::{
    Cause, Context, Executor, Failure, HeaderValue, Job, Outcome, Ready, Report, State, Unready, programs::Draft,
};
use tokio::time::{Duration, sleep, timeout};
use uuid::Uuid;

use super::{Slots, away::Reason, verdict};
use crate::{
    blobs::{BlobError, LARGE},
    broker::{Address, Delivery, Outgoing, Settlement, Verdict},
    consumer::intake::give_back,
    entry::{self, Entry},
    message::{self, Past, header},
};

/// A job that nobody here serves now looks again after this long.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// What waits too long for a place comes again after this.
const LATER: Duration = Duration::from_secs(5);
/// The blob store takes a job's args within this.
const PATIENCE: Duration = Duration::from_secs(10);

impl Slots {
    /// Waits until its executor has a place for the job; without one it goes back.
    pub(super) async fn made_ready(
        &self,
        executor: &dyn Executor,
        job: Job,
        journaled: bool,
        delivery: Delivery,
        now: Timestamp,
    ) -> Option<(Ready, Job, Delivery)> {
        let Some(ready) = executor.ready(&job.kind) else { return Some((None, job, delivery)) };
        let ready = tokio::select! {
            biased;
            ready = ready => ready,
            () = self.intake.closed() => {
                give_back(&self.broker, &self.holding.holders, delivery);
                return None;
            }
            // The broker bounds how long it waits for an answer.
            () = sleep(self.settings.hold_after) => {
                self.put_off(delivery, LATER);
                return None;
            }
        };
        match ready {
            Ok(ready) => Some((ready, job, delivery)),
            Err(why) => {
                self.unserved(job, journaled, delivery, now, Some(why));
                None
            }
        }
    }

    /// A deploy may be under way: the job looks again later, and is dead after the grace period.
    pub(super) fn unserved(&self, job: Job, journaled: bool, delivery: Delivery, now: Timestamp, why: Option<Unready>) {
        let since = delivery.message.properties.int(header::UNKNOWN_SINCE).unwrap_or_else(|| now.as_microsecond());
        let grace = i64::try_from(self.settings.unknown_kind_grace.as_micros()).unwrap_or(i64::MAX);
        if now.as_microsecond().saturating_sub(since) >= grace {
            let name = &self.settings.origin.consumer;
            let served = || self.registry.kinds().join(", ");
            // What it serves changes with its version: on a line of its own it does not part the failures.
            let why = why.map_or_else(|| format!("\n`{name}` serves {}", served()), |why| format!("; {}", why.0));
            let why = format!("no consumer of queue `{}` serves kind `{}`{why}", job.queue, job.kind);
            let report = self.blank(&job, journaled, Uuid::nil(), now);
            let report = verdict::unrun(report, State::Dead, Cause::Error, why.clone());
            self.free_key(&job);
            return self.bury(delivery, &why, vec![entry::report_line(&report)]);
        }
        let mut copy = message::encode(&job, journaled);
        Past::of(&delivery.message.properties).write(&mut copy.properties.headers);
        copy.properties.headers.insert(header::UNKNOWN_SINCE.to_owned(), HeaderValue::Int(since));
        if delivery.redelivered {
            copy.properties.headers.insert(header::AGAIN.to_owned(), HeaderValue::Bool(true));
        }
        let after = LOOK_AGAIN.min(self.settings.unknown_kind_grace);
        let dead = grace.checked_add(since).and_then(|micros| Timestamp::from_microsecond(micros).ok());
        let dead = dead.map(|at| format!("; it becomes a dead letter at {at}")).unwrap_or_default();
        let told = why.map(|why| format!(": {}", why.0)).unwrap_or_default();
        let told = format!("`{}` does not serve the kind `{}`{told}{dead}", self.settings.origin.consumer, job.kind);
        self.away.note(job.id, Reason::Kind, told, after);
        let to = Address::Delayed { queue: job.queue, after };
        self.settle(
            delivery,
            Settlement { publish: vec![Outgoing { to, message: copy, must: true }], ..Settlement::default() },
        );
    }

    /// Its process died under it and another attempt is due: it is counted, and at the second death parked.
    pub(super) fn after_a_crash(
        &self,
        report: &mut Report,
        job: &Job,
        after: Duration,
        journaled: bool,
        delivery: &Delivery,
    ) -> Settlement {
        let mut past = Past::of(&delivery.message.properties).carried();
        if past.crash() {
            let mut settlement = verdict::settlement(report, job, Some(after), journaled);
            for out in &mut settlement.publish {
                past.write(&mut out.message.properties.headers);
            }
            return settlement;
        }
        let last = report.failure.take().map_or_else(String::new, |failure| format!("; the last: {}", failure.message));
        let why = format!("crashes: {} times the process that ran it died under it{last}", past.crashes);
        report.state = State::Dead;
        report.retry_at = None;
        report.failure = Some(Failure { cause: Cause::Crash, message: why.clone() });
        tracing::warn!(job = %job.id, queue = job.queue, attempt = job.attempt, kind = job.kind, why, "A job is parked.");
        let by = &self.settings.origin.consumer;
        let letter = verdict::dead_letter(delivery.message.clone(), &delivery.queue, &why, by);
        let mut settlement = verdict::settlement(report, job, None, journaled);
        settlement.publish.push(letter);
        settlement.verdict = Verdict::Ack;
        settlement
    }

    /// Large args of the jobs that leave with a success go where such args lie; a success without them is none.
    pub(super) async fn put_drafts_away(&self, context: &Context, outcome: Outcome) -> Outcome {
        if !matches!(outcome, Outcome::Succeeded(_)) {
            return outcome;
        }
        let mut drafts = Vec::new();
        context.keep(|kept| drafts = std::mem::take(&mut kept.publish));
        for draft in drafts.iter_mut().filter(|draft| draft.job.args.bytes().len() > LARGE) {
            let put = timeout(PATIENCE, self.blobs.put_args(&mut draft.job)).await;
            let put = put.unwrap_or_else(|_| Err(BlobError::Unavailable("no answer in time".to_owned())));
            if let Err(why) = put {
                return Outcome::failed(format!("the job {} that it publishes was not stored: {why}", draft.job.id));
            }
            draft.journaled = true;
        }
        context.keep(|kept| kept.publish = drafts);
        outcome
    }
}

/// What a job publishes leaves with its answer.
pub(super) fn publish_with(settlement: &mut Settlement, drafts: Vec<Draft>) {
    for Draft { job, delay, journaled } in drafts {
        let to = Address::after(job.queue.clone(), delay);
        settlement.publish.push(Outgoing { to, message: message::encode(&job, journaled), must: true });
        if journaled {
            settlement.lines.push(Entry::Queued(Box::new(job)).line());
        }
    }
}
