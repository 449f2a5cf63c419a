//! What an outcome becomes: a report, perhaps a next attempt or a dead letter, perhaps a reply.
//! Pure: given the same outcome, policy and draw it says the same.

use std::time::Duration;

use jiff::Timestamp;
use spinor_executors::{Cause, Failure, HeaderValue, Job, Json, Outcome, Report, RetryPolicy, State, VERSION};

use super::celery;
use crate::{
    broker::{Address, Outgoing, Settlement, Verdict},
    entry,
    message::{self, MAX_BODY, Message, Properties, header},
    next,
    planted::{Fault, planted},
};

/// An executor may ask for another attempt even if no policy grants one; this bounds it.
const ASKED_MAX: u32 = 20;
/// The delay of an attempt that was asked for without a delay and without a policy.
const ASKED_DELAY: Duration = Duration::from_secs(10);

/// Decides what follows an outcome and completes the report with it. `Some` is the delay before
/// the next attempt.
pub fn decide(report: &mut Report, outcome: Outcome, policy: RetryPolicy, draw: f64) -> Option<Duration> {
    let attempt = report.attempt;
    let after = match &outcome {
        Outcome::Failed(failure) if matches!(failure.cause, Cause::Args | Cause::Cancelled) => None,
        Outcome::Failed(_) => policy.delay_after(attempt, draw),
        Outcome::Retry { after, .. } => {
            let by_policy = policy.delay_after(attempt, draw);
            let unbound = policy.max() == 0 && attempt <= ASKED_MAX;
            match (by_policy, unbound) {
                (Some(delay), _) => Some(after.unwrap_or(delay)),
                (None, true) => Some(after.unwrap_or(ASKED_DELAY)),
                (None, false) => None,
            }
        }
        Outcome::Succeeded(_) | Outcome::Discard { .. } => None,
    };
    let endless = matches!(outcome, Outcome::Failed(_)) && planted(Fault::RetryWithoutBound);
    let Some(after) = after.or(endless.then_some(Duration::from_secs(1))) else {
        report.end(outcome);
        return None;
    };
    report.state = State::Retrying;
    report.failure = match outcome {
        Outcome::Failed(failure) => Some(failure),
        Outcome::Retry { reason, .. } => Some(Failure { cause: Cause::Error, message: reason }),
        _ => None,
    };
    let wait = jiff::SignedDuration::try_from(after).unwrap_or(jiff::SignedDuration::MAX);
    report.retry_at = report.ended.checked_add(wait).ok();
    Some(after)
}

/// The settlement of an execution whose report is complete.
pub fn settlement(report: &mut Report, job: &Job, again_after: Option<Duration>, journaled: bool) -> Settlement {
    settlement_of(report, job, again_after, journaled, None)
}

/// The same, with the value for who waits when the report only says where it lies.
pub fn settlement_of(
    report: &mut Report,
    job: &Job,
    again_after: Option<Duration>,
    journaled: bool,
    value: Option<&Json>,
) -> Settlement {
    let line = line(report, if job.next { next::LARGEST_CARRIED } else { entry::MAX_LINE });
    let mut publish = Vec::new();
    if let Some(after) = again_after {
        let mut next = job.clone();
        next.attempt += 1;
        publish.push(Outgoing {
            to: Address::Delayed { queue: job.queue.clone(), after },
            message: message::encode(&next, journaled),
            must: true,
        });
    } else {
        publish.extend(next::told(job, report));
        let plain = || job.reply_to.as_ref().map(|reply_to| reply(reply_to, report, job));
        publish.extend(celery::answer(job, report, value).or_else(plain));
    }
    if planted(Fault::SettleTwice) {
        // The second a while later, or it meets the first while that runs.
        let later = |mut out: Outgoing| {
            if let Address::Delayed { after, .. } = &mut out.to {
                *after += Duration::from_secs(3);
            }
            out
        };
        publish.extend(publish.clone().into_iter().map(later));
    }
    Settlement { lines: vec![line], publish, verdict: Verdict::Ack }
}

/// The report's line. One that no broker would carry would come back for ever: a value that is
/// too large fails its job, since what succeeded without its value is of no use to who waits.
fn line(report: &mut Report, largest: usize) -> bytes::Bytes {
    let line = entry::report_line(report);
    let value = report.value.as_ref().map_or(0, |value| value.bytes().len());
    if line.len() < entry::MAX_LINE && value < largest {
        return line;
    }
    if let Some(value) = report.value.take() {
        let size = value.bytes().len();
        report.state = State::Failed;
        report.failure = Some(Failure {
            cause: Cause::Error,
            message: format!("it succeeded with a value of {size} bytes, more than a report can carry"),
        });
    }
    report.whole = None;
    entry::report_line(report)
}

/// A reply is the report as JSON; its queue may be gone, and then nothing waits for it.
fn reply(reply_to: &str, report: &Report, job: &Job) -> Outgoing {
    let properties = Properties {
        id: Some(job.id.to_string()),
        kind: Some("spinor.report".to_owned()),
        correlation_id: job.correlation_id.clone().or_else(|| Some(job.id.to_string())),
        content_type: Some("application/json".to_owned()),
        ..Properties::default()
    };
    let body = serde_json::to_vec(report).unwrap_or_default().into();
    Outgoing { to: Address::Reply(reply_to.to_owned()), message: Message { properties, body }, must: false }
}

/// A message that can't be handled: the whole of it goes to the dead-letter table with its reason, up to the
/// largest body that is sent.
pub fn dead_letter(mut original: Message, from: &str, reason: &str, by: &str) -> Outgoing {
    original.body.truncate(MAX_BODY);
    let headers = &mut original.properties.headers;
    let texts = [(header::REASON, reason), (header::FROM, from), (header::BURIED_BY, by), (header::VERSION, VERSION)];
    for (name, text) in texts {
        headers.insert(name.to_owned(), HeaderValue::Text(text.to_owned()));
    }
    headers.insert(header::BURIED_AT.to_owned(), HeaderValue::Int(Timestamp::now().as_microsecond()));
    Outgoing { to: Address::Dead, message: original, must: true }
}

/// A report of a job that was answered without running.
pub fn unrun(mut report: Report, state: State, cause: Cause, why: String) -> Report {
    report.execution = uuid::Uuid::nil();
    report.state = state;
    report.ended = Timestamp::now();
    report.failure = Some(Failure { cause, message: why });
    report
}

#[cfg(test)]
mod tests {
    use spinor_executors::{Json, Origin};
    use uuid::Uuid;

    use super::*;

    fn report(attempt: u32) -> (Job, Report) {
        let mut job = Job::new("k", "q", Json::empty());
        job.attempt = attempt;
        let origin = Origin { consumer: "c".into(), group: "g".into(), host: "h".into() };
        let report = Report::of(&job, &origin, Uuid::now_v7(), Timestamp::now());
        (job, report)
    }

    #[test]
    fn a_failure_is_retried_by_policy_and_then_final() -> Result<(), String> {
        let policy = RetryPolicy::new(1, Duration::from_secs(3), 2.0, 0.0)?;
        let (job, mut first) = report(1);
        let after = decide(&mut first, Outcome::failed("no"), policy, 0.5);
        assert_eq!((after, first.state), (Some(Duration::from_secs(3)), State::Retrying));
        let sent = settlement(&mut first, &job, after, true);
        assert!(matches!(&sent.publish[0].to, Address::Delayed { queue, .. } if queue == "q"));
        assert_eq!(sent.publish[0].message.properties.int(header::ATTEMPT), Some(2));
        let (_, mut last) = report(2);
        assert_eq!(decide(&mut last, Outcome::failed("no"), policy, 0.5), None);
        assert_eq!(last.state, State::Failed);
        Ok(())
    }

    #[test]
    fn wrong_arguments_are_not_retried() -> Result<(), String> {
        let policy = RetryPolicy::new(5, Duration::from_secs(3), 2.0, 0.0)?;
        let (_, mut report) = report(1);
        let outcome = Outcome::Failed(Failure { cause: Cause::Args, message: "`argv` is missing".into() });
        assert_eq!((decide(&mut report, outcome, policy, 0.5), report.state), (None, State::Failed));
        Ok(())
    }

    #[test]
    fn an_asked_retry_is_bounded_even_without_a_policy() {
        let asked = || Outcome::Retry { after: Some(Duration::from_secs(1)), reason: "busy".into() };
        let (_, mut early) = report(ASKED_MAX);
        assert_eq!(decide(&mut early, asked(), RetryPolicy::NONE, 0.5), Some(Duration::from_secs(1)));
        let (_, mut late) = report(ASKED_MAX + 1);
        assert_eq!((decide(&mut late, asked(), RetryPolicy::NONE, 0.5), late.state), (None, State::Failed));
    }

    #[test]
    fn a_value_that_no_report_carries_fails_its_job_and_says_how_large_it_was() {
        let (job, mut done) = report(1);
        let value = Json::of(&"x".repeat(entry::MAX_LINE)).unwrap_or(Json::null());
        decide(&mut done, Outcome::Succeeded(value), RetryPolicy::NONE, 0.5);
        let sent = settlement(&mut done, &job, None, false);
        assert!(sent.lines[0].len() < 2000 && done.state == State::Failed);
        assert!(done.failure.is_some_and(|failure| failure.message.contains("bytes")));
    }

    #[test]
    fn only_a_final_report_is_replied() -> Result<(), String> {
        let policy = RetryPolicy::new(1, Duration::from_secs(3), 2.0, 0.0)?;
        let (mut job, mut first) = report(1);
        job.reply_to = Some("answers".into());
        let after = decide(&mut first, Outcome::failed("no"), policy, 0.5);
        assert!(settlement(&mut first, &job, after, false).publish.iter().all(|out| out.must));
        let (_, mut done) = report(1);
        decide(&mut done, Outcome::Succeeded(Json::null()), policy, 0.5);
        assert!(
            matches!(&settlement(&mut done, &job, None, false).publish[..], [Outgoing { to: Address::Reply(to), must: false, .. }] if to == "answers")
        );
        Ok(())
    }
}
