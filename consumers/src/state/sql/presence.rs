//! Presence as rows: one a consumer, written over at each beat.

use super::{Step, Tables, name};
use crate::{
    database::Value,
    results::ResultsError,
    state::{PRESENT_FOR, Present, StateError, micros, time},
};

impl Step<'_> {
    pub(super) async fn beat(&mut self, consumer: &str, text: &str) -> Result<(), ResultsError> {
        self.writing.run(&self.texts.beat, vec![name(consumer), Value::Text(text.to_owned())]).await.map(drop)
    }

    pub(super) async fn leave(&mut self, consumer: &str) -> Result<(), ResultsError> {
        self.writing.run(&self.texts.leave, vec![name(consumer)]).await.map(drop)
    }
}

impl Tables {
    pub(super) async fn consumers(&self) -> Result<Vec<Present>, StateError> {
        let now = self.texts.now;
        let sql = format!("SELECT beat, at, {now} FROM state_presence WHERE at > {now} - ? ORDER BY consumer");
        let mut present = Vec::new();
        for row in self.database.ask(sql, vec![Value::Int(micros(PRESENT_FOR))]).await? {
            let (text, at, now) = (row.text(0)?, row.int(1)?, row.int(2)?);
            present.extend(Present::read(&text, time(at), now - at));
        }
        Ok(present)
    }
}
