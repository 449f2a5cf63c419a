//! The jobs that somebody waits for, as far as this recorder knows.
//!
//! Owns a bounded, expiring set of ids, filled by `Watch` events and looked at after each commit:
//! the end of a watched job is told at once, so that who waits need not look again and again. Lossy
//! by design. Refuses to cost anything while nobody waits: then a commit is one look at an empty set.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::{
    broker::{Broker, Event, Topic},
    entry::Entry,
    message::Message,
    results::DeadLetter,
};

/// More jobs are not watched; who waits for them looks at the record.
const MOST: usize = 50_000;
/// A watch that is not repeated ends after this long.
const LASTS: Duration = Duration::from_secs(15);
/// Of so many the end is committed without a pause.
const FEW: usize = 32;
/// Ids to one event.
const TOLD_AT_ONCE: usize = 1000;

/// The set.
#[derive(Debug, Default)]
pub struct Watched(Mutex<HashMap<Uuid, Instant>>);

impl Watched {
    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hears who waits, for ever. `pause` is what lies between two tries to listen.
    pub async fn listen<B: Broker>(&self, broker: &B, pause: Duration) -> Infallible {
        loop {
            if let Ok(mut events) = broker.listen(Topic::Watches).await {
                while let Some(event) = events.next().await {
                    if let Event::Watch { jobs } = event {
                        let fresh = self.add(jobs, Instant::now());
                        if !fresh.is_empty() {
                            broker.cast(Event::Watched { jobs: fresh });
                        }
                    }
                }
            }
            sleep(pause).await;
        }
    }

    /// Adds jobs and gives those that were not watched; forgets what nobody repeated.
    fn add(&self, jobs: Vec<Uuid>, now: Instant) -> Vec<Uuid> {
        let mut watched = self.lock();
        watched.retain(|_, until| *until > now);
        let room = MOST.saturating_sub(watched.len());
        let mut fresh = Vec::new();
        for job in jobs {
            if let Some(until) = watched.get_mut(&job) {
                *until = now + LASTS;
            } else if fresh.len() < room {
                watched.insert(job, now + LASTS);
                fresh.push(job);
            }
        }
        fresh
    }

    /// Does somebody wait for one of these ends? When many do, they gain more from large commits.
    pub fn presses(&self, entries: &[Entry]) -> bool {
        let watched = self.lock();
        (1..=FEW).contains(&watched.len()) && ends(entries).any(|job| watched.contains_key(&job))
    }

    /// Tells the ends among what was committed that somebody waits for.
    pub fn tell<B: Broker>(&self, broker: &B, entries: &[Entry], letters: &[(Message, DeadLetter)]) {
        if self.lock().is_empty() {
            return;
        }
        let told = self.take(ends(entries).chain(letters.iter().map(|(_, letter)| letter.job)));
        for jobs in told.chunks(TOLD_AT_ONCE) {
            broker.cast(Event::Recorded { jobs: jobs.to_vec() });
        }
    }

    fn take(&self, ended: impl Iterator<Item = Uuid>) -> Vec<Uuid> {
        let mut watched = self.lock();
        let told = ended.filter(|job| watched.remove(job).is_some()).collect();
        // The last one may be gone without a word.
        let now = Instant::now();
        if watched.values().next().is_some_and(|until| *until <= now) {
            watched.retain(|_, until| *until > now);
        }
        told
    }
}

fn ends(entries: &[Entry]) -> impl Iterator<Item = Uuid> {
    entries.iter().filter_map(|entry| match entry {
        Entry::Report(report) if report.state.is_final() => Some(report.job),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;
    use uuid::Uuid;

    use super::{LASTS, MOST, Watched};

    #[test]
    fn a_job_is_told_once_and_a_watch_that_nobody_repeats_ends() {
        let (watched, now) = (Watched::default(), Instant::now());
        let [one, two] = [Uuid::from_u128(1), Uuid::from_u128(2)];
        assert_eq!(watched.add(vec![one, two], now), [one, two]);
        assert!(watched.add(vec![one], now).is_empty());
        assert_eq!(watched.take([one, one, Uuid::from_u128(3)].into_iter()), [one]);
        assert_eq!(watched.add(vec![one], now + LASTS), [one]);
        assert!(watched.take([two].into_iter()).is_empty(), "it was forgotten");
    }

    #[test]
    fn the_set_is_bounded() {
        let (watched, now) = (Watched::default(), Instant::now());
        let jobs: Vec<Uuid> = (0..MOST as u128 + 5).map(Uuid::from_u128).collect();
        assert_eq!(watched.add(jobs, now).len(), MOST);
        assert!(watched.add(vec![Uuid::max()], now).is_empty());
        assert_eq!(watched.add(vec![Uuid::max()], now + LASTS), [Uuid::max()]);
    }
}
