//! Publishes the mix and keeps the ledger of what was accepted: on disk before the next is offered.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use spinor::{api::new_job::NewJob, client::Client};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    ledgers::{Accepted, now},
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
/// About the length of a job's two lines.
const LINES: usize = 2 * 135;

/// Publishers of one run and their common ledger.
pub struct Publisher {
    executions: PathBuf,
    ledger: std::sync::Mutex<File>,
    sure: AtomicUsize,
}

impl Publisher {
    /// With an empty ledger in this directory.
    pub fn new(into: &Path) -> Self {
        let ledger = OpenOptions::new().create(true).append(true).open(into.join("accepted.ndjson"));
        let ledger = ledger.expect("a ledger");
        Self { executions: into.join("executions"), ledger: ledger.into(), sure: AtomicUsize::new(0) }
    }

    /// How many the broker surely has.
    pub fn sure(&self) -> usize {
        self.sure.load(Ordering::Relaxed)
    }

    /// Publishes until it is told to stop; what is under way is finished.
    pub async fn publish(&self, client: Client, mut draw: Draw, stop: CancellationToken) {
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !stop.is_cancelled() {
            pace.tick().await;
            let executed = std::fs::metadata(&self.executions).map_or(0, |file| file.len() as usize / LINES);
            if self.sure() <= executed + AHEAD {
                self.offer(&client, (0..BATCH).map(|_| mix::draw(&mut draw)).collect()).await;
            }
        }
    }

    async fn offer(&self, client: &Client, offers: Vec<Offer>) {
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
        let lines: Vec<String> = wanted.iter().map(|job| serde_json::to_string(job).expect("JSON") + "\n").collect();
        let mut ledger = self.ledger.lock().expect("no publisher panics");
        ledger.write_all(lines.concat().as_bytes()).expect("written");
        ledger.sync_data().expect("on disk");
    }
}
