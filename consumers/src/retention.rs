//! Retention: what has ended long enough ago goes, a chunk at a time.
//!
//! Owns when: one process at a time, which has the lease, with a pause after each chunk as long as the
//! chunk took, so that the recorder always has half of the database. `spinor data prune` takes the same
//! steps at once. Refuses to touch what has not ended.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use spinor_executors::State;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    blobs::{BlobError, Blobs},
    marks::StateCell,
    results::{Chunk, Cuts, Place, Pruned, Results, ResultsError},
    search::SearchIndex,
};

/// How long ended jobs are kept, by how they ended; `None` is for ever.
pub type Keep = Vec<(State, Option<Duration>)>;

/// A blob without a job or a letter on record goes after this long: longer than any job is delayed, and than
/// reports may wait in their queue.
const ORPHAN: SignedDuration = SignedDuration::from_hours(40 * 24);
/// No run goes sooner: its jobs may not be on record yet.
const RUN: SignedDuration = SignedDuration::from_hours(24);
/// The lease is renewed after each chunk.
const LEASE: Duration = Duration::from_secs(60);
/// The shortest pause after a chunk that found something.
const PAUSE: Duration = Duration::from_millis(20);
/// Orphans and old indices are looked for this often.
const SELDOM: Duration = Duration::from_secs(3600);

/// Keeps the record small until told to stop.
pub struct Retention {
    /// The record.
    pub results: Results,
    /// What is large, of the same jobs.
    pub blobs: Blobs,
    /// Where the lease is.
    pub state: StateCell,
    /// The search index, if it is fed.
    pub search: Option<SearchIndex>,
    /// How long.
    pub keep: Keep,
    /// How long it is kept who did what; `None` is for ever.
    pub keep_audit: Option<Duration>,
    /// Between two passes. 5 min in the product.
    pub every: Duration,
}

/// A pass was left: another process has the lease, or this one ends.
struct Left;

/// What goes now.
pub fn cuts(keep: &Keep, now: Timestamp) -> Cuts {
    let before = |time: &Duration| now.checked_sub(SignedDuration::try_from(*time).ok()?).ok();
    let jobs: Vec<(State, Timestamp)> =
        keep.iter().filter_map(|(state, time)| Some((*state, before(time.as_ref()?)?))).collect();
    let letters = jobs.iter().find(|(state, _)| *state == State::Dead).map(|(_, before)| *before);
    let newest = jobs.iter().map(|(_, before)| *before).max();
    let runs = newest.and_then(|before| Some(before.min(now.checked_sub(RUN).ok()?)));
    Cuts { jobs, letters, runs }
}

/// One chunk of a pass, with what is large of its jobs; a dry one counts and changes nothing.
pub async fn step(
    results: &Results,
    blobs: &Blobs,
    cuts: &Cuts,
    from: Place,
    dry: bool,
) -> Result<(Pruned, Option<Place>), ResultsError> {
    let unread = |error: BlobError| ResultsError::Unavailable(error.to_string());
    let Chunk { mut pruned, bare, next } = results.prune(cuts, from, dry).await?;
    if !bare.is_empty() {
        (pruned.blobs, pruned.blob_bytes) = blobs.count(&bare).await.map_err(unread)?;
        if !dry && pruned.blobs > 0 {
            blobs.forget(&bare).await.map_err(unread)?;
        }
    }
    Ok((pruned, next))
}

impl Retention {
    /// Passes over the record now and then.
    pub async fn run(self, stop: CancellationToken) {
        let owner = Uuid::now_v7();
        let mut seldom: Option<Instant> = None;
        let mut told = false;
        while stop.run_until_cancelled(sleep(self.every)).await.is_some() {
            if self.is_mine(owner).await.is_err() {
                continue;
            }
            let passed = self.pass(owner, &stop).await;
            if let Err(Some(error)) = &passed
                && !told
            {
                tracing::warn!(%error, "What is past its time cannot be removed now; it is tried again.");
            }
            told = matches!(passed, Err(Some(_)));
            if passed.is_ok() && seldom.is_none_or(|last| last.elapsed() >= SELDOM) {
                seldom = Some(Instant::now());
                self.sweep(&stop).await;
                self.forget_actions(&stop).await;
            }
        }
        if let Some(state) = self.state.get() {
            // One that is not given up ends by itself.
            let _ = state.give_up("retention", owner).await;
        }
    }

    /// One pass; an error that is none means that it was left.
    async fn pass(&self, owner: Uuid, stop: &CancellationToken) -> Result<(), Option<ResultsError>> {
        let cuts = cuts(&self.keep, Timestamp::now());
        let (mut place, mut sum) = (Some(Place::default()), Pruned::default());
        let mut renewed = Instant::now();
        while let Some(from) = place {
            let since = Instant::now();
            let (pruned, next) = step(&self.results, &self.blobs, &cuts, from, false).await.map_err(Some)?;
            place = next;
            if pruned != Pruned::default() {
                sum += pruned;
                let pause = since.elapsed().max(PAUSE);
                stop.run_until_cancelled(sleep(pause)).await.ok_or(None)?;
            }
            if renewed.elapsed() > LEASE / 3 {
                renewed = Instant::now();
                self.is_mine(owner).await.map_err(|Left| None)?;
            }
            if stop.is_cancelled() {
                return Err(None);
            }
        }
        if sum != Pruned::default() {
            tracing::info!(
                jobs = sum.jobs,
                runs = sum.runs,
                letters = sum.letters,
                replays = sum.replays,
                blobs = sum.blobs,
                "Removed what was past its time."
            );
        }
        Ok(())
    }

    /// Without state nothing is removed: two at once would do no harm but be in each other's way.
    async fn is_mine(&self, owner: Uuid) -> Result<(), Left> {
        let state = self.state.get().ok_or(Left)?;
        match state.lease("retention", owner, LEASE).await {
            Ok(Some(_)) => Ok(()),
            _ => Err(Left),
        }
    }

    /// What no row leads to: blobs whose publish was refused, and months of the index.
    async fn sweep(&self, stop: &CancellationToken) {
        if let Err(error) = self.sweep_blobs(stop).await {
            tracing::warn!(%error, "The blob store was not looked through; it is tried again.");
        }
        let longest = self.keep.iter().map(|(_, time)| *time).collect::<Option<Vec<_>>>();
        let longest = longest.and_then(|times| times.into_iter().max());
        let (Some(search), Some(longest)) = (&self.search, longest) else { return };
        let Some(before) =
            SignedDuration::try_from(longest).ok().and_then(|longest| Timestamp::now().checked_sub(longest).ok())
        else {
            return;
        };
        match search.drop_months_before(before).await {
            Ok(dropped) if dropped.is_empty() => {}
            Ok(dropped) => {
                tracing::info!(indices = ?dropped, "Dropped months of the search index that are past their time.");
            }
            Err(error) => tracing::warn!(%error, "Old months of the search index are not dropped; it is tried again."),
        }
    }

    async fn forget_actions(&self, stop: &CancellationToken) {
        let kept = self.keep_audit.and_then(|time| SignedDuration::try_from(time).ok());
        let Some(before) = kept.and_then(|time| Timestamp::now().checked_sub(time).ok()) else { return };
        let mut gone = 1;
        while gone > 0 && !stop.is_cancelled() {
            match self.results.forget_actions(before).await {
                Ok(rows) => gone = rows,
                Err(error) => {
                    tracing::warn!(%error, "Old actions are not forgotten; it is tried again.");
                    return;
                }
            }
            stop.run_until_cancelled(sleep(PAUSE)).await;
        }
    }

    async fn sweep_blobs(&self, stop: &CancellationToken) -> Result<(), BlobError> {
        let Ok(before) = Timestamp::now().checked_sub(ORPHAN) else { return Ok(()) };
        let mut after = Uuid::nil();
        while !stop.is_cancelled() {
            let found = self.blobs.orphans(&self.results, before, after).await?;
            let Some(last) = found.last else { break };
            after = last;
            self.blobs.forget(&found.orphans).await?;
        }
        Ok(())
    }
}
