//! One replica: what it does, by what others know it, and when it is started again.
//!
//! Owns the waits between its lives. Refuses to start anything: the fleet does.

use std::time::Duration;

use jiff::Timestamp;
use spinor_consumers::consumer::Shutdown;
use tokio::{sync::mpsc, time::Instant};

use super::group::{ReplicaPhase, ReplicaState};

/// The wait before the first new start; it doubles up to [`LONGEST`].
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);
/// Who lived so long starts with the first wait again.
const LIVED: Duration = Duration::from_secs(60);
/// So many short lives in a row are no accident.
const NO_ACCIDENT: u32 = 5;
/// What a replica says of itself.
pub enum Word {
    /// It is up.
    Up,
    /// It is no more.
    Ended(Ended),
}

/// How a replica ended.
pub struct Ended {
    /// In words.
    pub how: String,
    /// In good order?
    pub well: bool,
}

/// A word, and which replica says it.
pub type Said = (u64, Word);

/// A replica's way to its supervisor.
pub struct Told {
    number: u64,
    words: mpsc::Sender<Said>,
}

impl Told {
    /// Of the replica of this number.
    pub const fn new(number: u64, words: mpsc::Sender<Said>) -> Self {
        Self { number, words }
    }

    /// Says it. A supervisor that is gone needs no word.
    pub async fn say(&self, word: Word) {
        let _ = self.words.send((self.number, word)).await;
    }
}

/// By what a replica is known to others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A task, by its consumer's name.
    Task(String),
    /// A process, by its number.
    Child(u32),
    /// It could not be started.
    Nowhere,
}

/// What a replica does.
pub enum Phase {
    /// Its process was started and is not up yet.
    Starting,
    /// It takes jobs.
    Running,
    /// It takes none any more, and ends.
    Draining,
    /// It ended unasked, and is started again then.
    Waiting {
        /// By this clock.
        until: Instant,
        /// For people.
        again: Timestamp,
    },
}

/// One replica, through all its lives.
pub struct Replica {
    /// Which one it is.
    pub number: u64,
    /// By what it is known to others.
    pub place: Place,
    /// What it does.
    pub phase: Phase,
    /// Ends its present life.
    pub shutdown: Shutdown,
    since: Instant,
    started: Timestamp,
    failures: u32,
    last_exit: Option<String>,
}

impl Replica {
    /// One that has not lived yet.
    pub fn new(number: u64) -> Self {
        Self {
            number,
            place: Place::Nowhere,
            phase: Phase::Starting,
            shutdown: Shutdown::default(),
            since: Instant::now(),
            started: Timestamp::now(),
            failures: 0,
            last_exit: None,
        }
    }

    /// Begins another life.
    pub fn begin(&mut self) {
        self.place = Place::Nowhere;
        self.phase = Phase::Starting;
        self.shutdown = Shutdown::default();
        self.since = Instant::now();
        self.started = Timestamp::now();
    }

    /// For the log.
    pub fn name(&self) -> String {
        match &self.place {
            Place::Task(consumer) => consumer.clone(),
            Place::Child(pid) => format!("process {pid}"),
            Place::Nowhere => format!("number {}", self.number),
        }
    }

    /// It ended, and not because its supervisor wanted it: after a while it is started again.
    pub fn fell(&mut self, Ended { how, well }: Ended) {
        let wait;
        (wait, self.failures) = wait_after(self.failures, self.since.elapsed());
        let (replica, ended, again_in_s) = (self.name(), how.as_str(), wait.as_secs());
        if self.failures >= NO_ACCIDENT {
            tracing::error!(
                replica,
                ended,
                again_in_s,
                times = self.failures,
                "A replica ends again and again soon after its start; its own lines above say why."
            );
        } else if well {
            tracing::info!(replica, again_in_s, "A replica was drained by somebody else; one is started in its place.");
        } else {
            tracing::warn!(
                replica,
                ended,
                again_in_s,
                "A replica ended unasked and is started again; what it had in hand runs elsewhere."
            );
        }
        self.last_exit = Some(how);
        let again = Timestamp::now().checked_add(wait).unwrap_or_else(|_| Timestamp::now());
        self.phase = Phase::Waiting { until: Instant::now() + wait, again };
    }

    /// For people.
    pub fn state(&self) -> ReplicaState {
        let (phase, again) = match self.phase {
            Phase::Starting => (ReplicaPhase::Starting, None),
            Phase::Running => (ReplicaPhase::Running, None),
            Phase::Draining => (ReplicaPhase::Draining, None),
            Phase::Waiting { again, .. } => (ReplicaPhase::Restarting, Some(again)),
        };
        let (pid, consumer) = match &self.place {
            Place::Task(consumer) => (std::process::id(), Some(consumer.clone())),
            Place::Child(pid) => (*pid, None),
            Place::Nowhere => (0, None),
        };
        ReplicaState { pid, consumer, phase, started: self.started, last_exit: self.last_exit.clone(), again }
    }
}

/// The wait after so many short lives in a row and one of this length; how many there are with it.
fn wait_after(failures: u32, lived: Duration) -> (Duration, u32) {
    let failures = if lived >= LIVED { 0 } else { failures };
    (FIRST.saturating_mul(1 << failures.min(10)).min(LONGEST), failures.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_to_its_bound_and_begins_anew_after_a_minute_alive() {
        let mut failures = 0;
        let waits = [0, 0, 0, 0, 0, 59, 0, 60, 0].map(|lived| {
            let wait;
            (wait, failures) = wait_after(failures, Duration::from_secs(lived));
            wait.as_secs()
        });
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 1, 2]);
    }
}
