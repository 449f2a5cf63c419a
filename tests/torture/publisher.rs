//! Publishes the mix and keeps the ledger of what was accepted: on disk before the next is offered.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use spinor::{
    api::{Asked, new_job::NewJob},
    client::Client,
};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
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
/// So many more accepted than executed, and a publisher waits.
const AHEAD: usize = 200;
/// A cancel that was not accepted is asked for again after this long, so many times in all.
const AGAIN: Duration = Duration::from_secs(1);
const TRIES: u32 = 4;
/// About the length of a job's two lines.
const LINES: usize = 2 * 135;

/// Publishers of one run and their common ledger.
pub struct Publisher {
    executions: PathBuf,
    ledger: std::sync::Mutex<File>,
    cancels: std::sync::Mutex<File>,
    sure: AtomicUsize,
    once: bool,
}

/// A cancel that is to be asked for.
struct Wish {
    at: Instant,
    job: Uuid,
    asked: Option<Seconds>,
    tries: u32,
}

impl Publisher {
    /// With empty ledgers in this directory; `once`: some consumers run theirs at most once.
    pub fn new(into: &Path, once: bool) -> Self {
        let open = |name| OpenOptions::new().create(true).append(true).open(into.join(name)).expect("a ledger").into();
        let (ledger, cancels) = (open("accepted.ndjson"), open("cancels.ndjson"));
        Self { executions: into.join("executions"), ledger, cancels, sure: AtomicUsize::new(0), once }
    }

    /// How many the broker surely has.
    pub fn sure(&self) -> usize {
        self.sure.load(Ordering::Relaxed)
    }

    /// Publishes until it is told to stop; what is under way is finished.
    pub async fn publish(&self, client: Client, mut draw: Draw, stop: CancellationToken) {
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut wishes = Vec::new();
        while !stop.is_cancelled() || !wishes.is_empty() {
            pace.tick().await;
            self.cancel(&client, &mut wishes).await;
            let executed = std::fs::metadata(&self.executions).map_or(0, |file| file.len() as usize / LINES);
            if self.sure() <= executed + AHEAD && !stop.is_cancelled() {
                let offers = (0..BATCH).map(|_| mix::draw(&mut draw, self.once)).collect();
                self.offer(&client, offers, &mut wishes).await;
            }
        }
    }

    /// Asks for what is due. A process that does not answer is asked again, as a person would.
    async fn cancel(&self, client: &Client, wishes: &mut Vec<Wish>) {
        for mut wish in std::mem::take(wishes) {
            if wish.at > Instant::now() {
                wishes.push(wish);
                continue;
            }
            let asked = *wish.asked.get_or_insert_with(now);
            let why = Asked { by: Some("torture".to_owned()), why: None };
            let sure = matches!(timeout(PATIENCE, client.cancel_job(wish.job, &why)).await, Ok(Ok(_)));
            wish.tries += 1;
            if sure || wish.tries == TRIES {
                write(&self.cancels, &[Cancel { job: wish.job, asked, answered: now(), sure }]);
            } else {
                wishes.push(Wish { at: Instant::now() + AGAIN, ..wish });
            }
        }
    }

    async fn offer(&self, client: &Client, offers: Vec<Offer>, wishes: &mut Vec<Wish>) {
        let soon = Instant::now();
        let wish = |offer: &Offer| Some(Wish { at: soon + offer.cancel?, job: offer.wanted.id, asked: None, tries: 0 });
        wishes.extend(offers.iter().filter_map(wish));
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
    }
}

/// Writes rows at the end of a ledger, onto the disk.
fn write<T: serde::Serialize>(ledger: &std::sync::Mutex<File>, rows: &[T]) {
    let lines: Vec<String> = rows.iter().map(|row| serde_json::to_string(row).expect("JSON") + "\n").collect();
    let mut ledger = ledger.lock().expect("no publisher panics");
    ledger.write_all(lines.concat().as_bytes()).expect("written");
    ledger.sync_data().expect("on disk");
}
