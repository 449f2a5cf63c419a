//! Permits as rows, counted in the row of their limit.
//!
//! Whoever changes a limit's permits holds its row until the commit: then `held` is the number of
//! its permits, those whose lease ended included. They are removed when somebody finds it full.

use uuid::Uuid;

use super::{Step, Tables, name};
use crate::{
    database::Value,
    results::ResultsError,
    state::{
        Admission, InUse, StateError,
        permit::{FULL, Measure},
    },
};

/// What is to be written for one limit once all admit.
struct Change<'a> {
    measure: &'a Measure,
    held: i64,
    due: i64,
}

impl Step<'_> {
    pub(super) async fn acquire(
        &mut self,
        measures: &[Measure],
        owner: Uuid,
        lease: i64,
    ) -> Result<Admission, ResultsError> {
        let mut changes = Vec::with_capacity(measures.len());
        for measure in measures {
            match self.admit(measure, owner).await? {
                Ok(change) => changes.push(change),
                Err(after) => return Ok(Admission::Later { key: measure.key.clone(), after }),
            }
        }
        for Change { measure, held, due } in changes {
            let values = vec![Value::Int(held), Value::Int(due), name(&measure.name)];
            self.writing.run(&self.texts.use_limit, values).await?;
            let row = vec![name(&measure.name), Value::Id(owner), Value::Int(lease)];
            self.writing.run(&self.texts.put_permit, row).await?;
        }
        Ok(Admission::Granted)
    }

    /// Locks the limit and judges it.
    async fn admit<'a>(
        &mut self,
        measure: &'a Measure,
        owner: Uuid,
    ) -> Result<Result<Change<'a>, std::time::Duration>, ResultsError> {
        let (mut held, due, now) = self.limit(&measure.name).await?;
        let own = vec![name(&measure.name), Value::Id(owner)];
        let own = self.writing.fetch(&self.texts.permit, own).await?;
        let own = own.first().map(|row| row.int(0)).transpose()?;
        if own.is_some_and(|until| until > now) {
            return Ok(Ok(Change { measure, held, due }));
        }
        // Its own permit, whose lease ended, makes room for the new one.
        let others = |held: i64| held - i64::from(own.is_some());
        if let Some(at_once) = measure.at_once
            && others(held) >= at_once
        {
            let ended = vec![name(&measure.name), Value::Id(owner)];
            let ended = self.writing.run(&self.texts.drop_ended_permits, ended).await?;
            let ended = i64::try_from(ended).unwrap_or(0);
            if ended > 0 {
                held -= ended;
                self.writing.run(&self.texts.return_permits, vec![Value::Int(ended), name(&measure.name)]).await?;
            }
            if others(held) >= at_once {
                return Ok(Err(FULL));
            }
        }
        Ok(measure.next(due, now).map(|due| Change { measure, held: others(held) + 1, due }))
    }

    /// Locks a limit's row, making it as needed: held, due and the clock.
    async fn limit(&mut self, limit: &str) -> Result<(i64, i64, i64), ResultsError> {
        for _ in 0..2 {
            let rows = self.writing.fetch(&self.texts.limit, vec![name(limit)]).await?;
            if let Some(row) = rows.first() {
                return Ok((row.int(0)?, row.int(1)?, row.int(2)?));
            }
            self.writing.run(&self.texts.new_limit, vec![name(limit)]).await?;
        }
        Err(ResultsError::Unavailable("a limit was removed just now".to_owned()))
    }

    pub(super) async fn renew(&mut self, owners: &[Uuid], lease: i64) -> Result<Vec<Uuid>, ResultsError> {
        let mut gone = Vec::new();
        for owner in owners {
            let values = vec![Value::Int(lease), Value::Id(*owner)];
            if self.writing.run(&self.texts.renew_permits, values).await? == 0 {
                gone.push(*owner);
            }
        }
        Ok(gone)
    }

    pub(super) async fn release(&mut self, owner: Uuid) -> Result<(), ResultsError> {
        for row in self.writing.fetch(&self.texts.permits_of, vec![Value::Id(owner)]).await? {
            self.give_back(row.blob(0)?, owner, i64::MAX).await?;
        }
        Ok(())
    }

    /// Removes a permit whose lease ends before `until`, under the lock of its limit.
    async fn give_back(&mut self, limit: Vec<u8>, owner: Uuid, until: i64) -> Result<u64, ResultsError> {
        let limit = Value::Blob(limit);
        // The lock comes first, in the order of every other step.
        self.writing.fetch(&self.texts.limit, vec![limit.clone()]).await?;
        let key = vec![limit.clone(), Value::Id(owner), Value::Int(until)];
        let gone = self.writing.run(&self.texts.drop_permit, key).await?;
        if gone > 0 {
            self.writing.run(&self.texts.return_permits, vec![Value::Int(1), limit]).await?;
        }
        Ok(gone)
    }

    /// Removes permits whose lease ended and whom nobody was in the way of.
    pub(super) async fn drop_ended_permits(&mut self) -> Result<u64, ResultsError> {
        let mut ended = Vec::new();
        for row in self.writing.fetch(&self.texts.ended_permits, Vec::new()).await? {
            ended.push((row.blob(0)?, row.id(1)?, row.int(2)?));
        }
        // Locks are taken by name, as everywhere.
        ended.sort_unstable();
        let mut gone = 0;
        for (limit, owner, now) in ended {
            gone += self.give_back(limit, owner, now).await?;
        }
        Ok(gone)
    }
}

impl Tables {
    pub(super) async fn in_use(&self, most: u32) -> Result<Vec<InUse>, StateError> {
        let now = self.texts.now;
        let sql = format!(
            "SELECT name, (SELECT COUNT(*) FROM state_permits WHERE state_permits.name = state_limits.name AND until > {now}), \
             due, {now} FROM state_limits ORDER BY name LIMIT ?"
        );
        let mut in_use = Vec::new();
        for row in self.database.ask(sql, vec![Value::Int(most.into())]).await? {
            let key = String::from_utf8_lossy(&row.blob(0)?).into_owned();
            let held = row.int(1)?.unsigned_abs();
            let ahead = u64::try_from(row.int(2)? - row.int(3)?).unwrap_or(0);
            in_use.push(InUse { key, held, due_in: std::time::Duration::from_micros(ahead) });
        }
        Ok(in_use)
    }

    pub(super) async fn holders(&self, limit: &str, most: u32) -> Result<Vec<Uuid>, StateError> {
        let now = self.texts.now;
        let sql =
            format!("SELECT owner FROM state_permits WHERE name = ? AND until > {now} ORDER BY until, owner LIMIT ?");
        let rows = self.database.ask(sql, vec![name(limit), Value::Int(most.into())]).await?;
        Ok(rows.iter().map(|row| row.id(0)).collect::<Result<_, _>>()?)
    }
}
