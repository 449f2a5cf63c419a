//! What was asked of the broker, into items for the flush; what needs no disk is done here.

use std::time::Duration;

use super::{
    inbox::{Done, Op, Parcel},
    item::{Answer, Delay, Item, Put},
    queue::{Purpose, Queue},
    subscriptions::{returned, untaken},
    writer::{DEAD, NEXT, RESULTS, SEARCH, Writer, microseconds_now},
};
use crate::{
    broker::{
        Address, Backlog, BrokerError, Delivery, PublishError, QueueStats, RESERVED, Subscription, Verdict, is_reserved,
    },
    entry::MAX_LINE,
};

/// Where an address leads.
enum Place {
    Queue(u64),
    Later(u64, Duration),
    /// Nobody wants it.
    Away,
}

impl Writer {
    /// One operation.
    pub(super) async fn admit(&mut self, op: Op, items: &mut Vec<Item>) {
        match op {
            Op::Publish { parcels, done, room } => {
                self.open_lanes(&parcels).await;
                items.extend(self.publish(parcels, done, room));
            }
            Op::Settle { delivery, lines, parcels, verdict, done } => {
                self.open_lanes(&parcels).await;
                items.extend(self.settle(delivery, lines, parcels, verdict, done));
            }
            Op::Report { lines, done, room } => {
                let mut item = Item::new(Answer::Report { done, room });
                match too_large(&lines) {
                    Some(error) => item.answer.refuse(&error),
                    None => {
                        item.lines = lines;
                        items.push(item);
                    }
                }
            }
            Op::Declare { names, done } => drop(done.send(self.declare(names).await)),
            Op::Consume { from, credit, done } => {
                // A caller that is gone drops the subscription, and so ends it.
                drop(done.send(self.consume(&from, credit)));
            }
            Op::Credit { subscription, credit } => self.subscribers.credit(subscription, credit),
            Op::Cancel { subscription, done } => {
                self.cancel(subscription);
                let _ = done.send(());
            }
            Op::Dropped { subscription, left } => self.dropped(subscription, left),
            Op::Stats { names, done } => drop(done.send(self.stats(&names))),
            Op::Backlog { done } => drop(done.send(self.backlog())),
            Op::Close { done } => self.closing.push(done),
        }
    }

    fn publish(
        &mut self,
        parcels: Vec<Parcel>,
        done: tokio::sync::oneshot::Sender<Vec<Result<(), PublishError>>>,
        room: Option<tokio::sync::OwnedSemaphorePermit>,
    ) -> Option<Item> {
        if let Some(trouble) = &self.trouble {
            let results = parcels.iter().map(|_| Err(trouble.why.clone())).collect();
            let _ = done.send(results);
            return None;
        }
        let mut item = Item::new(Answer::Own);
        let results = parcels.into_iter().map(|parcel| self.parcel(parcel, &mut item)).collect();
        item.answer = Answer::Publish { results, done, room };
        Some(item)
    }

    fn settle(
        &mut self,
        delivery: Box<Delivery>,
        lines: Vec<bytes::Bytes>,
        parcels: Vec<Parcel>,
        verdict: Verdict,
        done: Done,
    ) -> Option<Item> {
        let mut item = Item::new(Answer::Own);
        let Some(queue) = self.subscribers.holds(&delivery.tag) else {
            // Its link is gone: what was seen is still reported, the redelivery carries the future.
            item.lines = lines;
            item.answer = Answer::Report { done, room: None };
            return Some(item);
        };
        let mut failed = too_large(&lines);
        for parcel in parcels {
            let must = parcel.must;
            let result = self.parcel(parcel, &mut item);
            if must && failed.is_none() {
                failed = result.err();
            }
        }
        if let Some(error) = failed {
            let _ = done.send(Err(error));
            self.fail(*delivery);
            return None;
        }
        item.lines = lines;
        item.answer = Answer::Settle { delivery, queue, verdict, done };
        Some(item)
    }

    /// A settle failed: the delivery goes back in a moment, so that it does not spin.
    pub(super) fn fail(&mut self, delivery: Delivery) {
        if let Some(queue) = self.subscribers.release(&delivery.tag) {
            self.give_back_later(queue, returned(delivery));
        }
    }

    fn parcel(&mut self, parcel: Parcel, item: &mut Item) -> Result<(), PublishError> {
        let priority = parcel.content.as_ref().ok().and_then(|(message, _)| message.properties.priority);
        let place = self.place(&parcel.to, priority, parcel.must)?;
        let (message, row) = parcel.content?;
        match place {
            Place::Queue(queue) => item.puts.push(Put { queue, message, row }),
            Place::Later(queue, after) => {
                let after = i64::try_from(after.as_micros()).unwrap_or(i64::MAX);
                // One up: the clock's own rounding must not make it early.
                let due = microseconds_now().saturating_add(after).saturating_add(1);
                item.delays.push(Delay { id: self.next_delay, due, queue, row });
                self.next_delay += 1;
            }
            Place::Away => {}
        }
        Ok(())
    }

    fn place(&self, to: &Address, priority: Option<u8>, must: bool) -> Result<Place, PublishError> {
        let work = |name: &String| self.lane(name, priority).ok_or_else(|| self.unroutable(name));
        Ok(match to {
            Address::Work(name) => Place::Queue(work(name)?),
            Address::Delayed { queue, after } => Place::Later(work(queue)?, *after),
            Address::Results => Place::Queue(RESULTS),
            Address::Search if self.search => Place::Queue(SEARCH),
            Address::Search => Place::Away,
            Address::Dead => Place::Queue(DEAD),
            Address::Next => Place::Queue(NEXT),
            // Nobody holds here: it goes home.
            Address::Held { queue, .. } => Place::Queue(work(queue)?),
            Address::Reply(name) => match self.replies.get(name).or_else(|| self.work.get(name)) {
                Some(queue) => Place::Queue(*queue),
                None if must => return Err(self.unroutable(name)),
                None => Place::Away,
            },
        })
    }

    fn unroutable(&self, name: &str) -> PublishError {
        PublishError::Unroutable { queue: name.to_owned(), known: self.work.keys().cloned().collect() }
    }

    async fn declare(&mut self, names: Vec<String>) -> Result<(), BrokerError> {
        for name in names {
            if self.work.contains_key(&name) {
                continue;
            }
            if is_reserved(&name) {
                return Err(BrokerError::Misconfigured(format!("`{name}` is the name of a lane; {RESERVED}")));
            }
            let id = self.store.declare(&name).await.map_err(|error| BrokerError::Unreachable(error.to_string()))?;
            self.queues.insert(id, Queue::new(id, name.clone(), Purpose::Work, 0, 0, 0));
            self.found_family(&name, id);
            self.work.insert(name, id);
        }
        Ok(())
    }

    fn consume(&mut self, from: &Address, credit: u32) -> Result<Subscription, BrokerError> {
        let id = match from {
            Address::Work(name) => self.work.get(name).copied().ok_or_else(|| {
                let known: Vec<_> = self.work.keys().map(String::as_str).collect();
                BrokerError::Misconfigured(format!("no queue `{name}`; queues known here: {}", known.join(", ")))
            })?,
            Address::Results => RESULTS,
            Address::Search => SEARCH,
            Address::Dead => DEAD,
            Address::Next => NEXT,
            Address::Reply(name) => self.reply_queue(name)?,
            Address::Held { .. } => return Err(BrokerError::Misconfigured("nobody holds jobs here".to_owned())),
            Address::Delayed { .. } => {
                return Err(BrokerError::Misconfigured("delayed messages are consumed from their queue".to_owned()));
            }
        };
        let gone = || BrokerError::Misconfigured("the queue is not there".to_owned());
        let queue = self.queues.get_mut(&id).ok_or_else(gone)?;
        let (subscription, deliveries) = self.subscribers.add(queue, credit, &self.inbox);
        if queue.purpose == Purpose::Work {
            self.record.subscribed(subscription);
        }
        for lane in self.members(id).into_iter().filter(|lane| *lane != id) {
            if let Some(queue) = self.queues.get_mut(&lane) {
                queue.subscriptions.push(subscription);
            }
        }
        Ok(deliveries)
    }

    fn reply_queue(&mut self, name: &str) -> Result<u64, BrokerError> {
        if let Some(id) = self.work.get(name) {
            return Ok(*id);
        }
        if self.replies.contains_key(name) {
            return Err(BrokerError::Misconfigured(format!("the reply queue `{name}` is in use")));
        }
        let id = self.next_reply;
        self.next_reply += 1;
        self.queues.insert(id, Queue::new(id, name.to_owned(), Purpose::Reply, 0, 0, 0));
        self.replies.insert(name.to_owned(), id);
        Ok(id)
    }

    fn cancel(&mut self, subscription: u64) {
        let Some(id) = self.subscribers.cancel(subscription) else { return };
        for id in self.members(id) {
            let Some(queue) = self.queues.get_mut(&id) else { continue };
            queue.subscriptions.retain(|one| *one != subscription);
            if queue.purpose == Purpose::Reply {
                self.replies.remove(&queue.name);
                self.queues.remove(&id);
            }
        }
    }

    fn dropped(&mut self, subscription: u64, left: Vec<Delivery>) {
        for delivery in left {
            let Some(id) = self.subscribers.release(&delivery.tag) else { continue };
            if let Some(queue) = self.queues.get_mut(&id) {
                queue.in_hand = queue.in_hand.saturating_sub(1);
                queue.give_back(untaken(delivery));
            }
        }
        self.cancel(subscription);
    }

    /// What is on disk only is taken for as large as what is in memory.
    fn backlog(&self) -> Backlog {
        let Some(queue) = self.queues.get(&RESULTS) else { return Backlog::default() };
        let (packs, (count, bytes)) = (queue.waiting(), queue.kept());
        let mean = bytes.checked_div(count).unwrap_or_default() as u64;
        Backlog { packs, bytes: packs.saturating_mul(mean) }
    }

    fn stats(&self, names: &[String]) -> Result<Vec<QueueStats>, BrokerError> {
        let of = |id: &u64| self.stats_of(*id);
        if names.is_empty() {
            return Ok(self.work.values().filter_map(of).collect());
        }
        names
            .iter()
            .map(|name| {
                let missing = || BrokerError::Misconfigured(format!("no queue `{name}`"));
                self.work.get(name).and_then(of).ok_or_else(missing)
            })
            .collect()
    }
}

fn too_large(lines: &[bytes::Bytes]) -> Option<PublishError> {
    let size = lines.iter().map(bytes::Bytes::len).find(|size| *size > MAX_LINE)?;
    Some(PublishError::TooLarge { size, limit: MAX_LINE })
}
