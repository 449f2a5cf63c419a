//! The loop that works on replays of all that match.
//!
//! One process at a time does it, by a lease. What is published next is written down first, each job
//! with its replay number, so that a process that takes over publishes the same ones again and no
//! others; copies are told apart by their claims. Woken by a word on the control topic; a look every
//! [`LOOK`] finds what the word did not bring.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use jiff::Timestamp;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Edit, Ready, ReplayError, Replays};
use crate::{
    broker::{Broker, Event, Events, PublishError, Topic},
    results::{Found, Rate, ReplayRow, ResultsError, Working},
};

/// Without a word a look is taken after this long.
const LOOK: Duration = Duration::from_secs(5);
/// Who works on replays is the only one for this long; renewed at each turn.
const LEASE: Duration = Duration::from_secs(15);
/// So many jobs to a chunk, and the chunks of a slow replay about a second apart.
const CHUNK: usize = 100;
/// So many bytes are published at once.
const BATCH_BYTES: usize = 1 << 20;
/// A broker or a database that takes nothing is tried again after this long.
const AGAIN: Duration = Duration::from_secs(2);

/// What a chunk came to.
#[derive(Default)]
struct Chunk {
    done: u64,
    failed: u64,
    error: Option<String>,
    /// Not taken now: published again at the next turn.
    left: Vec<Found>,
}

/// What the loop remembers between its turns.
#[derive(Default)]
struct Memory {
    owner: Uuid,
    leads: bool,
    /// When each replay may publish its next chunk.
    due: HashMap<Uuid, Instant>,
    /// The record does not answer, and that was said.
    quiet: bool,
    /// Nor does State.
    away: bool,
}

impl Replays {
    /// Works on what is ordered until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        let mut memory = Memory { owner: Uuid::now_v7(), ..Memory::default() };
        let mut events = None;
        loop {
            let next = match self.turn(&mut memory).await {
                Ok(next) => {
                    memory.quiet = false;
                    next
                }
                Err(error) => {
                    if !std::mem::replace(&mut memory.quiet, true) {
                        tracing::warn!(%error, "Replays wait: the record does not answer.");
                    }
                    Instant::now() + AGAIN
                }
            };
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.told(&mut events) => {}
                () = sleep_until(next) => {}
            }
        }
        self.give_up(&mut memory).await;
    }

    /// Waits for the word that a replay was ordered or stopped; for ever while nobody can say it.
    async fn told(&self, events: &mut Option<Events>) {
        if events.is_none() {
            *events = self.broker.listen(Topic::Control).await.ok();
        }
        if let Some(heard) = events {
            while let Some(event) = heard.next().await {
                if matches!(event, Event::Ordered { .. }) {
                    return;
                }
            }
        }
        *events = None;
        std::future::pending::<()>().await;
    }

    /// Publishes one chunk of one replay, if one is due; tells when to come again.
    async fn turn(&self, memory: &mut Memory) -> Result<Instant, ResultsError> {
        let now = Instant::now();
        let running = self.results.running_replays().await?;
        let known: HashSet<Uuid> = running.iter().map(|working| working.row.id).collect();
        memory.due.retain(|id, _| known.contains(id));
        if running.is_empty() {
            self.give_up(memory).await;
            return Ok(now + LOOK);
        }
        if !self.lead(memory).await {
            return Ok(now + LOOK);
        }
        let due = |working: &Working| memory.due.get(&working.row.id).copied().unwrap_or(now);
        let Some(mut first) = running.into_iter().min_by_key(due) else { return Ok(now + LOOK) };
        let (id, at) = (first.row.id, due(&first));
        if at > now {
            // Not later than a look: the lease is renewed by it.
            return Ok(at.min(now + LOOK));
        }
        let wait = self.step(&mut first).await?;
        memory.due.insert(id, Instant::now() + wait);
        Ok(Instant::now())
    }

    /// Publishes what is pending, looks for what is next, writes both down; tells the pause after it.
    async fn step(&self, working: &mut Working) -> Result<Duration, ResultsError> {
        let published = working.pending.len();
        let chunk = self.publish(std::mem::take(&mut working.pending), &working.row).await?;
        working.row.done += chunk.done;
        working.row.failed += chunk.failed;
        working.row.error = chunk.error.or(working.row.error.take());
        let again = !chunk.left.is_empty();
        working.pending = chunk.left;
        if let (false, Some(place)) = (again, &working.place) {
            let most = size(working.row.rate);
            let look = self.results.look(&working.row.filter, working.row.at, place, most).await?;
            working.pending = look.found.into_iter().map(|(id, replay)| (id, replay.saturating_add(1))).collect();
            working.place = look.next;
        }
        if !self.results.advance_replay(working).await? {
            tracing::info!(replay = %working.row.id, "Another process works on this replay.");
            return Ok(LOOK);
        }
        if working.place.is_none() && working.pending.is_empty() {
            let row = &working.row;
            tracing::info!(replay = %row.id, done = row.done, failed = row.failed, "A replay is done.");
        }
        let taken = u32::try_from(published).unwrap_or(u32::MAX);
        let paced = working.row.rate.map_or(Duration::ZERO, |rate| rate.interval().saturating_mul(taken));
        Ok(if again { paced.max(AGAIN) } else { paced })
    }

    async fn publish(&self, pending: Vec<Found>, order: &ReplayRow) -> Result<Chunk, ResultsError> {
        let mut chunk = Chunk::default();
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for (id, replay) in pending {
            match self.due(id, replay, order).await {
                Ok(Some(ready)) => {
                    bytes += ready.job.args.bytes().len();
                    batch.push(ready);
                }
                Ok(None) => chunk.done += 1,
                Err(ReplayError::Results(error @ ResultsError::Unavailable(_))) => return Err(error),
                Err(ReplayError::State(_)) => chunk.left.push((id, replay)),
                Err(error) => chunk.refused(id, &error.to_string()),
            }
            if bytes > BATCH_BYTES {
                self.flush(std::mem::take(&mut batch), &mut chunk).await;
                bytes = 0;
            }
        }
        self.flush(batch, &mut chunk).await;
        Ok(chunk)
    }

    /// The job, unless it was started anew already: by a process that died before it wrote so, or by
    /// a person.
    async fn due(&self, id: Uuid, replay: u32, order: &ReplayRow) -> Result<Option<Ready>, ReplayError> {
        let source = self.results.source(id).await?;
        if source.is_some_and(|source| source.replay >= replay) {
            return Ok(None);
        }
        let ready = self.ready(id, Some(replay), &Edit::default(), &order.filter.within).await?;
        self.agree(&ready, &order.by).await?;
        Ok(Some(ready))
    }

    async fn flush(&self, batch: Vec<Ready>, chunk: &mut Chunk) {
        if batch.is_empty() {
            return;
        }
        let of: Vec<Found> = batch.iter().map(|ready| (ready.job.id, ready.job.replay)).collect();
        for (found, sent) in of.into_iter().zip(self.send(batch).await) {
            match sent {
                Ok(()) => chunk.done += 1,
                Err(PublishError::Refused(_) | PublishError::Unconfirmed(_)) => chunk.left.push(found),
                Err(error) => chunk.refused(found.0, &error.to_string()),
            }
        }
    }

    /// Takes or renews the lease; tells whether this process has it.
    async fn lead(&self, memory: &mut Memory) -> bool {
        let Some(state) = self.state.get() else { return false };
        match state.lease(NAME, memory.owner, LEASE).await {
            Ok(epoch) => {
                memory.away = false;
                memory.leads = epoch.is_some();
            }
            Err(error) => {
                if !std::mem::replace(&mut memory.away, true) {
                    tracing::warn!(%error, "Replays wait: State does not say who works on them.");
                }
                memory.leads = false;
            }
        }
        memory.leads
    }

    async fn give_up(&self, memory: &mut Memory) {
        if std::mem::take(&mut memory.leads)
            && let Some(state) = self.state.get()
        {
            // Otherwise it ends by itself.
            let _ = state.give_up(NAME, memory.owner).await;
        }
    }
}

/// The name of the lease.
const NAME: &str = "replays";

impl Chunk {
    fn refused(&mut self, id: Uuid, why: &str) {
        self.failed += 1;
        self.error = Some(format!("job {id} at {}: {why}", Timestamp::now()));
    }
}

/// How many jobs to a chunk: about what a second takes, so that a slow replay comes evenly.
fn size(rate: Option<Rate>) -> usize {
    let Some(rate) = rate else { return CHUNK };
    let second = Duration::from_secs(1).as_nanos() / rate.interval().as_nanos().max(1);
    usize::try_from(second).unwrap_or(CHUNK).clamp(1, CHUNK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_about_a_second_of_the_rate_and_never_nothing() {
        let of = |jobs, each_ms| size(Some(Rate { jobs, each_ms }));
        assert_eq!((of(10, 1000), of(1, 3_600_000), of(1_000_000, 1), size(None)), (10, 1, CHUNK, CHUNK));
        assert_eq!((of(0, 0), of(30, 60_000)), (CHUNK, 1));
    }
}
