//! The recorder: the reply queue and the dead-letter road into the results database.
//!
//! Owns the batch in hand, from the pack to the ack after the commit. With the database down it
//! holds at most its credit and tries again for ever; a line that cannot be stored becomes a dead
//! letter of its own and its neighbours stay. Refuses to know SQL or any broker.

mod letters;
mod watched;

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    broker::{Address, Broker, BrokerError, Delivery, Settlement, Subscription, Verdict},
    entry::Entry,
    message::Message,
    results::{DeadLetter, Results, ResultsError, jitter},
};
use watched::Watched;

/// Two commits start no closer than this, unless the batch is full: a commit is a sync of the disk.
const PACE: Duration = Duration::from_millis(10);

/// How much a recorder holds.
#[derive(Clone, Debug)]
pub struct RecorderSettings {
    /// Packs in hand at most, and so at most as many MiB. Defaults to 100.
    pub credit: u32,
    /// Entries to a transaction, about. Defaults to 2000.
    pub batch: usize,
    /// The first wait for a database that is down; each next one is twice as long. Defaults to 1 s.
    pub first_wait: Duration,
    /// No wait is longer. Defaults to 15 s.
    pub longest_wait: Duration,
}

impl Default for RecorderSettings {
    fn default() -> Self {
        let (first_wait, longest_wait) = (Duration::from_secs(1), Duration::from_secs(15));
        Self { credit: 100, batch: 2000, first_wait, longest_wait }
    }
}

/// Does it record? For `/readyz`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecorderHealth {
    /// Yes.
    Recording,
    /// Not now: the database does not take it. Nothing is lost; reports wait in their queue.
    Waiting {
        /// Its word for it.
        why: String,
    },
}

/// What it did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecorderMetrics {
    /// Entries stored.
    pub entries: u64,
    /// Packs and letters answered.
    pub packs: u64,
    /// Transactions.
    pub commits: u64,
    /// Dead letters stored, lines among them.
    pub letters: u64,
    /// When the last transaction was committed; `None` before the first.
    pub last_commit: Option<Timestamp>,
}

#[derive(Default)]
struct Counts {
    entries: AtomicU64,
    packs: AtomicU64,
    commits: AtomicU64,
    letters: AtomicU64,
    last_commit: AtomicI64,
}

/// A view of a recorder that runs.
#[derive(Clone)]
pub struct RecorderView {
    counts: Arc<Counts>,
    health: watch::Receiver<RecorderHealth>,
}

impl RecorderView {
    /// Its health, now and on change.
    pub fn health(&self) -> watch::Receiver<RecorderHealth> {
        self.health.clone()
    }

    /// What it did so far.
    pub fn metrics(&self) -> RecorderMetrics {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let last = self.counts.last_commit.load(Ordering::Relaxed);
        RecorderMetrics {
            entries: read(&self.counts.entries),
            packs: read(&self.counts.packs),
            commits: read(&self.counts.commits),
            letters: read(&self.counts.letters),
            last_commit: (last > 0).then(|| Timestamp::from_microsecond(last).ok()).flatten(),
        }
    }
}

/// Records until told to stop.
pub struct Recorder<B> {
    broker: B,
    results: Results,
    settings: RecorderSettings,
    counts: Arc<Counts>,
    health: watch::Sender<RecorderHealth>,
    watched: Watched,
}

/// What is in hand: deliveries, and what they say.
#[derive(Default)]
struct Batch {
    deliveries: Vec<Delivery>,
    entries: Vec<Entry>,
    letters: Vec<(Message, DeadLetter)>,
    /// Some of it came before, and may be stored.
    again: bool,
}

impl Batch {
    const fn len(&self) -> usize {
        self.entries.len() + self.letters.len()
    }

    /// Takes a delivery: the lines of a pack, or the one dead letter.
    fn take(&mut self, delivery: Delivery, road: &Address) {
        if *road == Address::Dead {
            self.letters.push(letters::letter(&delivery.message));
        } else {
            for line in delivery.message.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                match serde_json::from_slice(line) {
                    Ok(entry) => self.entries.push(entry),
                    Err(error) => self.letters.push(letters::line(line, &format!("the line is no entry: {error}"))),
                }
            }
        }
        self.again |= delivery.redelivered;
        self.deliveries.push(delivery);
    }
}

/// The recorder was told to stop while the database was down.
struct Stopped;

impl<B: Broker> Recorder<B> {
    /// Records what `broker` brings into `results`.
    pub fn new(broker: B, results: Results, settings: RecorderSettings) -> Self {
        let health = watch::Sender::new(RecorderHealth::Recording);
        Self { broker, results, settings, counts: Arc::default(), health, watched: Watched::default() }
    }

    /// What may be seen of it from outside, also while it runs.
    pub fn view(&self) -> RecorderView {
        RecorderView { counts: Arc::clone(&self.counts), health: self.health.subscribe() }
    }

    /// Records until `shutdown`, then commits what is in hand. Ends early with an error when the
    /// broker was closed or refuses the queues for good.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), BrokerError> {
        let recording = async {
            let (reports, dead) = tokio::join!(
                Box::pin(self.follow(&Address::Results, &shutdown)),
                Box::pin(self.follow(&Address::Dead, &shutdown))
            );
            reports.and(dead)
        };
        tokio::select! {
            ended = recording => ended,
            never = self.watched.listen(&self.broker, self.settings.longest_wait) => match never {},
        }
    }

    async fn follow(&self, road: &Address, shutdown: &CancellationToken) -> Result<(), BrokerError> {
        let mut wait = self.settings.first_wait;
        loop {
            match self.broker.consume(road, self.settings.credit).await {
                Ok(subscription) => {
                    self.drain(subscription, road, shutdown).await;
                    return if shutdown.is_cancelled() { Ok(()) } else { Err(BrokerError::Closed) };
                }
                Err(BrokerError::Unreachable(_)) => {
                    let stopped = shutdown.run_until_cancelled(sleep(self.spread(wait))).await.is_none();
                    if stopped {
                        return Ok(());
                    }
                    wait = (wait * 2).min(self.settings.longest_wait);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes what is at hand, stores it while the next batch gathers, answers it; until the end of
    /// the subscription.
    async fn drain(&self, mut subscription: Subscription, road: &Address, shutdown: &CancellationToken) {
        let mut next = Batch::default();
        let mut ending = false;
        let mut paced = Instant::now();
        loop {
            if shutdown.is_cancelled() && !ending {
                ending = true;
                // An error means that nothing more comes either way.
                let _ = subscription.cancel().await;
            }
            if next.deliveries.is_empty() {
                let first = tokio::select! {
                    biased;
                    () = shutdown.cancelled(), if !ending => continue,
                    first = subscription.next() => first,
                };
                let Some(first) = first else { return };
                next.take(first, road);
            }
            while next.len() < self.settings.batch
                && let Some(delivery) = subscription.try_next()
            {
                next.take(delivery, road);
            }
            // At once when idle; under a stream of small packs they gather instead, unless somebody
            // waits for one of them.
            let mut looked = 0;
            while !ending && next.len() < self.settings.batch && Instant::now() < paced {
                if self.watched.presses(&next.entries[looked..]) {
                    break;
                }
                looked = next.entries.len();
                match timeout_at(paced, subscription.next()).await {
                    Ok(Some(delivery)) => next.take(delivery, road),
                    Ok(None) | Err(_) => break,
                }
            }
            paced = Instant::now() + PACE;
            let Batch { deliveries, entries, mut letters, again } = std::mem::take(&mut next);
            let mut waiting = Vec::new();
            let stored = {
                let storing = self.store(&entries, &mut letters, again, shutdown);
                tokio::pin!(storing);
                loop {
                    let room = next.len() < self.settings.batch;
                    tokio::select! {
                        biased;
                        stored = &mut storing => break stored,
                        count = subscription.next_many(&mut waiting, 8), if room && !ending => {
                            if count == 0 {
                                // The end: what is stored now is still answered.
                                break storing.await;
                            }
                            waiting.drain(..).for_each(|delivery| next.take(delivery, road));
                        }
                    }
                }
            };
            self.answer(deliveries, stored.is_ok());
            if stored.is_ok() {
                self.watched.tell(&self.broker, &entries, &letters);
            }
            if stored.is_err() {
                self.answer(next.deliveries, false);
                return;
            }
        }
    }

    fn answer(&self, deliveries: Vec<Delivery>, stored: bool) {
        let verdict = if stored { Verdict::Ack } else { Verdict::HandBack };
        self.counts.packs.fetch_add(if stored { deliveries.len() as u64 } else { 0 }, Ordering::Relaxed);
        for delivery in deliveries {
            let publish = if stored { letters::end(&delivery.message).into_iter().collect() } else { Vec::new() };
            // An ack that gets lost brings the pack again, which is harmless.
            drop(self.broker.settle(delivery, Settlement { verdict, publish, ..Settlement::default() }));
        }
    }

    /// Stores a batch whole, however long that takes; what is refused for its content is bisected
    /// out into dead letters.
    async fn store(
        &self,
        entries: &[Entry],
        letters: &mut Vec<(Message, DeadLetter)>,
        again: bool,
        shutdown: &CancellationToken,
    ) -> Result<(), Stopped> {
        let mut parts = vec![(0, entries.len())];
        while let Some((from, to)) = parts.pop() {
            match self.insist(shutdown, again, |again| self.results.keep(&entries[from..to], again)).await? {
                Ok(()) => {
                    self.counts.entries.fetch_add((to - from) as u64, Ordering::Relaxed);
                }
                Err(why) if to - from == 1 => letters.push(letters::line(&entries[from].line(), &why)),
                Err(_) => parts.extend(halves(from, to)),
            }
        }
        let mut parts = vec![(0, letters.len())];
        while let Some((from, to)) = parts.pop() {
            match self.insist(shutdown, again, |again| self.results.lay_down(&letters[from..to], again)).await? {
                Ok(()) => {
                    self.counts.letters.fetch_add((to - from) as u64, Ordering::Relaxed);
                }
                Err(why) if to - from == 1 => {
                    letters[from] = letters::shortened(&letters[from], &why);
                    self.bury_at_last(&letters[from..to], shutdown).await?;
                }
                Err(_) => parts.extend(halves(from, to)),
            }
        }
        Ok(())
    }

    /// A letter cut down to what every database takes: one that is refused still means that the
    /// table is broken, and waits for a person.
    async fn bury_at_last(
        &self,
        letter: &[(Message, DeadLetter)],
        shutdown: &CancellationToken,
    ) -> Result<(), Stopped> {
        let bury = |again| async move {
            self.results.lay_down(letter, again).await.map_err(|error| match error {
                ResultsError::Refused(why) => ResultsError::Misconfigured(why),
                other => other,
            })
        };
        // It cannot be refused any more, see above.
        let _ = self.insist(shutdown, true, bury).await?;
        self.counts.letters.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Tries until the database answers; the inner error is a refusal of the content. Each `write` is told whether
    /// the one before it may have been done.
    async fn insist<F, T>(
        &self,
        shutdown: &CancellationToken,
        mut again: bool,
        mut write: F,
    ) -> Result<Result<(), String>, Stopped>
    where
        F: FnMut(bool) -> T,
        T: Future<Output = Result<(), ResultsError>>,
    {
        let mut wait = self.settings.first_wait;
        let mut since = None;
        loop {
            let (why, person) = match write(again).await {
                Ok(()) => {
                    self.counts.commits.fetch_add(1, Ordering::Relaxed);
                    self.counts.last_commit.store(Timestamp::now().as_microsecond(), Ordering::Relaxed);
                    self.answers(since);
                    return Ok(Ok(()));
                }
                Err(ResultsError::Refused(why)) => {
                    self.answers(since);
                    return Ok(Err(why));
                }
                Err(ResultsError::Unavailable(why)) => (why, false),
                Err(ResultsError::Misconfigured(why)) => (why, true),
            };
            again = true;
            since.get_or_insert_with(Instant::now);
            self.silent(&why, person);
            shutdown.run_until_cancelled(sleep(self.spread(wait))).await.ok_or(Stopped)?;
            wait = (wait * 2).min(self.settings.longest_wait);
        }
    }

    /// The first loss is logged, those after it are not.
    fn silent(&self, why: &str, person: bool) {
        let first = self.health.send_if_modified(|health| {
            let first = *health == RecorderHealth::Recording;
            *health = RecorderHealth::Waiting { why: why.to_owned() };
            first
        });
        if first && person {
            tracing::error!(why, "The results database needs a person; reports wait in their queue.");
        } else if first {
            tracing::warn!(why, "The results database is down; reports wait in their queue.");
        }
    }

    fn answers(&self, since: Option<Instant>) {
        let back = self.health.send_if_modified(|health| {
            let back = *health != RecorderHealth::Recording;
            *health = RecorderHealth::Recording;
            back
        });
        if back {
            let seconds = since.map_or(0.0, |since| since.elapsed().as_secs_f64());
            tracing::info!(seconds, "The results database answers again.");
        }
    }

    /// A wait drawn from three quarters of itself to the whole.
    fn spread(&self, wait: Duration) -> Duration {
        wait.mul_f64(0.75 + f64::from(jitter(1000)) / 4000.0)
    }
}

/// The two halves of a range, the first one on top.
const fn halves(from: usize, to: usize) -> [(usize, usize); 2] {
    let middle = from + (to - from) / 2;
    [(middle, to), (from, middle)]
}
