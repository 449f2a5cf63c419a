//! The job that a replay publishes: out of the record, or out of a dead letter. Pure.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use spinor_executors::{Job, Json};

use crate::{
    message::{self, Message, header},
    results::DeadLetter,
};

/// What is changed by a replay. Empty = nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Edit {
    /// Another kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Another queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// Other arguments.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub args: Option<Json>,
}

/// `null` is an argument like any other; only what is absent changes nothing.
fn given<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Json>, D::Error> {
    Json::deserialize(from).map(Some)
}

/// What a replay would publish is no job, or too large for one: which field, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct NoJob {
    /// The field of the [`Edit`] that would mend it, if one would.
    pub field: Option<&'static str>,
    /// What is wrong, and what to do.
    pub why: String,
}

/// The job in a dead letter's message; what is edited counts in place of what made it rubbish.
pub fn job_of(mut message: Message, letter: &DeadLetter, edit: &Edit) -> Result<Job, NoJob> {
    let no = |field, why: String| Err(NoJob { field, why });
    if letter.attempt == 0 {
        return no(None, "this dead letter is a line of a report, which is no job; read it, then delete it".to_owned());
    }
    if let Some(args) = &edit.args {
        // What is given is in our form, whatever the message's.
        message.properties.kind = message::kind_of(&message.properties).map(str::to_owned);
        message.body = args.bytes().clone();
        // What is given counts, not what lies elsewhere.
        message.properties.headers.remove(header::ARGS_REF);
        message.properties.headers.remove(header::INPUTS);
    }
    if message::kind_of(&message.properties).is_none() && edit.kind.is_none() {
        return no(Some("kind"), "the message names no kind; give one".to_owned());
    }
    message.properties.expiration = None;
    message.properties.headers.remove(header::EXPIRES_AT);
    let queue = if letter.queue.is_empty() { edit.queue.as_deref().unwrap_or_default() } else { &letter.queue };
    if queue.is_empty() {
        return no(Some("queue"), "it is not known which queue the message came from; give one".to_owned());
    }
    match message::decode(&message, queue, edit.kind.as_deref(), Timestamp::now()) {
        // Rubbish without an id was buried under a fresh one.
        Ok(decoded) => Ok(Job { id: letter.job, ..decoded.job }),
        Err(rubbish) if rubbish.0.starts_with("the body is no JSON") => {
            no(Some("args"), format!("{rubbish}; give args"))
        }
        Err(rubbish) => no(None, format!("the message is no job: {rubbish}; publish a new job instead")),
    }
}

/// The job as it starts anew: at its first attempt, without the time by which it had to start.
pub fn anew(mut job: Job, replay: u32, edit: &Edit) -> Result<Job, NoJob> {
    job.replay = replay;
    job.attempt = 1;
    (job.due, job.expires_at) = (None, None);
    if let Some(kind) = &edit.kind {
        job.kind.clone_from(kind);
    }
    if let Some(queue) = &edit.queue {
        job.queue.clone_from(queue);
    }
    if let Some(args) = &edit.args {
        job.args = args.clone();
        (job.args_ref, job.inputs) = (None, false);
    }
    if job.args.bytes().len() > message::MAX_BODY {
        let why = format!("{} bytes, at most {}", job.args.bytes().len(), message::MAX_BODY);
        return Err(NoJob { field: Some("args"), why });
    }
    Ok(job)
}

/// Its message: it may be a copy of another replay with this number, so it is claimed.
pub fn message(job: &Job) -> Message {
    message::encode_claimed(job, true)
}

#[cfg(test)]
mod tests {
    use spinor_executors::HeaderValue;

    use super::*;
    use crate::message::{Past, Probation, Properties};

    fn letter(job: &Job) -> DeadLetter {
        DeadLetter { job: job.id, attempt: 1, queue: "images".into(), ..DeadLetter::default() }
    }

    fn job() -> Job {
        Job::new("image.resize", "images", Json::empty())
    }

    #[test]
    fn args_that_are_given_count_in_place_of_those_that_lie_elsewhere() -> Result<(), Box<dyn std::error::Error>> {
        let blob = spinor_executors::BlobRef { sha256: spinor_executors::Sha256([7; 32]), size: 300_000 };
        let large = Job { args: Json::null(), args_ref: Some(blob), ..job() };
        let edit = Edit { args: Some(Json::new("[1]")?), ..Edit::default() };
        let of_letter = job_of(message::encode(&large, true), &letter(&large), &edit)?;
        for again in [anew(of_letter, 1, &edit)?, anew(large.clone(), 1, &edit)?] {
            assert_eq!((again.args.text(), again.args_ref), ("[1]", None));
            assert_eq!(&message(&again).body[..], b"[1]");
        }
        let same = anew(large.clone(), 1, &Edit::default())?;
        assert_eq!(same.args_ref, large.args_ref);
        Ok(())
    }

    #[test]
    fn a_replay_starts_at_its_first_attempt_and_carries_no_charge() -> Result<(), Box<dyn std::error::Error>> {
        let mut parked = Job { attempt: 4, expires_at: Some(Timestamp::now()), ..job() };
        parked.headers.insert("x-tenant".into(), HeaderValue::Text("blue".into()));
        let mut buried = message::encode(&parked, true);
        let past = Past { probation: Some(Probation::Alone), crashes: 2, returns: 1, ..Past::default() };
        past.write(&mut buried.properties.headers);
        let again = anew(job_of(buried, &letter(&parked), &Edit::default())?, 1, &Edit::default())?;
        assert_eq!((again.id, again.attempt, again.replay, again.expires_at), (parked.id, 1, 1, None));
        let message = message(&again);
        assert_eq!(Past::of(&message.properties), Past::default());
        assert!(message.properties.headers.contains_key(header::CLAIM));
        assert_eq!(message.properties.text("x-tenant"), Some("blue"));
        Ok(())
    }

    #[test]
    fn rubbish_becomes_a_job_when_what_is_missing_is_given_and_else_says_what_is() {
        let (known, edit) = (letter(&job()), Edit::default());
        let kind = Properties { kind: Some("noop".into()), ..Properties::default() };
        let nameless = || Message { properties: Properties::default(), body: "{}".into() };
        let torn = || Message { properties: kind.clone(), body: "{".into() };
        let field = |made: Result<Job, NoJob>| made.map_err(|no| no.field).err();
        assert_eq!(field(job_of(nameless(), &known, &edit)), Some(Some("kind")));
        assert_eq!(field(job_of(torn(), &known, &edit)), Some(Some("args")));
        let edited = Edit { kind: Some("noop".into()), args: Some(Json::null()), ..edit.clone() };
        assert!(job_of(nameless(), &known, &edited).is_ok_and(|job| job.kind == "noop" && job.id == known.job));
        assert!(job_of(torn(), &known, &edited).is_ok_and(|job| job.args == Json::null()));
        let lost = DeadLetter { queue: String::new(), ..known.clone() };
        assert_eq!(field(job_of(torn(), &lost, &edited)), Some(Some("queue")));
        let line = DeadLetter { attempt: 0, ..known.clone() };
        assert_eq!(field(job_of(nameless(), &line, &edited)), Some(None));
        let mut wrong = torn();
        wrong.properties.headers.insert(header::RETRY.to_owned(), HeaderValue::Int(1));
        assert_eq!(field(job_of(wrong, &known, &edited)), Some(None));
    }

    #[test]
    fn args_that_are_null_are_given_and_unknown_fields_are_refused() -> Result<(), serde_json::Error> {
        assert_eq!(serde_json::from_str::<Edit>(r#"{"args": null}"#)?.args, Some(Json::null()));
        assert_eq!(serde_json::from_str::<Edit>("{}")?, Edit::default());
        assert!(serde_json::from_str::<Edit>(r#"{"arg": 1}"#).is_err());
        Ok(())
    }
}
