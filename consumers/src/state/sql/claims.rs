//! Claims as rows: the first insert wins.

use spinor_executors::pool::AttemptKey;
use uuid::Uuid;

use super::Step;
use crate::{database::Value, results::ResultsError, state::Claimed};

impl Step<'_> {
    pub(super) async fn claim(
        &mut self,
        (job, replay, attempt): AttemptKey,
        execution: Uuid,
        taking_over: bool,
    ) -> Result<Claimed, ResultsError> {
        let key = [Value::Id(job), Value::Int(replay.into()), Value::Int(attempt.into())];
        let row = key.iter().cloned().chain([Value::Id(execution)]).collect();
        if self.writing.run(&self.texts.claim, row).await? > 0 {
            return Ok(Claimed::Yes);
        }
        let rows = self.writing.fetch(&self.texts.claimed_by, key.to_vec()).await?;
        match rows.first().map(|row| row.id(0)).transpose()? {
            Some(by) if by != execution && !taking_over => Ok(Claimed::Taken { by }),
            Some(by) if by != execution => {
                let values = [Value::Id(execution)].into_iter().chain(key).collect();
                self.writing.run(&self.texts.take_over, values).await?;
                Ok(Claimed::Yes)
            }
            Some(_) => Ok(Claimed::Yes),
            // It was pruned between the two statements: as old as that it says nothing.
            None => Err(ResultsError::Unavailable("a claim was removed just now".to_owned())),
        }
    }

    pub(super) async fn pass_claim(
        &mut self,
        (job, replay, attempt): AttemptKey,
        from: Uuid,
        to: Uuid,
    ) -> Result<bool, ResultsError> {
        let key = [Value::Id(job), Value::Int(replay.into()), Value::Int(attempt.into())];
        let rows = self.writing.fetch(&self.texts.claimed_by, key.to_vec()).await?;
        match rows.first().map(|row| row.id(0)).transpose()? {
            Some(by) if by == from => {
                let values = [Value::Id(to)].into_iter().chain(key).collect();
                self.writing.run(&self.texts.take_over, values).await?;
                Ok(true)
            }
            by => Ok(by == Some(to)),
        }
    }
}
