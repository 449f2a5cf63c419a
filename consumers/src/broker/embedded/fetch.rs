//! What comes from disk: messages beyond what memory keeps, delayed ones that are due, and damaged
//! ones, which become dead letters.

use spinor_executors::HeaderValue;

use super::{
    item::{Answer, Item, Put},
    queue::{KEPT, KEPT_BYTES},
    row::{self, Damage},
    writer::{DEAD, SEARCH, Writer, microseconds_now},
};
use crate::message::header;

impl Writer {
    /// Delayed messages that are due, into their queues.
    pub(super) async fn take_due(&mut self, items: &mut Vec<Item>) {
        let now = microseconds_now();
        if self.due.is_none_or(|due| due > now) {
            return;
        }
        let rows = match self.store.due(now).await {
            Ok(rows) => rows,
            Err(error) => return self.in_trouble(&error),
        };
        let mut item = Item::new(Answer::Own);
        for due in rows {
            item.undelays.push(due.id);
            let known = self.queues.contains_key(&due.queue);
            let put = match row::decode(due.row.clone()) {
                Ok(message) if !known => {
                    let why = "its queue is not there any more".to_owned();
                    self.dead(due.queue, Damage { why, remains: Box::new(message) })
                }
                Ok(message) => Put { queue: due.queue, message, row: due.row },
                Err(damage) => self.dead(due.queue, damage),
            };
            item.puts.push(put);
        }
        items.push(item);
    }

    /// When the next one is due, after some were moved.
    pub(super) async fn look_for_due(&mut self) {
        if std::mem::take(&mut self.due_moved) {
            match self.store.next_due().await {
                Ok((due, _)) => self.due = due,
                Err(error) => self.in_trouble(&error),
            }
        }
    }

    /// Fetches messages from disk for the queues that run low.
    pub(super) async fn fetch(&mut self) {
        let wanting: Vec<_> = self
            .queues
            .values()
            // The search queue is always in memory: it drops its oldest from there.
            .filter(|queue| !queue.subscriptions.is_empty() || queue.id == SEARCH)
            .filter_map(|queue| Some((queue.id, queue.wants()?)))
            .collect();
        for (id, after) in wanting {
            let limit = KEPT as u32 / 2;
            match self.store.load(id, after, limit, KEPT_BYTES / 2).await {
                Ok(rows) => self.fetched(id, rows).await,
                Err(error) => self.in_trouble(&error),
            }
        }
    }

    async fn fetched(&mut self, id: u64, rows: Vec<(u64, Vec<u8>)>) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        if rows.is_empty() {
            queue.fetched_all();
        }
        let mut damaged = Vec::new();
        for (sequence, row) in rows {
            match row::decode(row) {
                Ok(message) => queue.fetched(sequence, message),
                Err(damage) => {
                    queue.skipped(sequence);
                    damaged.push((sequence, damage));
                }
            }
        }
        for (sequence, damage) in damaged {
            let mut item = Item::new(Answer::Own);
            item.removes.push((id, sequence));
            item.puts.push(self.dead(id, damage));
            self.flush(vec![item]).await;
        }
    }

    /// A damaged message as a dead letter.
    fn dead(&self, from: u64, damage: Damage) -> Put {
        let from = self.queues.get(&from).map_or("", |queue| &queue.name);
        tracing::error!(queue = from, why = damage.why, "A stored message is damaged; it becomes a dead letter.");
        let Damage { why, remains } = damage;
        let mut message = *remains;
        let reason = format!("damaged on disk: {why}");
        let headers = &mut message.properties.headers;
        headers.insert(header::REASON.to_owned(), HeaderValue::Text(reason));
        headers.insert(header::FROM.to_owned(), HeaderValue::Text(from.to_owned()));
        let row = row::encode(&message);
        Put { queue: DEAD, message, row }
    }
}
