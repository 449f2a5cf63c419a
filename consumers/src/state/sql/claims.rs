//! Claims as rows: the first insert wins.

use spinor_executors::pool::AttemptKey;
use uuid::Uuid;

use super::Step;
use crate::{database::Value, results::ResultsError, state::Claimed};

impl Step<'_> {
    pub(super) async fn claim(
        &mut self,
        key: AttemptKey,
        execution: Uuid,
        taking_over: bool,
    ) -> Result<Claimed, ResultsError> {
        let row = values(key).into_iter().chain([Value::Id(execution)]).collect();
        if self.writing.run(&self.texts.claim, row).await? > 0 {
            return Ok(Claimed::Yes);
        }
        match self.claimant(key).await? {
            Some(by) if by != execution && !taking_over => Ok(Claimed::Taken { by }),
            Some(by) if by != execution => self.hand_over(key, execution).await.map(|()| Claimed::Yes),
            Some(_) => Ok(Claimed::Yes),
            // It was pruned between the two statements: as old as that it says nothing.
            None => Err(ResultsError::Unavailable("a claim was removed just now".to_owned())),
        }
    }

    pub(super) async fn pass_claim(&mut self, key: AttemptKey, from: Uuid, to: Uuid) -> Result<bool, ResultsError> {
        match self.claimant(key).await? {
            Some(by) if by == from => self.hand_over(key, to).await.map(|()| true),
            Some(by) => Ok(by == to),
            None => self.claim(key, to, false).await.map(|claimed| claimed == Claimed::Yes),
        }
    }

    async fn claimant(&mut self, key: AttemptKey) -> Result<Option<Uuid>, ResultsError> {
        let rows = self.writing.fetch(&self.texts.claimed_by, values(key).to_vec()).await?;
        rows.first().map(|row| row.id(0)).transpose()
    }

    async fn hand_over(&mut self, key: AttemptKey, to: Uuid) -> Result<(), ResultsError> {
        let row = [Value::Id(to)].into_iter().chain(values(key)).collect();
        self.writing.run(&self.texts.take_over, row).await.map(drop)
    }
}

fn values((job, replay, attempt): AttemptKey) -> [Value; 3] {
    [Value::Id(job), Value::Int(replay.into()), Value::Int(attempt.into())]
}
