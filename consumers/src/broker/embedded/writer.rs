//! The one task that owns the broker's state: take what was asked, store it, answer, deliver.
//!
//! Nothing is delivered, answered or forgotten before the commit that it belongs to. The steps
//! of a round are in `admit` (what was asked, into items) and `commit` (items, onto the disk).

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{oneshot, watch},
    time::Instant,
};

use super::{
    families::Family,
    inbox::Inbox,
    item::Item,
    queue::{Purpose, Queue, Ready},
    record::{Left, Record},
    store::{Store, StoreError},
    subscriptions::Subscribers,
    trouble::Trouble,
};
use crate::broker::{BrokerError, Link, PriorityLane};

pub(super) const RESULTS: u64 = 1;
pub(super) const SEARCH: u64 = 2;
pub(super) const DEAD: u64 = 3;
pub(super) const NEXT: u64 = 4;

/// A delivery whose settle failed goes back after this long.
const GIVE_BACK_AFTER: Duration = Duration::from_secs(1);
/// The clock may be set, and the files removed: never sleep longer than this.
const LONGEST_NAP: Duration = Duration::from_secs(1);

/// The owner of it all.
pub(super) struct Writer {
    pub(super) store: Store,
    pub(super) inbox: Arc<Inbox>,
    pub(super) link: watch::Sender<Link>,
    pub(super) search: bool,
    pub(super) record: Arc<Record>,
    pub(super) queues: BTreeMap<u64, Queue>,
    /// Work queues by name.
    pub(super) work: BTreeMap<String, u64>,
    /// Work queues with more lanes than the normal one, by the queue's number.
    pub(super) families: BTreeMap<u64, Family>,
    /// Lanes on disk whose queue is not there, by their names.
    pub(super) orphans: BTreeMap<String, Queue>,
    /// Reply queues by name.
    pub(super) replies: BTreeMap<String, u64>,
    pub(super) next_reply: u64,
    pub(super) subscribers: Subscribers,
    pub(super) next_delay: i64,
    /// When the earliest delayed message is due, in microseconds since 1970.
    pub(super) due: Option<i64>,
    /// Some of them moved: ask the store for the next.
    pub(super) due_moved: bool,
    /// Deliveries that go back when their time comes.
    pub(super) returning: VecDeque<(Instant, u64, Ready)>,
    /// What waits for a disk that takes nothing now.
    pub(super) stuck: Vec<Item>,
    pub(super) trouble: Option<Trouble>,
    /// When it was looked last whether the files are there.
    pub(super) looked: Instant,
    /// The last one that is over: when, and how long its last pause was.
    pub(super) recovered: Option<(Instant, Duration)>,
    pub(super) closing: Vec<oneshot::Sender<()>>,
}

impl Writer {
    /// Reads what is there.
    pub(super) async fn open(
        mut store: Store,
        inbox: Arc<Inbox>,
        link: watch::Sender<Link>,
        search: bool,
        (record, left): (Arc<Record>, Left),
    ) -> Result<Self, BrokerError> {
        let unreadable = |error: StoreError| BrokerError::Misconfigured(format!("broker.db: {error}"));
        store.tell(&left).await.map_err(unreadable)?;
        if let Err(error) = record.begin() {
            tracing::warn!(%error, "Starts cannot be written down; after a crash all that was in hand counts as started.");
        }
        let stored = store.queues().await.map_err(unreadable)?;
        let (due, last_delay) = store.next_due().await.map_err(unreadable)?;
        let (mut queues, mut work, mut orphans) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for queue in stored {
            let purpose = if queue.internal { Purpose::Internal } else { Purpose::Work };
            let (id, name) = (queue.id, queue.name);
            let (of, lane) = PriorityLane::split(&name);
            let mut queue = Queue::new(id, of.to_owned(), purpose, queue.mark, queue.count, queue.last);
            queue.told = left.complete;
            match (purpose, lane) {
                (Purpose::Work, PriorityLane::Normal) => drop(work.insert(name, id)),
                (Purpose::Work, _) => {
                    orphans.insert(name, queue);
                    continue;
                }
                _ => {}
            }
            queues.insert(id, queue);
        }
        let known: Vec<(String, u64)> = work.iter().map(|(name, id)| (name.clone(), *id)).collect();
        let mut this = Self {
            store,
            inbox,
            link,
            search,
            record,
            queues,
            work,
            families: BTreeMap::new(),
            orphans,
            replies: BTreeMap::new(),
            next_reply: 1 << 32,
            subscribers: Subscribers::default(),
            next_delay: last_delay + 1,
            due,
            due_moved: false,
            returning: VecDeque::new(),
            stuck: Vec::new(),
            trouble: None,
            looked: Instant::now(),
            recovered: None,
            closing: Vec::new(),
        };
        known.iter().for_each(|(name, id)| this.found_family(name, *id));
        Ok(this)
    }

    /// Until the broker is closed.
    pub(super) async fn run(mut self) {
        while self.closing.is_empty() {
            self.wait().await;
            self.round().await;
        }
        self.end().await;
    }

    async fn round(&mut self) {
        self.look_for_files();
        let retry = self.trouble.as_ref().is_some_and(|trouble| trouble.retry_at <= Instant::now());
        let mut items = Vec::new();
        if retry {
            items.append(&mut self.stuck);
            if items.is_empty() {
                self.probe().await;
            }
        }
        for op in self.inbox.take() {
            self.admit(op, &mut items).await;
        }
        self.give_back();
        if self.trouble.is_none() {
            self.take_due(&mut items).await;
        }
        if self.trouble.is_some() && (!retry || items.is_empty()) {
            self.stuck.append(&mut items);
        } else {
            self.flush(items).await;
        }
        self.look_for_due().await;
        self.fetch().await;
        for queue in self.queues.values_mut().filter(|queue| !queue.subscriptions.is_empty() && !queue.laned) {
            self.subscribers.dispatch(queue);
        }
        self.dispatch_lanes();
        self.store.fold().await;
    }

    /// Until there is something to do.
    async fn wait(&self) {
        if self.trouble.is_none() && self.mark_is_behind() {
            return;
        }
        let nap = self.nap();
        tokio::select! {
            () = self.inbox.filled() => {}
            () = tokio::time::sleep(nap) => {}
        }
    }

    /// Could something be delivered, if only its mark were on disk?
    fn mark_is_behind(&self) -> bool {
        self.queues.values().any(|queue| {
            let free: usize =
                queue.subscriptions.iter().filter_map(|id| self.subscribers.get(*id)).map(|one| one.free(0)).sum();
            queue.mark_for(free, &[]).is_some()
        })
    }

    fn nap(&self) -> Duration {
        let now = Instant::now();
        let mut nap = LONGEST_NAP;
        if let Some(trouble) = &self.trouble {
            nap = nap.min(trouble.retry_at.saturating_duration_since(now));
        } else if let Some(due) = self.due {
            let left = u64::try_from(due - microseconds_now()).unwrap_or(0);
            // Never early: timers end on a millisecond.
            nap = nap.min(Duration::from_micros(left));
        }
        if let Some((at, ..)) = self.returning.front() {
            nap = nap.min(at.saturating_duration_since(now));
        }
        nap
    }

    /// Lets a delivery whose settle failed go back, later, so that it does not spin.
    pub(super) fn give_back_later(&mut self, queue: u64, ready: Ready) {
        self.returning.push_back((Instant::now() + GIVE_BACK_AFTER, queue, ready));
    }

    fn give_back(&mut self) {
        let now = Instant::now();
        while let Some((_, queue, ready)) = self.returning.pop_front_if(|(at, ..)| *at <= now) {
            if let Some(queue) = self.queues.get_mut(&queue) {
                queue.in_hand = queue.in_hand.saturating_sub(1);
                queue.give_back(ready);
            }
        }
    }

    async fn end(mut self) {
        let items = std::mem::take(&mut self.stuck);
        if !items.is_empty() {
            self.flush(items).await;
        }
        // Whoever still waits sees its answer dropped: it may or may not have been stored.
        self.inbox.shut();
        self.record.end();
        let Self { store, link, closing, subscribers, stuck, .. } = self;
        drop((subscribers, stuck));
        store.close().await;
        link.send_replace(Link::Closed);
        for done in closing {
            let _ = done.send(());
        }
    }
}

/// The wall clock.
pub(super) fn microseconds_now() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}
