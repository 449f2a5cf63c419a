//! Claims: this attempt of a job was taken by that execution.

use uuid::Uuid;

/// The answer to a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// It belongs to this execution, since now or since before.
    Yes,
    /// Another execution took it.
    Taken {
        /// That execution.
        by: Uuid,
    },
}
