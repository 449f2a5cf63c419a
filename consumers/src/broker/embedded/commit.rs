//! Items onto the disk in one transaction, and what follows when they are there, or are not.

use std::collections::HashMap;

use super::{
    changes::Changes,
    item::{Answer, Item, Put},
    packs, row,
    store::{StoreError, place},
    subscriptions::returned,
    writer::{RESULTS, SEARCH, Writer, microseconds_now},
};
use crate::{
    broker::{PublishError, Verdict},
    message::Message,
};

/// The search copy keeps at most so many packs...
const SEARCH_PACKS: usize = 2000;
/// ...and about so many bytes; then its oldest go.
const SEARCH_BYTES: usize = 16 << 20;

/// What a transaction decided besides its items.
struct Decided {
    /// The places of the items' messages, in their order.
    sequences: Vec<u64>,
    packs: Vec<(u64, u64, Message)>,
    marks: Vec<(u64, u64)>,
    dropped: usize,
}

impl Writer {
    /// Stores the items together; when that is refused, one by one.
    pub(super) async fn flush(&mut self, mut items: Vec<Item>) {
        let error = match self.attempt(&items).await {
            Ok(decided) => return self.applied(&mut items, decided),
            Err(error) => error,
        };
        if !matches!(error, StoreError::Refused(_)) {
            return self.put_off(items, &error);
        }
        // One bad item must not fail its neighbours.
        for item in items {
            let mut one = vec![item];
            match self.attempt(&one).await {
                Ok(decided) => self.applied(&mut one, decided),
                Err(error @ StoreError::Refused(_)) => self.refused(one, &error),
                Err(error) => self.put_off(one, &error),
            }
        }
    }

    async fn attempt(&mut self, items: &[Item]) -> Result<Decided, StoreError> {
        let mut changes = Changes::new();
        let mut coming: HashMap<u64, Vec<u64>> = HashMap::new();
        let mut sequences = Vec::new();
        for item in items {
            for put in &item.puts {
                let sequence = self.store_one(put, &mut changes, &mut coming);
                sequences.push(sequence);
            }
            for delay in &item.delays {
                changes.delay(delay.id, delay.due, delay.queue, &delay.row);
            }
            for (queue, sequence) in &item.removes {
                changes.remove(*queue, *sequence);
            }
            for id in &item.undelays {
                changes.undelay(*id);
            }
            if let Answer::Settle { delivery, queue, verdict: Verdict::Ack, .. } = &item.answer
                && self.queues.get(queue).is_some_and(super::queue::Queue::durable)
            {
                changes.remove(*queue, place(delivery.tag.number).1);
            }
        }
        let packs = self.packs(items, &mut changes, &mut coming);
        let dropped = self.drop_search(&packs, &mut changes);
        let marks = self.marks(items, &coming);
        for (queue, mark) in &marks {
            changes.mark(*queue, *mark);
        }
        if changes.is_empty() && self.trouble.is_some() {
            // Nothing to write proves nothing.
            self.store.probe().await?;
        }
        self.store.write(changes).await?;
        Ok(Decided { sequences, packs, marks, dropped })
    }

    fn store_one(&mut self, put: &Put, changes: &mut Changes, coming: &mut HashMap<u64, Vec<u64>>) -> u64 {
        let Some(queue) = self.queues.get_mut(&put.queue) else { return 0 };
        let sequence = queue.reserve();
        if queue.durable() {
            changes.put(queue.id, sequence, &put.row);
            coming.entry(queue.id).or_default().push(sequence);
        }
        sequence
    }

    /// The lines of all items as packs on the report queue, and on the search queue when it is on.
    fn packs(
        &mut self,
        items: &[Item],
        changes: &mut Changes,
        coming: &mut HashMap<u64, Vec<u64>>,
    ) -> Vec<(u64, u64, Message)> {
        let mut stored = Vec::new();
        for message in packs::pack(items.iter().flat_map(|item| &item.lines)) {
            let row = row::encode(&message);
            for id in if self.search { &[RESULTS, SEARCH][..] } else { &[RESULTS] } {
                let Some(queue) = self.queues.get_mut(id) else { continue };
                let sequence = queue.reserve();
                changes.put(*id, sequence, &row);
                coming.entry(*id).or_default().push(sequence);
                stored.push((*id, sequence, message.clone()));
            }
        }
        stored
    }

    /// Makes room on the search queue: how many of its oldest go.
    fn drop_search(&self, packs: &[(u64, u64, Message)], changes: &mut Changes) -> usize {
        let Some(queue) = self.queues.get(&SEARCH) else { return 0 };
        let (mut count, mut bytes) = queue.kept();
        for (_, _, message) in packs.iter().filter(|(id, ..)| *id == SEARCH) {
            count += 1;
            bytes += message.body.len();
        }
        let over = if bytes > SEARCH_BYTES { (count / 10).max(1) } else { count.saturating_sub(SEARCH_PACKS) };
        let mut dropped = 0;
        for sequence in queue.oldest(over) {
            changes.remove(SEARCH, sequence);
            dropped += 1;
        }
        dropped
    }

    /// The marks that let everything be delivered for which there will be credit.
    fn marks(&self, items: &[Item], coming: &HashMap<u64, Vec<u64>>) -> Vec<(u64, u64)> {
        let mut freed: HashMap<u64, usize> = HashMap::new();
        let mut returning: HashMap<u64, usize> = HashMap::new();
        for item in items {
            if let Answer::Settle { delivery, queue, verdict, .. } = &item.answer {
                *freed.entry(delivery.tag.subscription).or_default() += 1;
                if *verdict == Verdict::HandBack {
                    *returning.entry(*queue).or_default() += 1;
                }
            }
        }
        let consumed = self.queues.values().filter(|queue| !queue.subscriptions.is_empty());
        consumed
            .filter_map(|queue| {
                let free: usize = queue
                    .subscriptions
                    .iter()
                    .filter_map(|id| Some(self.subscribers.get(*id)?.free(freed.get(id).copied().unwrap_or(0))))
                    .sum();
                let free = free.saturating_sub(returning.get(&queue.id).copied().unwrap_or(0));
                let mark = queue.mark_for(free, coming.get(&queue.id).map_or(&[], Vec::as_slice))?;
                Some((queue.id, mark))
            })
            .collect()
    }

    fn applied(&mut self, items: &mut Vec<Item>, decided: Decided) {
        self.out_of_trouble();
        let mut sequences = decided.sequences.into_iter();
        if let Some(search) = self.queues.get_mut(&SEARCH) {
            (0..decided.dropped).for_each(|_| search.drop_oldest());
        }
        for item in items.drain(..) {
            for (put, sequence) in item.puts.into_iter().zip(&mut sequences) {
                if let Some(queue) = self.queues.get_mut(&put.queue) {
                    queue.add(sequence, put.message);
                }
            }
            for delay in &item.delays {
                self.due = Some(self.due.map_or(delay.due, |due| due.min(delay.due)));
            }
            self.due_moved |= !item.undelays.is_empty();
            self.answered(item.answer);
        }
        for (id, sequence, message) in decided.packs {
            if let Some(queue) = self.queues.get_mut(&id) {
                queue.add(sequence, message);
            }
        }
        for (id, mark) in decided.marks {
            if let Some(queue) = self.queues.get_mut(&id) {
                queue.mark = mark;
            }
        }
    }

    fn answered(&mut self, answer: Answer) {
        // Whoever does not wait any more needs no answer.
        match answer {
            Answer::Publish { results, done, room } => {
                drop(room);
                let _ = done.send(results);
            }
            Answer::Report { done, room } => {
                drop(room);
                let _ = done.send(Ok(()));
            }
            Answer::Settle { delivery, verdict, done, .. } => {
                if let Some(id) = self.subscribers.release(&delivery.tag)
                    && let Some(queue) = self.queues.get_mut(&id)
                {
                    queue.in_hand = queue.in_hand.saturating_sub(1);
                    match verdict {
                        Verdict::Ack => self.record.settled(&delivery.tag),
                        Verdict::HandBack => {
                            self.record.given_back(&delivery);
                            queue.give_back(returned(*delivery));
                        }
                    }
                }
                let _ = done.send(Ok(()));
            }
            Answer::Own => {}
        }
    }

    /// The disk takes nothing now: publishers are told, the rest waits.
    fn put_off(&mut self, items: Vec<Item>, error: &StoreError) {
        self.in_trouble(error);
        let (waiting, told): (Vec<_>, Vec<_>) = items.into_iter().partition(Item::waits);
        self.stuck.extend(waiting);
        let error = PublishError::from(error);
        for item in told {
            item.answer.refuse(&error);
        }
    }

    /// The store refuses what is in these items.
    fn refused(&mut self, items: Vec<Item>, error: &StoreError) {
        let refused = PublishError::from(error);
        for item in items {
            match item.answer {
                Answer::Settle { delivery, done, .. } => {
                    let _ = done.send(Err(refused.clone()));
                    self.fail(*delivery);
                }
                Answer::Own => {
                    // Not again at once: it would be refused for ever.
                    self.due = self.due.map(|due| due.max(microseconds_now() + 60_000_000));
                    tracing::error!(%error, "The broker's file refuses to move a message; it stays where it is.");
                }
                answer => answer.refuse(&refused),
            }
        }
    }
}
