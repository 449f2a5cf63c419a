//! How a job is carried: one plain message, the same for every broker.
//!
//! Owns the message's fields and the `spinor-` header names; `docs/message.md` is its
//! specification. Refuses to know how a broker writes them down.

pub(crate) mod celery;
mod past;
mod wire;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use spinor_executors::{HeaderValue, Headers};

pub use past::{Past, Probation};
pub(crate) use wire::identity;
pub use wire::{Decoded, Rubbish, attempt_of, decode, encode, encode_claimed, kind_of, run_of};

/// The largest body we send, in bytes. RabbitMQ 4 refuses more than 16 MiB.
pub const MAX_BODY: usize = 8 << 20;

/// A message as any AMQP client could have published it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    /// Everything but the body.
    pub properties: Properties,
    /// The body: for a job, its args.
    pub body: Bytes,
}

/// The standard properties that mean something to us, and the headers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Properties {
    /// `message_id`: the job's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// `type`: the job's kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// `correlation_id`: echoed in the reply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// `reply_to`: the queue that gets the report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// `priority`, 0 to 9.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// `timestamp` in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<u64>,
    /// `content_type`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// `app_id`: the publishing program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_id: Option<String>,
    /// `expiration` in milliseconds, as text. Never sent by us: at first sight it becomes
    /// `spinor-expires-at`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expiration: Option<String>,
    /// Headers, ours and others'.
    #[serde(skip_serializing_if = "Headers::is_empty")]
    pub headers: Headers,
}

impl Properties {
    /// A header's text.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.headers.get(name) {
            Some(HeaderValue::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// A header's whole number.
    pub fn int(&self, name: &str) -> Option<i64> {
        match self.headers.get(name) {
            Some(HeaderValue::Int(number)) => Some(*number),
            _ => None,
        }
    }
}

/// The names of our headers.
pub mod header {
    /// What they all start with.
    pub const PREFIX: &str = "spinor-";
    /// The attempt, from 1.
    pub const ATTEMPT: &str = "spinor-attempt";
    /// The replay, from 0.
    pub const REPLAY: &str = "spinor-replay";
    /// Microseconds since 1970.
    pub const CREATED: &str = "spinor-created";
    /// Microseconds since 1970.
    pub const EXPIRES_AT: &str = "spinor-expires-at";
    /// JSON: `{"soft_ms": .., "hard_ms": ..}`.
    pub const TIMEOUT: &str = "spinor-timeout";
    /// JSON: `{"max": .., "first_ms": .., "factor": .., "jitter": ..}`.
    pub const RETRY: &str = "spinor-retry";
    /// JSON: `{"key": .., "until_end": ..}`; the key was taken for this job.
    pub const UNIQUE: &str = "spinor-unique";
    /// JSON: a list of names of limits.
    pub const LIMITS: &str = "spinor-limits";
    /// JSON: `{"sha256": .., "size": ..}`; the args lie in the blob store, and the body is `null`.
    pub const ARGS_REF: &str = "spinor-args-ref";
    /// The run's UUID.
    pub const RUN: &str = "spinor-run";
    /// The name within the run.
    pub const MEMBER: &str = "spinor-member";
    /// Something waits for the job's end: whoever settles it publishes it for the part `trigger`.
    pub const NEXT: &str = "spinor-next";
    /// The args are an envelope with values that lie in the blob store.
    pub const INPUTS: &str = "spinor-inputs";
    /// A foreign id that is no UUID.
    pub const EXTERNAL_ID: &str = "spinor-external-id";
    /// Present when a `queued` report was sent for the job.
    pub const JOURNALED: &str = "spinor-journaled";
    /// When a consumer first had no executor for the kind: microseconds since 1970.
    pub const UNKNOWN_SINCE: &str = "spinor-unknown-since";
    /// In a delay tier: not to be run before this instant, microseconds since 1970.
    pub const NOT_BEFORE: &str = "spinor-not-before";
    /// It may be a copy: take the claim before it runs.
    pub const CLAIM: &str = "spinor-claim";
    /// It continues a delivery whose attempt may have been claimed.
    pub const AGAIN: &str = "spinor-again";
    /// It runs at most once, may have run, and waits for a report of that: since when, microseconds since 1970.
    pub const DOUBTED: &str = "spinor-doubted";
    /// How often it came while a limit was full.
    pub const BOUNCES: &str = "spinor-bounces";
    /// The boot id of the consumer that holds it while it runs.
    pub const HOLDER: &str = "spinor-holder";
    /// That consumer's name.
    pub const HELD_BY: &str = "spinor-held-by";
    /// How it was started after it came back: `together`, `alone` or `passed`.
    pub const PROBATION: &str = "spinor-probation";
    /// Consumers that died while they ran it alone.
    pub const CRASHES: &str = "spinor-crashes";
    /// Times it came back from a dead consumer that prove nothing.
    pub const RETURNS: &str = "spinor-returns";
    /// On a dead letter: why.
    pub const REASON: &str = "spinor-reason";
    /// On a dead letter: the queue it came from.
    pub const FROM: &str = "spinor-from";
    /// On a dead letter: the consumer that buried it.
    pub const BURIED_BY: &str = "spinor-buried-by";
    /// On a dead letter: when, microseconds since 1970.
    pub const BURIED_AT: &str = "spinor-buried-at";
    /// On a dead letter: the version of the program that buried it.
    pub const VERSION: &str = "spinor-version";
    /// W3C trace context.
    pub const TRACE: &str = "traceparent";
}
