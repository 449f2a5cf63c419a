//! What is no longer needed goes, a chunk of one table in each transaction.

use super::{Answer, Operation, Step, Tables};
use crate::{results::ResultsError, state::StateError};

/// Which table's turn it is.
#[derive(Clone, Copy)]
pub enum Part {
    Marks,
    Permits,
    /// One that only has to be deleted from, by its place among the statements.
    Rows(usize),
}

impl Step<'_> {
    pub(super) async fn prune(&mut self, part: Part) -> Result<u64, ResultsError> {
        match part {
            Part::Marks => self.forget_marks().await,
            Part::Permits => self.drop_ended_permits().await,
            Part::Rows(at) => self.writing.run(&self.texts.prune[at], Vec::new()).await,
        }
    }
}

impl Tables {
    pub(super) async fn prune(&self) -> Result<u64, StateError> {
        let mut gone = 0;
        let rows = (0..self.texts.prune.len()).map(Part::Rows);
        for part in [Part::Marks, Part::Permits].into_iter().chain(rows) {
            if let Answer::Pruned(rows) = self.write(Operation::Prune(part)).await? {
                gone += rows;
            }
        }
        Ok(gone)
    }
}
