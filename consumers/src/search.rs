//! The search index: a second loop beside the recorder, best effort, off by default.
//!
//! Owns the road from packs to documents, and the refill from SQL after an outage. The index may
//! be down, full or read-only for as long as it likes: nothing else waits for it, and every
//! document is there again afterwards. Refuses to know any broker or SQL.

mod bulk;
mod client;
mod document;
mod query;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    broker::{Address, Broker, BrokerError, Delivery, Settlement, Subscription, Verdict},
    hidden::Hidden,
    results::{Results, jitter},
};
use bulk::{Bulk, Judged};
use client::Client;
use document::{Document, merge};

pub use client::SearchError;
pub use query::SearchIndex;

/// How the search server knows us.
#[derive(Clone, Default)]
pub enum SearchAuth {
    /// It does not ask.
    #[default]
    None,
    /// Name and password.
    Basic {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
    /// An API key, as the server printed it (base64).
    ApiKey(String),
}

/// Where the index is and how it is fed.
#[derive(Clone)]
pub struct SearchSettings {
    /// `https://host:9200`.
    pub url: String,
    /// Credentials.
    pub auth: SearchAuth,
    /// Certificates (PEM) to trust beside those of the machine.
    pub ca_file: Option<PathBuf>,
    /// Accept any certificate. For trials only.
    pub insecure: bool,
    /// What index names start with. Defaults to `spinor-jobs`.
    pub prefix: String,
    /// Shards of a month's index. Defaults to 1.
    pub shards: u32,
    /// Replicas of each. Defaults to 0.
    pub replicas: u32,
    /// Packs in hand at most. Defaults to 50.
    pub credit: u32,
    /// Documents to a bulk. Defaults to 1000.
    pub batch: usize,
    /// The first wait for a server that does not take them. Defaults to 1 s.
    pub first_wait: Duration,
    /// No wait is longer. Defaults to 15 s.
    pub longest_wait: Duration,
    /// After an outage longer than this the index is filled again from SQL: the bounded queue may
    /// have dropped its oldest. Defaults to 30 s.
    pub refill_after: Duration,
}

impl SearchSettings {
    /// The defaults for a server.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            auth: SearchAuth::None,
            ca_file: None,
            insecure: false,
            prefix: "spinor-jobs".to_owned(),
            shards: 1,
            replicas: 0,
            credit: 50,
            batch: 1000,
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(15),
            refill_after: Duration::from_secs(30),
        }
    }
}

/// Is the index fed?
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SearchHealth {
    /// Yes.
    Fed,
    /// It is being filled again from SQL.
    Refilling,
    /// The server does not take documents; they wait, or are filled in later.
    Waiting {
        /// Its word for it.
        why: String,
    },
}

/// What the loop did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SearchMetrics {
    /// Documents written.
    pub indexed: u64,
    /// Documents that were there already, as new or newer.
    pub stale: u64,
    /// Documents written without args and value, because the mapping refused those.
    pub stripped: u64,
    /// Documents that the mapping refused even so.
    pub dropped: u64,
    /// Rows read from SQL to fill the index again.
    pub refilled: u64,
    /// Packs answered.
    pub packs: u64,
}

#[derive(Default)]
struct Counts {
    indexed: AtomicU64,
    stale: AtomicU64,
    stripped: AtomicU64,
    dropped: AtomicU64,
    refilled: AtomicU64,
    packs: AtomicU64,
}

/// A view of a search loop that runs.
#[derive(Clone)]
pub struct SearchView {
    counts: Arc<Counts>,
    health: watch::Receiver<SearchHealth>,
}

impl SearchView {
    /// Its health, now and on change.
    pub fn health(&self) -> watch::Receiver<SearchHealth> {
        self.health.clone()
    }

    /// What it did so far.
    pub fn metrics(&self) -> SearchMetrics {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Counts { indexed, stale, stripped, dropped, refilled, packs } = &*self.counts;
        SearchMetrics {
            indexed: read(indexed),
            stale: read(stale),
            stripped: read(stripped),
            dropped: read(dropped),
            refilled: read(refilled),
            packs: read(packs),
        }
    }
}

/// The name of the mark that says until when the index was fed.
const MARK: &str = "search";
/// How often the mark is moved, and how long an idle loop rests.
const MARK_EVERY: Duration = Duration::from_secs(10);
/// A refill starts so much before the loss, for clocks and commits that were under way.
const MARGIN_MICROS: i64 = 60_000_000;
const REFILL_ROWS: u32 = 500;

/// Feeds the index until told to stop.
pub struct Search<B> {
    broker: B,
    results: Results,
    hidden: Arc<Hidden>,
    settings: SearchSettings,
    client: Client,
    counts: Arc<Counts>,
    health: watch::Sender<SearchHealth>,
}

/// The loop was told to stop while the server took nothing.
struct Stopped;

impl<B: Broker> Search<B> {
    /// A loop that feeds what `broker` brings, and what `results` holds, into the index. Connects
    /// to nothing yet; fails when the settings cannot be right.
    pub fn new(broker: B, settings: SearchSettings, results: Results) -> Result<Self, SearchError> {
        let client = Client::new(&settings)?;
        let health = watch::Sender::new(SearchHealth::Fed);
        let hidden = Arc::default();
        Ok(Self { broker, results, hidden, settings, client, counts: Arc::default(), health })
    }

    /// Leaves out what kinds call secret.
    #[must_use]
    pub fn hiding(self, hidden: Arc<Hidden>) -> Self {
        Self { hidden, ..self }
    }

    /// What may be seen of it from outside, also while it runs.
    pub fn view(&self) -> SearchView {
        SearchView { counts: Arc::clone(&self.counts), health: self.health.subscribe() }
    }

    /// Feeds until `shutdown`. Ends early with an error when the broker was closed or refuses the
    /// queue for good.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), BrokerError> {
        loop {
            match self.broker.consume(&Address::Search, self.settings.credit).await {
                Ok(subscription) => {
                    self.feed(subscription, &shutdown).await;
                    return if shutdown.is_cancelled() { Ok(()) } else { Err(BrokerError::Closed) };
                }
                Err(BrokerError::Unreachable(_)) => {
                    if shutdown.run_until_cancelled(sleep(self.settings.first_wait)).await.is_none() {
                        return Ok(());
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn feed(&self, mut subscription: Subscription, shutdown: &CancellationToken) {
        let mut refill = self.since_last_time().await;
        let mut marked = Instant::now();
        while !shutdown.is_cancelled() {
            let mut packs = Vec::new();
            if refill.is_none() {
                let rest = sleep(MARK_EVERY.saturating_sub(marked.elapsed()));
                tokio::select! {
                    biased;
                    () = shutdown.cancelled() => break,
                    count = subscription.next_many(&mut packs, 1) => if count == 0 { return },
                    () = rest => {}
                }
            }
            let mut documents = Vec::new();
            self.take(&mut subscription, &mut packs, &mut documents);
            if let Some(after) = refill {
                refill = self.refill(after, &mut documents).await;
            }
            let fed = self.insist(merge(documents), shutdown).await;
            self.answer(packs, fed.is_ok());
            match fed {
                Err(Stopped) => return,
                Ok(Some(lost)) => refill = Some(earlier(refill, (lost - MARGIN_MICROS, Uuid::nil()))),
                Ok(None) => {}
            }
            if refill.is_none() && marked.elapsed() >= MARK_EVERY {
                marked = Instant::now();
                self.mark().await;
            }
        }
        if refill.is_none() {
            self.mark().await;
        }
    }

    /// Where to fill in from at a start: nothing was fed while no loop ran.
    async fn since_last_time(&self) -> Option<(i64, Uuid)> {
        let known = self.results.mark(MARK).await;
        let now = Timestamp::now().as_microsecond();
        let gap = i64::try_from(self.settings.refill_after.as_micros()).unwrap_or(i64::MAX);
        match known {
            Ok(Some(at)) if now - at <= gap => None,
            Ok(Some(at)) => Some((at - MARGIN_MICROS, Uuid::nil())),
            // Never fed, or not known: from the first row on.
            _ => Some((0, Uuid::nil())),
        }
    }

    async fn mark(&self) {
        // A mark that is not moved costs a longer refill, nothing else.
        let _ = self.results.set_mark(MARK, Timestamp::now().as_microsecond()).await;
    }

    /// Takes the packs that are at hand, up to a batch of documents.
    fn take(&self, subscription: &mut Subscription, packs: &mut Vec<Delivery>, documents: &mut Vec<Document>) {
        for pack in &*packs {
            document::read(&pack.message.body, &self.hidden, documents);
        }
        while documents.len() < self.settings.batch
            && let Some(pack) = subscription.try_next()
        {
            document::read(&pack.message.body, &self.hidden, documents);
            packs.push(pack);
        }
    }

    /// The next rows from SQL; `None` when there are no more.
    async fn refill(&self, after: (i64, Uuid), documents: &mut Vec<Document>) -> Option<(i64, Uuid)> {
        let Ok(rows) = self.results.changed(after, REFILL_ROWS).await else {
            // The recorder tells of a database that is down.
            sleep(self.settings.first_wait).await;
            return Some(after);
        };
        let Some(last) = rows.last() else {
            tracing::info!("The search index is filled again.");
            self.health.send_replace(SearchHealth::Fed);
            return None;
        };
        let next = (last.updated, last.row.id);
        self.health.send_if_modified(|health| {
            let began = *health == SearchHealth::Fed;
            if began {
                *health = SearchHealth::Refilling;
            }
            began
        });
        self.counts.refilled.fetch_add(rows.len() as u64, Ordering::Relaxed);
        documents.extend(rows.into_iter().map(|row| Document::tracked(row, &self.hidden)));
        Some(next)
    }

    fn answer(&self, packs: Vec<Delivery>, fed: bool) {
        let verdict = if fed { Verdict::Ack } else { Verdict::HandBack };
        self.counts.packs.fetch_add(if fed { packs.len() as u64 } else { 0 }, Ordering::Relaxed);
        for pack in packs {
            // An ack that gets lost brings the pack again, which is harmless.
            drop(self.broker.settle(pack, Settlement { verdict, ..Settlement::default() }));
        }
    }

    /// Writes documents until each is in, was there, or is refused for good. Tells since when
    /// (microseconds) the server took nothing, when that was long enough to fill in from SQL.
    async fn insist(&self, documents: Vec<Document>, shutdown: &CancellationToken) -> Result<Option<i64>, Stopped> {
        let mut bulk = Bulk::new(documents, self.settings.batch);
        let mut wait = self.settings.first_wait;
        let mut lost: Option<(i64, Instant)> = None;
        while let Some(part) = bulk.next() {
            let answer = match self.client.ready().await {
                Ok(()) => self.client.bulk(&bulk.body(part.clone(), &self.settings.prefix)).await,
                Err(error) => Err(error),
            };
            let judged = bulk.judge(part, answer);
            self.count(&judged);
            let Some(why) = judged.waiting else {
                wait = self.settings.first_wait;
                continue;
            };
            lost.get_or_insert_with(|| (Timestamp::now().as_microsecond(), Instant::now()));
            self.silent(&why, judged.person);
            let spread = wait.mul_f64(0.75 + f64::from(jitter(1000)) / 4000.0);
            shutdown.run_until_cancelled(sleep(spread)).await.ok_or(Stopped)?;
            wait = (wait * 2).min(self.settings.longest_wait);
        }
        let Some((since, began)) = lost else {
            return Ok(None);
        };
        let down = began.elapsed();
        let long = down > self.settings.refill_after;
        self.health.send_replace(if long { SearchHealth::Refilling } else { SearchHealth::Fed });
        tracing::info!(seconds = down.as_secs_f64(), refill = long, "The search server takes documents again.");
        Ok(long.then_some(since))
    }

    fn count(&self, judged: &Judged) {
        let add = |count: &AtomicU64, more: usize| count.fetch_add(more as u64, Ordering::Relaxed);
        add(&self.counts.indexed, judged.indexed);
        add(&self.counts.stale, judged.stale);
        add(&self.counts.stripped, judged.stripped);
        add(&self.counts.dropped, judged.dropped.len());
        for (id, why) in &judged.dropped {
            tracing::warn!(%id, why, "The search index refuses a document; the record has it.");
        }
    }

    /// The first loss is logged, those after it are not.
    fn silent(&self, why: &str, person: bool) {
        let first = self.health.send_if_modified(|health| {
            let first = !matches!(health, SearchHealth::Waiting { .. });
            *health = SearchHealth::Waiting { why: why.to_owned() };
            first
        });
        if first && person {
            tracing::error!(why, "The search server needs a person; jobs run and are recorded meanwhile.");
        } else if first {
            tracing::warn!(why, "The search server takes no documents; jobs run and are recorded meanwhile.");
        }
    }
}

fn earlier(one: Option<(i64, Uuid)>, other: (i64, Uuid)) -> (i64, Uuid) {
    one.map_or(other, |one| one.min(other))
}
