//! What travels on `spinor.next`: runs of jobs that were accepted, and the ends that something waits for.
//!
//! Owns the form of these messages, and which jobs and dead letters have an end to tell. Refuses to know
//! what follows: that is `trigger`'s.

pub mod inputs;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use spinor_executors::{BlobRef, Job, Json, Report, State};
use uuid::Uuid;

use crate::{
    broker::{Address, Outgoing},
    entry::RunReport,
    message::{self, Message, Properties, header},
};

/// Larger values of jobs whose end is told go to the blob store.
pub const CARRIED: usize = 32 << 10;
/// No value of such a job is carried that is larger, also when no store takes it.
pub const LARGEST_CARRIED: usize = 4 << 20;
/// At most so many members to a run.
pub const MOST_MEMBERS: usize = 10_000;

const RUN: &str = "spinor.run";
const END: &str = "spinor.end";
const AGAIN: &str = "spinor.again";

/// One message.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// A run was accepted.
    Run(Box<NewRun>),
    /// A job ended.
    End(Box<End>),
    /// What did not succeed of a run that ended is started anew.
    Again(Again),
}

/// A run of jobs as it was accepted: checked, with an id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NewRun {
    /// Its id, UUIDv7.
    pub run: Uuid,
    /// For people.
    pub name: String,
    /// What a member that fails means for the others.
    pub on_failure: OnFailure,
    /// When it was accepted.
    pub started: Timestamp,
    /// Its members, each after those it needs or not.
    pub members: Vec<Member>,
    /// Published once all members have succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub then: Option<Box<Member>>,
    /// Published at the end, however it went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finally: Option<Box<Member>>,
    /// Of a fan-out: why it has fewer members than there are items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What a member that fails means for the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// Nothing more is started.
    #[default]
    Stop,
    /// What needs it is skipped, everything else goes on.
    GoOn,
    /// Nothing more is started, and what succeeded is compensated, the last first.
    Compensate,
}

impl OnFailure {
    /// The word used everywhere.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::GoOn => "go_on",
            Self::Compensate => "compensate",
        }
    }

    /// The policy a word names.
    pub fn of(word: &str) -> Option<Self> {
        [Self::Stop, Self::GoOn, Self::Compensate].into_iter().find(|policy| policy.word() == word)
    }
}

/// One job of a run, before it is published.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// Its name within the run.
    pub name: String,
    /// The members that must have succeeded before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<String>,
    /// What it will be: its id follows from run and name, its times from its publish.
    pub job: Job,
    /// It is not delivered before this long after its publish.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    /// It expires so long after its publish.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<u64>,
    /// No args were given.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bare: bool,
    /// What undoes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compensate: Option<Box<Member>>,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// The run it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Uuid>,
    /// The job.
    pub job: Uuid,
    /// Which replay of it.
    pub replay: u32,
    /// A final state.
    pub state: State,
    /// The value of a success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Json>,
    /// Where it lies when it is large.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_ref: Option<BlobRef>,
    /// Why it did not succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When.
    pub ended: Timestamp,
}

/// A run is retried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Again {
    /// The run.
    pub run: Uuid,
    /// Which retry of it: one that was made already is not made again.
    pub replay: u32,
    /// Its jobs are not delivered before this long from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_ms: Option<u64>,
}

/// The id of a member's job.
pub fn job_id(run: Uuid, member: &str) -> Uuid {
    Uuid::new_v5(&run, member.as_bytes())
}

impl Next {
    /// The message.
    pub fn message(&self) -> Message {
        let (kind, body) = match self {
            Self::Run(run) => (RUN, serde_json::to_vec(run)),
            Self::End(end) => (END, serde_json::to_vec(end)),
            Self::Again(again) => (AGAIN, serde_json::to_vec(again)),
        };
        let properties = Properties {
            id: Some(Uuid::now_v7().to_string()),
            kind: Some(kind.to_owned()),
            content_type: Some("application/json".to_owned()),
            ..Properties::default()
        };
        // Serialising our own types cannot fail.
        Message { properties, body: body.unwrap_or_default().into() }
    }

    /// The message on its way; it must arrive.
    pub fn outgoing(&self) -> Outgoing {
        Outgoing { to: Address::Next, message: self.message(), must: true }
    }

    /// Reads a message; what is none of these is told why.
    pub fn read(message: &Message) -> Result<Self, String> {
        fn of<T: DeserializeOwned>(message: &Message) -> Result<T, String> {
            serde_json::from_slice(&message.body).map_err(|error| error.to_string())
        }
        match message.properties.kind.as_deref() {
            Some(RUN) => of(message).map(|run| Self::Run(Box::new(run))),
            Some(END) => of(message).map(|end| Self::End(Box::new(end))),
            Some(AGAIN) => of(message).map(Self::Again),
            other => Err(format!("`type` is {other:?}, which nothing on `spinor.next` has")),
        }
    }
}

impl End {
    /// By the final report of a job.
    pub fn reported(report: &Report) -> Self {
        Self {
            run: report.run,
            job: report.job,
            replay: report.replay,
            state: report.state,
            value: report.value.clone(),
            value_ref: report.value_ref,
            error: report.failure.as_ref().map(|failure| failure.message.clone()),
            ended: report.ended,
        }
    }

    /// Of a whole run, under its own id; none while it goes on.
    pub fn of_run(report: &RunReport) -> Option<Self> {
        let (ended, succeeded) = (report.ended?, report.succeeded == Some(true));
        Some(Self {
            run: None,
            job: report.run,
            replay: report.replay,
            state: if succeeded { State::Succeeded } else { State::Failed },
            value: None,
            value_ref: None,
            error: (!succeeded).then(|| "not every job of its run succeeded; see `spinor runs show`".to_owned()),
            ended,
        })
    }

    /// By the burial of a message; none when nothing waits for its end.
    pub fn buried(message: &Message, queue: &str, why: &str) -> Option<Self> {
        if !message.properties.headers.contains_key(header::NEXT) {
            return None;
        }
        let (job, replay, _) = message::attempt_of(message, queue)?;
        Some(Self {
            run: message::run_of(message),
            job,
            replay,
            state: State::Dead,
            value: None,
            value_ref: None,
            error: Some(why.to_owned()),
            ended: Timestamp::now(),
        })
    }

    /// On its way.
    pub fn outgoing(self) -> Outgoing {
        Next::End(Box::new(self)).outgoing()
    }
}

/// The end of a job in its final report, on its way, if something waits for it.
pub fn told(job: &Job, report: &Report) -> Option<Outgoing> {
    (job.next && report.state.is_final()).then(|| End::reported(report).outgoing())
}

#[cfg(test)]
mod tests {
    use spinor_executors::{Origin, Outcome};

    use super::*;

    #[test]
    fn each_message_is_read_as_it_was_written_and_values_keep_their_text() -> Result<(), Box<dyn std::error::Error>> {
        let value = Json::new(r#"{"n": 123456789012345678901234567890, "x": 1.50}"#)?;
        let mut job = Job::new("k", "q", value.clone());
        (job.run, job.next) = (Some(Uuid::now_v7()), true);
        let origin = Origin { consumer: "c".into(), group: "g".into(), host: "h".into() };
        let mut report = Report::of(&job, &origin, Uuid::now_v7(), Timestamp::now());
        assert!(told(&job, &report).is_none());
        report.end(Outcome::Succeeded(value));
        let end = Next::End(Box::new(End::reported(&report)));
        assert_eq!(told(&job, &report).map(|out| Next::read(&out.message)), Some(Ok(end)));
        let member = Member {
            name: "a".into(),
            needs: Vec::new(),
            job: job.clone(),
            delay_ms: None,
            expires_ms: Some(1),
            bare: false,
            compensate: None,
        };
        let run = NewRun {
            run: Uuid::now_v7(),
            name: "r".into(),
            on_failure: OnFailure::GoOn,
            started: Timestamp::now(),
            members: vec![member],
            then: None,
            finally: None,
            note: None,
        };
        for next in
            [Next::Run(Box::new(run)), Next::Again(Again { run: Uuid::now_v7(), replay: 1, after_ms: Some(6000) })]
        {
            assert_eq!(Next::read(&next.message()), Ok(next));
        }
        let why = Next::read(&message::encode(&job, false)).map(|_| ());
        assert!(why.is_err_and(|why| why.contains("type")));
        Ok(())
    }

    #[test]
    fn a_buried_job_tells_its_end_only_when_something_waits_for_it() {
        let mut job = Job::new("k", "q", Json::empty());
        assert_eq!(End::buried(&message::encode(&job, true), "q", "why"), None);
        (job.run, job.next, job.replay) = (Some(Uuid::now_v7()), true, 2);
        let end = End::buried(&message::encode(&job, true), "q", "why");
        let expected = (job.run, job.id, 2, State::Dead, Some("why".to_owned()));
        assert_eq!(end.map(|end| (end.run, end.job, end.replay, end.state, end.error)), Some(expected));
    }
}
