//! Claims: this attempt of a job was taken by that execution.

use uuid::Uuid;

/// The answer to a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// It belongs to this execution, since now or since before.
    Yes,
    /// Another execution took it.
    Taken {
        /// That execution, or what became of it.
        by: Uuid,
    },
}

/// Who has the claim of an execution that has ended and is about to report.
pub fn ended(execution: Uuid) -> Uuid {
    let mut bytes = execution.into_bytes();
    bytes[6] = (bytes[6] & 0x0f) | 0x80;
    Uuid::from_bytes(bytes)
}

/// Who has the claim of an execution that was given up as lost.
pub const LOST: Uuid = Uuid::max();

/// The execution whose end has this claim, if it is one.
pub fn ended_of(by: Uuid) -> Option<Uuid> {
    (by.get_version_num() == 8).then(|| {
        let mut bytes = by.into_bytes();
        bytes[6] = (bytes[6] & 0x0f) | 0x70;
        Uuid::from_bytes(bytes)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_execution_its_end_and_its_loss_are_told_apart() {
        let execution = Uuid::now_v7();
        assert_eq!(ended_of(ended(execution)), Some(execution));
        assert_eq!([execution, LOST, Uuid::nil()].map(ended_of), [None; 3]);
    }
}
