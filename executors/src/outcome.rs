//! What an executor answers. Expected endings are values, not errors.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Json;

/// An executor's whole answer for one execution.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It did what it should; the value is kept with the record.
    Succeeded(Json),
    /// It failed; the retry policy decides what follows.
    Failed(Failure),
    /// Run it again, after this long or by policy when `None`.
    Retry {
        /// Delay; the policy's when `None`.
        after: Option<Duration>,
        /// Why.
        reason: String,
    },
    /// Never run it again.
    Discard {
        /// Why.
        reason: String,
    },
}

impl Outcome {
    /// A failure by the executor's own word.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed(Failure { cause: Cause::Error, message: message.into() })
    }
}

/// Why an execution failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Failure {
    /// The class of the failure, for those who group and decide.
    pub cause: Cause,
    /// For people: what happened, in a line or a few.
    pub message: String,
}

impl Failure {
    /// The arguments do not fit.
    pub fn args(message: impl Into<String>) -> Self {
        Self { cause: Cause::Args, message: message.into() }
    }
}

/// The class of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The executor said so.
    Error,
    /// The arguments do not fit the kind; running again cannot help.
    Args,
    /// A process ended with a status that is not success.
    Exit,
    /// A process was ended by a signal nobody here sent.
    Signal,
    /// It ran past its limit and was ended.
    Timeout,
    /// Its processes held more memory than they may, and were ended.
    Memory,
    /// The executor's code panicked.
    Panic,
    /// The process that ran it died under it.
    Crash,
    /// It was cut in the middle, and may not be repeated by itself.
    Interrupted,
    /// Cancelled by a person or a drain.
    Cancelled,
}
