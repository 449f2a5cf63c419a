//! The end of a job in the words of Celery's result backend `rpc://`, so that a stock client's `get()` returns.
//!
//! Owns the table from our final states to Celery's. Pure; refuses to know how a message of Celery's is read:
//! `message/celery` does.

use serde::Serialize;
use spinor_executors::{Cause, Failure, Job, Json, Output, Report, State};

use crate::{
    broker::{Address, Outgoing},
    message::{self, MAX_BODY, Message, Properties},
};

/// What the client decodes.
#[derive(Serialize)]
struct Answer<'a> {
    task_id: &'a str,
    status: &'static str,
    result: &'a Json,
    traceback: Option<&'a str>,
    /// Tasks that this one published; ours are not told.
    children: [&'a str; 0],
}

/// An exception, which the client makes anew: a class of a module it has loaded, or one of this name.
#[derive(Serialize)]
struct Exception<'a> {
    exc_type: &'a str,
    exc_message: [&'a str; 1],
    exc_module: Option<&'a str>,
}

/// The answer to a job that came from Celery, if it did and somebody waits. `value` counts in place of the
/// report's, which may only say where the value lies.
pub fn answer(job: &Job, report: &Report, value: Option<&Json>) -> Option<Outgoing> {
    let to = job.reply_to.as_deref()?;
    let id = message::celery::task_id(&job.headers)?;
    let correlation = job.correlation_id.as_deref();
    if report.state == State::Succeeded {
        let null = Json::null();
        let value = value.or(report.value.as_ref()).unwrap_or(&null);
        let out = outgoing(to, correlation, (id, "SUCCESS"), value, None);
        if out.message.body.len() <= MAX_BODY {
            return Some(out);
        }
        let why = format!("it succeeded with a value of {} bytes, more than a message carries", value.bytes().len());
        return Some(failed(to, correlation, (id, "FAILURE"), &Exception::named("ResultTooLarge", &why), None));
    }
    let none = Failure { cause: Cause::Error, message: String::new() };
    let failure = report.failure.as_ref().unwrap_or(&none);
    let status = match report.state {
        State::Expired | State::Cancelled => "REVOKED",
        _ => "FAILURE",
    };
    let traceback = traceback(&report.stderr);
    let exception = Exception::of(report.state, failure, traceback.unwrap_or_default());
    Some(failed(to, correlation, (id, status), &exception, traceback))
}

/// The answer to a message of Celery's, in its own form or a copy of ours, that became a dead letter.
pub fn buried(message: &Message, why: &str) -> Option<Outgoing> {
    let properties: &Properties = &message.properties;
    let id = message::celery::task_id(&properties.headers)?;
    let to = properties.reply_to.as_deref().filter(|to| !to.is_empty())?;
    if message::celery::ignores_result(properties) {
        return None;
    }
    let exception = Exception::named("DeadLetter", why);
    Some(failed(to, properties.correlation_id.as_deref(), (id, "FAILURE"), &exception, None))
}

impl<'a> Exception<'a> {
    const fn named(exc_type: &'a str, message: &'a str) -> Self {
        Self { exc_type, exc_message: [message], exc_module: None }
    }

    /// What a client of Celery's would see raised.
    fn of(state: State, failure: &'a Failure, traceback: &'a str) -> Self {
        let message = failure.message.as_str();
        let of = |exc_type, exc_module| Self { exc_type, exc_message: [message], exc_module: Some(exc_module) };
        match (state, failure.cause) {
            (State::Expired, _) => Self { exc_message: ["expired"], ..of("TaskRevokedError", "celery.exceptions") },
            (State::Cancelled, _) => of("TaskRevokedError", "celery.exceptions"),
            (_, Cause::Timeout) => of("TimeLimitExceeded", "billiard.exceptions"),
            (State::Lost, _) | (_, Cause::Crash | Cause::Memory | Cause::Signal) => {
                of("WorkerLostError", "billiard.exceptions")
            }
            (_, Cause::Args) => of("TypeError", "builtins"),
            (State::Discarded, _) => said(message, traceback).unwrap_or_else(|| Self::named("Discarded", message)),
            _ => said(message, traceback).unwrap_or_else(|| Self::named("JobFailed", message)),
        }
    }
}

/// `NAME: text`, as executors in Python say an exception; their traceback names its module.
fn said<'a>(message: &'a str, traceback: &'a str) -> Option<Exception<'a>> {
    let (name, text) = message.split_once(": ").unwrap_or((message, ""));
    let is_class = name.starts_with(|one: char| one.is_ascii_uppercase())
        && name.bytes().all(|one| one.is_ascii_alphanumeric() || one == b'_');
    if !is_class {
        return None;
    }
    let module = traceback.lines().rev().find_map(|line| {
        let module = line.split(':').next()?.strip_suffix(name)?.strip_suffix('.')?;
        module.bytes().all(|one| one.is_ascii_alphanumeric() || b"_.".contains(&one)).then_some(module)
    });
    // Every class of this ending that Python itself has is an exception; a client makes others up by their name.
    let may_be_pythons = ["Error", "Exception", "Warning"].iter().any(|end| name.ends_with(end));
    Some(Exception { exc_type: name, exc_message: [text], exc_module: module.or(may_be_pythons.then_some("builtins")) })
}

/// The last it wrote to standard error, where executors leave theirs.
fn traceback(stderr: &Output) -> Option<&str> {
    let text = if stderr.tail.is_empty() { &stderr.head } else { &stderr.tail };
    (!text.is_empty()).then_some(text)
}

fn failed(
    to: &str,
    correlation: Option<&str>,
    end: (&str, &'static str),
    exception: &Exception<'_>,
    traceback: Option<&str>,
) -> Outgoing {
    outgoing(to, correlation, end, &Json::of(exception).unwrap_or(Json::null()), traceback)
}

fn outgoing(
    to: &str,
    correlation: Option<&str>,
    (task_id, status): (&str, &'static str),
    result: &Json,
    traceback: Option<&str>,
) -> Outgoing {
    let body = serde_json::to_vec(&Answer { task_id, status, result, traceback, children: [] });
    let properties = Properties {
        correlation_id: Some(correlation.unwrap_or(task_id).to_owned()),
        content_type: Some("application/json".to_owned()),
        ..Properties::default()
    };
    let message = Message { properties, body: body.unwrap_or_default().into() };
    Outgoing { to: Address::Reply(to.to_owned()), message, must: false }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::{Value, json};
    use spinor_executors::{HeaderValue, Origin, Outcome};
    use uuid::Uuid;

    use super::*;

    fn job() -> Job {
        let mut job = Job::new("images.thumbnail", "images", Json::empty());
        for (name, text) in [("task", "images.thumbnail"), ("id", "order-7")] {
            job.headers.insert(name.to_owned(), HeaderValue::Text(text.to_owned()));
        }
        (job.reply_to, job.correlation_id) = (Some("replies".to_owned()), Some("order-7".to_owned()));
        job
    }

    fn report(job: &Job) -> Report {
        let origin = Origin { consumer: "c".into(), group: "g".into(), host: "h".into() };
        Report::of(job, &origin, Uuid::now_v7(), Timestamp::now())
    }

    fn body(out: Option<Outgoing>) -> Value {
        let out = out.expect("an answer");
        assert_eq!((out.to, out.must), (Address::Reply("replies".to_owned()), false));
        assert_eq!(out.message.properties.correlation_id.as_deref(), Some("order-7"));
        serde_json::from_slice(&out.message.body).expect("JSON")
    }

    #[test]
    fn a_value_is_answered_as_it_is_also_when_the_report_only_says_where_it_lies() -> Result<(), serde_json::Error> {
        let (job, value) = (job(), Json::new(r#"{"w": 3}"#)?);
        let mut done = report(&job);
        done.end(Outcome::Succeeded(value.clone()));
        let expected = json!({
            "task_id": "order-7", "status": "SUCCESS", "result": {"w": 3}, "traceback": null, "children": []
        });
        assert_eq!(body(answer(&job, &done, None)), expected);
        done.value = None;
        assert_eq!(body(answer(&job, &done, Some(&value))), expected);
        let large = Json::of(&"x".repeat(MAX_BODY))?;
        let answered = body(answer(&job, &done, Some(&large)));
        assert_eq!(
            (&answered["status"], &answered["result"]["exc_type"]),
            (&json!("FAILURE"), &json!("ResultTooLarge"))
        );
        Ok(())
    }

    #[test]
    fn each_end_has_celerys_word_and_class() {
        let cut = "Traceback\n  in thumbnail\nimages.errors.Busy: tray: 2\n";
        let table = [
            (State::Failed, Cause::Error, "ValueError: no", "", "FAILURE", "ValueError", json!("builtins"), "no"),
            (State::Failed, Cause::Error, "Busy: tray: 2", cut, "FAILURE", "Busy", json!("images.errors"), "tray: 2"),
            (State::Failed, Cause::Error, "Busy: tray", "", "FAILURE", "Busy", json!(null), "tray"),
            (State::Failed, Cause::Error, "open: none", "", "FAILURE", "JobFailed", json!(null), "open: none"),
            (State::Failed, Cause::Args, "`w`: no", "", "FAILURE", "TypeError", json!("builtins"), "`w`: no"),
            (State::Failed, Cause::Timeout, "t", "", "FAILURE", "TimeLimitExceeded", json!("billiard.exceptions"), "t"),
            (State::Dead, Cause::Crash, "c", "", "FAILURE", "WorkerLostError", json!("billiard.exceptions"), "c"),
            (State::Lost, Cause::Crash, "l", "", "FAILURE", "WorkerLostError", json!("billiard.exceptions"), "l"),
            (State::Discarded, Cause::Error, "off", "", "FAILURE", "Discarded", json!(null), "off"),
            (
                State::Cancelled,
                Cause::Cancelled,
                "by me",
                "",
                "REVOKED",
                "TaskRevokedError",
                json!("celery.exceptions"),
                "by me",
            ),
            (
                State::Expired,
                Cause::Error,
                "it",
                "",
                "REVOKED",
                "TaskRevokedError",
                json!("celery.exceptions"),
                "expired",
            ),
        ];
        let job = job();
        for (state, cause, message, stderr, status, class, module, said) in table {
            let mut ended = report(&job);
            ended.state = state;
            ended.failure = Some(Failure { cause, message: message.to_owned() });
            ended.stderr.head = stderr.to_owned();
            let answered = body(answer(&job, &ended, None));
            assert_eq!(answered["status"], status, "{state:?}");
            let exception = json!({ "exc_type": class, "exc_message": [said], "exc_module": module });
            assert_eq!(answered["result"], exception, "{message}");
            assert_eq!(answered["traceback"].as_str().unwrap_or_default(), stderr);
        }
    }

    #[test]
    fn only_who_waits_and_came_from_celery_is_answered_in_its_words() {
        let (waits, mut silent, mut ours) = (job(), job(), job());
        silent.reply_to = None;
        ours.headers.clear();
        let mut done = report(&waits);
        done.end(Outcome::Succeeded(Json::null()));
        assert_eq!(body(answer(&waits, &done, None))["result"], json!(null));
        assert!(answer(&silent, &done, None).is_none() && answer(&ours, &done, None).is_none());
        let mut message = message::encode(&waits, false);
        assert_eq!(body(buried(&message, "why"))["result"]["exc_message"], json!(["why"]));
        message.properties.kind = None;
        assert!(buried(&message, "why").is_some());
        message.properties.headers.insert("ignore_result".to_owned(), HeaderValue::Bool(true));
        assert!(buried(&message, "why").is_none());
        assert!(buried(&message::encode(&ours, false), "why").is_none());
    }
}
