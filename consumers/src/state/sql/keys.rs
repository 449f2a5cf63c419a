//! Unique keys as rows: the first insert wins, and a row whose time is over counts as none.

use uuid::Uuid;

use super::{Step, Tables, name};
use crate::{
    database::Value,
    results::ResultsError,
    state::{Key, KeyFilter, KeyTaken, OnTaken, StateError, time},
};

impl Step<'_> {
    pub(super) async fn take_key(
        &mut self,
        key: &str,
        job: Uuid,
        lasting: i64,
        on_taken: OnTaken,
    ) -> Result<KeyTaken, ResultsError> {
        let row = vec![name(key), Value::Id(job), Value::Int(lasting)];
        if self.writing.run(&self.texts.new_key, row).await? > 0 {
            return Ok(KeyTaken::Mine);
        }
        let rows = self.writing.fetch(&self.texts.key, vec![name(key)]).await?;
        let Some(row) = rows.first() else {
            return Err(ResultsError::Unavailable("a key was freed just now".to_owned()));
        };
        let (holder, until, now) = (row.id(0)?, row.int(1)?, row.int(2)?);
        let over = until <= now;
        if !over && holder == job {
            return Ok(KeyTaken::Mine);
        }
        if !over && on_taken == OnTaken::Keep {
            return Ok(KeyTaken::By { job: holder, until: time(until) });
        }
        self.writing.run(&self.texts.give_key, vec![Value::Id(job), Value::Int(lasting), name(key)]).await?;
        Ok(if over { KeyTaken::Mine } else { KeyTaken::Replaced { job: holder } })
    }

    pub(super) async fn free_key(&mut self, key: &str, job: Uuid) -> Result<bool, ResultsError> {
        self.writing.run(&self.texts.free_key, vec![name(key), Value::Id(job)]).await.map(|rows| rows > 0)
    }
}

impl Tables {
    pub(super) async fn keys(&self, filter: &KeyFilter) -> Result<Vec<Key>, StateError> {
        let now = self.texts.now;
        // No UTF-8 holds this byte: it lies behind every name with the prefix.
        let beyond = [filter.prefix.as_bytes(), &[0xff]].concat();
        let mut sql = format!("SELECT name, job, until FROM state_keys WHERE name >= ? AND name < ? AND until > {now}");
        let mut values = vec![name(&filter.prefix), Value::Blob(beyond)];
        if let Some(after) = &filter.after {
            sql.push_str(" AND name > ?");
            values.push(name(after));
        }
        sql.push_str(" ORDER BY name LIMIT ?");
        values.push(Value::Int(filter.limit.into()));
        let mut keys = Vec::new();
        for row in self.database.ask(sql, values).await? {
            let text = String::from_utf8_lossy(&row.blob(0)?).into_owned();
            keys.push(Key { name: text, job: row.id(1)?, until: time(row.int(2)?) });
        }
        Ok(keys)
    }
}
