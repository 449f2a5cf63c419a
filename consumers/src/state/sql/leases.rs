//! Leases as rows that stay, because an epoch must never come again.

use uuid::Uuid;

use super::{Step, name};
use crate::{database::Value, results::ResultsError};

impl Step<'_> {
    pub(super) async fn lease(&mut self, lease: &str, owner: Uuid, lasting: i64) -> Result<Option<u64>, ResultsError> {
        let mut rows = self.writing.fetch(&self.texts.lease, vec![name(lease)]).await?;
        if rows.is_empty() {
            let row = vec![name(lease), Value::Id(owner), Value::Int(lasting)];
            if self.writing.run(&self.texts.new_lease, row).await? > 0 {
                return Ok(Some(1));
            }
            rows = self.writing.fetch(&self.texts.lease, vec![name(lease)]).await?;
        }
        let Some(row) = rows.first() else {
            return Err(ResultsError::Unavailable("a lease was removed just now".to_owned()));
        };
        let (holder, epoch, until, now) = (row.id(0)?, row.int(1)?, row.int(2)?, row.int(3)?);
        if holder != owner && until > now {
            return Ok(None);
        }
        let epoch = if holder == owner { epoch } else { epoch + 1 };
        let values = vec![Value::Id(owner), Value::Int(epoch), Value::Int(lasting), name(lease)];
        self.writing.run(&self.texts.put_lease, values).await?;
        Ok(Some(epoch.unsigned_abs()))
    }

    pub(super) async fn give_up(&mut self, lease: &str, owner: Uuid) -> Result<(), ResultsError> {
        self.writing.run(&self.texts.end_lease, vec![name(lease), Value::Id(owner)]).await.map(drop)
    }
}
