//! Publishes the mix and keeps the ledger of what was accepted: on disk before the next is offered.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    path::Path,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

use spinor::{
    api::{Asked, new_job::NewJob},
    client::Client,
};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    ledgers::{Accepted, Cancel, Seconds, now},
    mix::{self, Offer},
};
use crate::recorder::entries::Draw;

/// Jobs offered in one request.
const BATCH: usize = 10;
/// Between two requests of one publisher.
const PACE: Duration = Duration::from_millis(150);
/// Publishing may wait for a broker that takes nothing; this is beyond its own bound.
const PATIENCE: Duration = Duration::from_secs(60);
/// So many wait in the queues, and a publisher waits.
const AHEAD: u64 = 200;
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// A cancel that was not accepted is asked for again after this long, so many times in all.
const AGAIN: Duration = Duration::from_secs(1);
const TRIES: u32 = 4;

/// Publishers of one run and their common ledger.
pub struct Publisher {
    ledger: std::sync::Mutex<File>,
    cancels: std::sync::Mutex<File>,
    sure: AtomicUsize,
    waiting: AtomicU64,
    many: bool,
}

/// A cancel that is to be asked for.
struct Wish {
    at: Instant,
    job: Uuid,
    asked: Option<Seconds>,
    tries: u32,
}

impl Publisher {
    /// With empty ledgers in this directory; `many`: there are several consumers.
    pub fn new(into: &Path, many: bool) -> Self {
        let open = |name| OpenOptions::new().create(true).append(true).open(into.join(name)).expect("a ledger").into();
        let (ledger, cancels) = (open("accepted.ndjson"), open("cancels.ndjson"));
        Self { ledger, cancels, sure: AtomicUsize::new(0), waiting: AtomicU64::new(0), many }
    }

    /// How many the broker surely has.
    pub fn sure(&self) -> usize {
        self.sure.load(Ordering::Relaxed)
    }

    /// Looks how many jobs wait, until it is told to stop.
    pub async fn look(&self, client: Client, stop: CancellationToken) {
        while !stop.is_cancelled() {
            // Without an answer what was seen last counts.
            if let Ok(Ok(queues)) = timeout(PATIENCE, client.queues()).await {
                self.waiting.store(queues.iter().map(|queue| queue.stats.ready).sum(), Ordering::Relaxed);
            }
            sleep(LOOK).await;
        }
    }

    /// Publishes until it is told to stop; what is under way is finished.
    pub async fn publish(&self, client: Client, mut draw: Draw, stop: CancellationToken) {
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut wishes = Vec::new();
        while !stop.is_cancelled() || !wishes.is_empty() {
            pace.tick().await;
            let (due, later) = wishes.into_iter().partition(|wish: &Wish| wish.at <= Instant::now());
            wishes = later;
            let asking = futures_util::future::join_all(Vec::into_iter(due).map(|wish| self.cancel(&client, wish)));
            let offering = async {
                if self.waiting.load(Ordering::Relaxed) > AHEAD || stop.is_cancelled() {
                    return Vec::new();
                }
                self.offer(&client, (0..BATCH).map(|_| mix::draw(&mut draw, self.many)).collect()).await
            };
            let (again, new) = tokio::join!(asking, offering);
            wishes.extend(again.into_iter().flatten().chain(new));
        }
    }

    /// Asks for one; gives it back when it is to be asked for again, as a person would.
    async fn cancel(&self, client: &Client, wish: Wish) -> Option<Wish> {
        let asked = wish.asked.unwrap_or_else(now);
        let who = Asked { by: Some("torture".to_owned()), why: None };
        let sure = matches!(timeout(PATIENCE, client.cancel_job(wish.job, &who)).await, Ok(Ok(_)));
        let tries = wish.tries + 1;
        if sure || tries == TRIES {
            write(&self.cancels, &[Cancel { job: wish.job, asked, answered: now(), sure }]);
            return None;
        }
        Some(Wish { at: Instant::now() + AGAIN, asked: Some(asked), tries, ..wish })
    }

    /// Offers jobs; the cancels that belong to them.
    async fn offer(&self, client: &Client, offers: Vec<Offer>) -> Vec<Wish> {
        let soon = Instant::now();
        let wish = |offer: &Offer| Some(Wish { at: soon + offer.cancel?, job: offer.wanted.id, asked: None, tries: 0 });
        let wishes = offers.iter().filter_map(wish).collect();
        let (jobs, mut wanted): (Vec<NewJob>, Vec<Accepted>) =
            offers.into_iter().map(|offer| (offer.job, offer.wanted)).unzip();
        let offered = now();
        let answer = timeout(PATIENCE, client.publish_batch(&jobs)).await;
        let answered = now();
        for job in &mut wanted {
            let taken = |item: &spinor::api::BatchItem| item.id == job.id && item.problem.is_none();
            job.sure = matches!(&answer, Ok(Ok(answer)) if answer.jobs.iter().any(taken));
            (job.offered, job.answered) = (offered, answered);
        }
        self.sure.fetch_add(wanted.iter().filter(|job| job.sure).count(), Ordering::Relaxed);
        write(&self.ledger, &wanted);
        wishes
    }
}

/// Writes rows at the end of a ledger, onto the disk.
fn write<T: serde::Serialize>(ledger: &std::sync::Mutex<File>, rows: &[T]) {
    let lines: Vec<String> = rows.iter().map(|row| serde_json::to_string(row).expect("JSON") + "\n").collect();
    let mut ledger = ledger.lock().expect("no publisher panics");
    ledger.write_all(lines.concat().as_bytes()).expect("written");
    ledger.sync_data().expect("on disk");
}
