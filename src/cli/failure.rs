//! How a command ends when it does not end well: an exit code and one or two lines.

use crate::{api::listen::ListenError, client::ClientError, config::Problems};

/// Done.
pub const DONE: u8 = 0;
/// It was tried, and failed.
pub const FAILED: u8 = 1;
/// The arguments, the configuration or the input are wrong.
pub const USAGE: u8 = 2;
/// Nobody answers, or nothing could be started, or it was accepted and its end is not known.
pub const UNREACHABLE: u8 = 3;

/// Why a command ends with something else than 0.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The exit code.
    pub code: u8,
    /// What happened, where, what to do next.
    pub message: String,
}

impl Failure {
    /// It was tried, and failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { code: FAILED, message: message.into() }
    }

    /// The arguments or the input are wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { code: USAGE, message: message.into() }
    }

    /// Nobody answers.
    pub fn unreachable(message: impl Into<String>) -> Self {
        Self { code: UNREACHABLE, message: message.into() }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let code = match &error {
            ClientError::Unreachable { .. } => UNREACHABLE,
            // A field is wrong: what was typed is.
            ClientError::Refused(problem) if matches!(problem.status, 400 | 413 | 422) => USAGE,
            // So is a name that nothing has; an id may well have been right.
            ClientError::Refused(problem) if problem.status == 404 && problem.field.is_some() => USAGE,
            ClientError::Refused(_) | ClientError::Failed { .. } => FAILED,
        };
        Self { code, message: error.to_string() }
    }
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        Self::usage(problems.to_string())
    }
}

impl From<ListenError> for Failure {
    fn from(error: ListenError) -> Self {
        Self::failed(error.to_string())
    }
}
