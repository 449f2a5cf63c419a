//! Settling: publish what a settlement holds, then answer its delivery.
//!
//! A sink with receipts: `settle` puts an item here and returns. A flush takes everything that
//! waits, packs the lines, sends all in one go, and answers each delivery whose own publishes are
//! confirmed. A settlement that fails is retried alone and holds back only its own ack; after
//! that its delivery goes back to its queue and the receipt tells the error. While the link is
//! down or blocked, finished reports wait here; how many, the consumer bounds.

use std::{
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

use super::{
    Inner,
    lane::{Lane, Parcel, Sent},
    parcels::Packer,
};
use crate::{
    broker::{Address, DeliveryTag, Outgoing, PublishError, Verdict},
    entry::MAX_LINE,
};

/// From here on a second flush may be in flight beside the first.
const CROWD: usize = 250;
/// How often a flush that the link cut short is tried in company.
const TOGETHER: u8 = 3;

/// One settlement under way.
pub struct Item {
    /// Whom to answer; none for lines that belong to no delivery.
    pub tag: Option<DeliveryTag>,
    /// For the reply queue.
    pub lines: Vec<Bytes>,
    /// Messages of their own.
    pub publish: Vec<Outgoing>,
    /// The answer.
    pub verdict: Verdict,
    /// Tells the end.
    pub receipt: oneshot::Sender<Sent>,
    /// Flushes it was in that the link cut short.
    pub tries: u8,
}

/// Where settlements wait for the next flush.
#[derive(Default)]
pub struct Sink {
    waiting: Mutex<Vec<Item>>,
    filled: Notify,
    crowded: Notify,
    open: AtomicUsize,
    /// Deliveries among them; and those that were given up after the end of the intake.
    unanswered: AtomicUsize,
    emptied: Notify,
    closed: AtomicBool,
}

impl Sink {
    fn waiting(&self) -> MutexGuard<'_, Vec<Item>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an item; dropped, with its receipt, when the broker is closed.
    pub fn push(&self, item: Item) {
        if self.closed.load(Ordering::Acquire) {
            return;
        }
        self.open.fetch_add(1, Ordering::AcqRel);
        self.unanswered.fetch_add(usize::from(item.tag.is_some()), Ordering::AcqRel);
        let mut waiting = self.waiting();
        waiting.push(item);
        let crowded = waiting.len() >= CROWD;
        drop(waiting);
        self.filled.notify_one();
        if crowded {
            self.crowded.notify_one();
        }
    }

    fn put_back(&self, items: Vec<Item>) {
        let mut waiting = self.waiting();
        let younger = std::mem::replace(&mut *waiting, items);
        waiting.extend(younger);
        drop(waiting);
        self.filled.notify_one();
    }

    /// So many items are done, and so many deliveries of them answered.
    fn done(&self, items: usize, answered: usize) {
        self.unanswered.fetch_sub(answered, Ordering::AcqRel);
        if self.open.fetch_sub(items, Ordering::AcqRel) == items {
            self.emptied.notify_waiters();
        }
    }

    /// Deliveries that were settled here and have no answer.
    pub fn unanswered(&self) -> usize {
        self.unanswered.load(Ordering::Acquire)
    }

    /// Takes nothing more, and waits until all is settled, or until the end.
    pub async fn drain(&self, end: Instant) {
        self.closed.store(true, Ordering::Release);
        let empty = async {
            loop {
                let emptied = self.emptied.notified();
                if self.open.load(Ordering::Acquire) == 0 {
                    return;
                }
                emptied.await;
            }
        };
        if tokio::time::timeout_at(end, empty).await.is_err() {
            tracing::warn!(open = self.open.load(Ordering::Acquire), "Closing with settlements that did not end.");
        }
    }
}

/// What a publish needs before its delivery is answered.
#[derive(Clone, Copy)]
enum Needs {
    /// To be confirmed.
    Confirm,
    /// The broker's word, whatever it is: the queue of a reply may be gone.
    Word,
    /// Nothing.
    Nothing,
}

impl Needs {
    const fn of(outgoing: &Outgoing) -> Self {
        match outgoing.to {
            _ if outgoing.must => Self::Confirm,
            Address::Reply(_) => Self::Word,
            _ => Self::Nothing,
        }
    }

    const fn counts(self, error: &PublishError) -> bool {
        match self {
            Self::Confirm => true,
            Self::Word => matches!(error, PublishError::Unconfirmed(_)),
            Self::Nothing => false,
        }
    }
}

/// Where an item's publishes are among a flush's parcels.
#[derive(Default)]
struct Share {
    packs: Range<usize>,
    /// For each message of its own: its place, and what of it must not fail.
    own: Vec<Option<(usize, Needs)>>,
    /// It cannot be sent at all.
    hopeless: Option<PublishError>,
}

impl Share {
    /// The first failure that counts.
    fn failure(&self, results: &[Sent]) -> Option<PublishError> {
        let packs = self.packs.clone().find_map(|place| results[place].as_ref().err());
        let failed =
            |(place, needs): &(usize, Needs)| results[*place].as_ref().err().filter(|error| needs.counts(error));
        let own = || self.own.iter().flatten().find_map(failed);
        self.hopeless.as_ref().or(packs).or_else(own).cloned()
    }

    /// Leaves in the item only what is still to be sent.
    fn shorten(&self, item: &mut Item, results: &[Sent]) {
        if self.packs.clone().all(|place| results[place].is_ok()) {
            item.lines.clear();
        }
        let mut own = self.own.iter();
        let failed = |(place, needs): (usize, Needs)| results[place].as_ref().is_err_and(|error| needs.counts(error));
        item.publish.retain(|_| own.next().copied().flatten().is_some_and(failed));
    }
}

impl Inner {
    /// One of the two flushers; the second joins only when there is a crowd.
    pub(super) async fn flush_settlements(self: Arc<Self>, mut lane: Lane, first: bool) {
        let signal = if first { &self.sink.filled } else { &self.sink.crowded };
        loop {
            tokio::select! {
                () = signal.notified() => {}
                () = self.stop.cancelled() => return,
            }
            tokio::select! {
                usable = lane.usable() => if !usable { return },
                () = self.stop.cancelled() => return,
            }
            let items = std::mem::take(&mut *self.sink.waiting());
            if !items.is_empty() {
                tokio::select! {
                    () = self.flush(&mut lane, items) => {}
                    // Nobody waits for a broker that is silent at the end.
                    () = self.stop.cancelled() => return,
                }
            }
        }
    }

    async fn flush(self: &Arc<Self>, lane: &mut Lane, mut items: Vec<Item>) {
        // Where one cannot be had, the job takes the normal lane: it must not wait in hand.
        let _ = self.open_lanes(items.iter().flat_map(|item| &item.publish)).await;
        let (parcels, shares) = self.load(&mut items);
        let results = lane.flush(&parcels).await;
        let mut settled = Vec::with_capacity(items.len());
        let mut cut = Vec::new();
        for (mut item, share) in items.into_iter().zip(shares) {
            let Some(error) = share.failure(&results) else {
                settled.push(item);
                continue;
            };
            share.shorten(&mut item, &results);
            let by_link = matches!(error, PublishError::Unconfirmed(_)) || !lane.is_up();
            if by_link && item.tries < TOGETHER && share.hopeless.is_none() {
                item.tries += 1;
                cut.push(item);
            } else {
                let (stop, retry) = (self.stop.clone(), Arc::clone(self).retry_alone(item, error));
                self.tasks.spawn(async move { stop.run_until_cancelled(retry).await });
            }
        }
        self.answer(settled);
        if !cut.is_empty() {
            self.sink.put_back(cut);
        }
    }

    /// The parcels of a flush, packs first, and who has which.
    fn load(self: &Arc<Self>, items: &mut [Item]) -> (Vec<Parcel>, Vec<Share>) {
        let mut packer = Packer::default();
        let mut shares: Vec<Share> = Vec::with_capacity(items.len());
        for item in items.iter_mut() {
            self.forget_the_future_of_a_stale_one(item);
            let size = item.lines.iter().map(Bytes::len).max().unwrap_or_default();
            shares.push(if size < MAX_LINE {
                Share { packs: packer.add(&item.lines), ..Share::default() }
            } else {
                Share { hopeless: Some(PublishError::TooLarge { size, limit: MAX_LINE }), ..Share::default() }
            });
        }
        let mut parcels = Vec::new();
        for body in packer.packs() {
            if self.settings.search {
                self.copy_for_search(&body);
            }
            self.pack_size.sent(body.len());
            parcels.push(self.pack(body));
        }
        for (item, share) in items.iter().zip(&mut shares) {
            for outgoing in &item.publish {
                match self.parcel(outgoing) {
                    Ok(parcel) => {
                        share.own.push(Some((parcels.len(), Needs::of(outgoing))));
                        parcels.push(parcel);
                        continue;
                    }
                    Err(error) if outgoing.must => share.hopeless = Some(error),
                    Err(error) => tracing::warn!(%error, "A reply that cannot be sent is dropped."),
                }
                share.own.push(None);
            }
        }
        (parcels, shares)
    }

    /// The redelivery carries the future: of a delivery whose channel is gone only what tells the
    /// past is sent.
    fn forget_the_future_of_a_stale_one(&self, item: &mut Item) {
        if let Some(tag) = &item.tag
            && self.tracker(tag.subscription).is_none()
        {
            item.publish.retain(|one| {
                !matches!(one.to, Address::Work(_) | Address::Delayed { .. } | Address::Held { .. } | Address::Dead)
            });
        }
    }

    /// Acks and hands back what is settled, and fills in the receipts.
    fn answer(&self, settled: Vec<Item>) {
        let open = settled.len();
        let answered = settled.iter().filter(|item| item.tag.is_some()).count();
        let by_channel = |item: &Item| item.tag.as_ref().map(|tag| tag.subscription);
        for group in settled.chunk_by(|a, b| by_channel(a) == by_channel(b)) {
            let Some(tracker) = group.first().and_then(by_channel).and_then(|id| self.tracker(id)) else { continue };
            let numbers = |verdict| {
                let wanted = group.iter().filter(move |item| item.verdict == verdict);
                wanted.filter_map(|item| item.tag.as_ref().map(|tag| tag.number))
            };
            tracker.finish(numbers(Verdict::Ack));
            numbers(Verdict::HandBack).for_each(|number| tracker.hand_back(number));
        }
        for item in settled {
            // Nobody need be listening.
            let _ = item.receipt.send(Ok(()));
        }
        self.sink.done(open, answered);
    }

    /// Tries one settlement by itself until the bound; then its delivery goes back.
    async fn retry_alone(self: Arc<Self>, mut item: Item, mut error: PublishError) {
        let mut until = Instant::now() + self.settings.confirm_timeout;
        let mut pause = Duration::from_millis(50);
        while !matches!(error, PublishError::TooLarge { .. }) && Instant::now() < until && !self.stop.is_cancelled() {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(2));
            let waited = Instant::now();
            if !self.publishable().await {
                break;
            }
            // The time without a link does not count.
            until += waited.elapsed();
            if matches!(error, PublishError::Unroutable { .. } | PublishError::Unconfirmed(_)) {
                // Somebody may have deleted an object of ours: a queue returns the message, an
                // exchange ends the channel.
                let _ = self.ensure(&[]).await;
                self.forget_lanes(item.publish.iter());
                let _ = self.open_lanes(item.publish.iter()).await;
            }
            let (parcels, shares) = self.load(std::slice::from_mut(&mut item));
            let results = self.fly(parcels, None).await;
            let Some(share) = shares.first() else { break };
            match share.failure(&results) {
                None => return self.answer(vec![item]),
                Some(again) => {
                    share.shorten(&mut item, &results);
                    error = again;
                }
            }
        }
        if let Some(tag) = &item.tag
            && let Some(tracker) = self.tracker(tag.subscription)
        {
            tracker.hand_back(tag.number);
        }
        // At the end one line has told how many are left.
        if !self.stop.is_cancelled() {
            tracing::warn!(%error, "A settlement could not be published; its job goes back to its queue.");
        }
        let _ = item.receipt.send(Err(error));
        // One that goes back is answered; at the end it counts with those that have to run again.
        let back = item.tag.is_some() && !self.closing.is_cancelled();
        self.sink.done(1, usize::from(back));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;

    #[test]
    fn a_reply_waits_for_the_brokers_word_and_then_counts_whatever_it_was() {
        let silence = PublishError::Unconfirmed("cut".to_owned());
        let gone = PublishError::Unroutable { queue: "q".to_owned(), known: Vec::new() };
        let full = PublishError::Refused("full".to_owned());
        let counts = |to: Address, must: bool| {
            let needs = Needs::of(&Outgoing { to, message: Message::default(), must });
            [&silence, &gone, &full].map(|error| needs.counts(error))
        };
        assert_eq!(counts(Address::Reply("q".to_owned()), false), [true, false, false]);
        assert_eq!(counts(Address::Reply("q".to_owned()), true), [true; 3]);
        assert_eq!(counts(Address::Dead, true), [true; 3]);
        assert_eq!(counts(Address::Search, false), [false; 3]);
    }
}
