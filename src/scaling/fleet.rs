//! The replicas that one supervisor has.
//!
//! Owns their starts, drains and ends, and the second life of one that ended unasked. Refuses to
//! decide how many there shall be.

use std::time::Duration;

use spinor_consumers::consumer::Consumer;
use tokio::{sync::mpsc, time::Instant};
use tokio_util::task::TaskTracker;

use super::{
    child::{self, Program},
    group::ReplicaState,
    replica::{Ended, Phase, Place, Replica, Said, Told, Word},
};

/// A supervisor forgets who it was after the store of state has.
const REMEMBERED: Duration = Duration::from_secs(120);

/// A consumer of the group with a name of its own.
pub type MakeConsumer = Box<dyn Fn() -> anyhow::Result<(String, Consumer)> + Send + Sync>;

/// How replicas are made.
pub struct Making {
    /// A task of this process; unset when the process has not the part.
    pub consumer: Option<MakeConsumer>,
    /// A process; unset when the broker lives in this one.
    pub program: Option<Program>,
    /// From the order to drain to the end by force.
    pub bound: Duration,
}

/// All replicas of a supervisor.
pub struct Fleet {
    making: Making,
    replicas: Vec<Replica>,
    /// Whose presence may outlast them.
    gone: Vec<(Place, Instant)>,
    last: u64,
    /// How many were drained and did not end in good order.
    badly: usize,
    words: (mpsc::Sender<Said>, mpsc::Receiver<Said>),
    tasks: TaskTracker,
}

impl Fleet {
    /// None yet.
    pub fn new(making: Making) -> Self {
        let tasks = TaskTracker::new();
        let words = mpsc::channel(64);
        Self { making, replicas: Vec::new(), gone: Vec::new(), last: 0, badly: 0, words, tasks }
    }

    /// Does this process have the part that consumes?
    pub const fn consumes(&self) -> bool {
        self.making.consumer.is_some()
    }

    /// Those that take jobs or are about to: what counts as a replica.
    pub fn active(&self) -> impl Iterator<Item = &Place> {
        self.replicas.iter().filter(|replica| !matches!(replica.phase, Phase::Draining)).map(|replica| &replica.place)
    }

    /// Those that are on their way out, and those that were here.
    pub fn leaving(&self) -> impl Iterator<Item = &Place> {
        let draining = self.replicas.iter().filter(|replica| matches!(replica.phase, Phase::Draining));
        draining.map(|replica| &replica.place).chain(self.gone.iter().map(|(place, _)| place))
    }

    /// Is a replica a task of this process?
    pub fn is_task(&self, number: u64) -> bool {
        self.replicas.iter().any(|replica| replica.number == number && matches!(replica.place, Place::Task(_)))
    }

    /// Has everything ended?
    pub fn is_empty(&self) -> bool {
        self.replicas.is_empty()
    }

    /// Starts one more.
    pub fn start(&mut self) {
        self.last += 1;
        self.replicas.push(Replica::new(self.last));
        self.launch(self.replicas.len() - 1);
    }

    /// Drains so many: those that do not run, then processes, then tasks; of each the newest first.
    pub fn drain(&mut self, count: usize) {
        let rank = |replica: &Replica| match (&replica.phase, &replica.place) {
            (Phase::Waiting { .. }, _) => 0,
            (_, Place::Child(_)) => 1,
            _ => 2,
        };
        let mut candidates: Vec<(u8, std::cmp::Reverse<u64>)> = self
            .replicas
            .iter()
            .filter(|replica| !matches!(replica.phase, Phase::Draining))
            .map(|replica| (rank(replica), std::cmp::Reverse(replica.number)))
            .collect();
        candidates.sort_unstable();
        for (_, std::cmp::Reverse(number)) in candidates.into_iter().take(count) {
            self.drain_one(number);
        }
    }

    fn drain_one(&mut self, number: u64) {
        if let Some(replica) = self.replicas.iter_mut().find(|replica| replica.number == number) {
            if matches!(replica.phase, Phase::Waiting { .. }) {
                self.replicas.retain(|replica| replica.number != number);
                return;
            }
            tracing::info!(replica = replica.name(), "A replica is drained.");
            replica.phase = Phase::Draining;
            replica.shutdown.drain.cancel();
        }
    }

    /// How many were drained so far and did not end in good order.
    pub const fn badly(&self) -> usize {
        self.badly
    }

    /// Ends all at once.
    pub fn end_now(&mut self) {
        self.drain(usize::MAX);
        self.replicas.iter().for_each(|replica| replica.shutdown.now.cancel());
    }

    /// The next word of a replica; call [`Fleet::hear`] with it.
    pub async fn word(&mut self) -> Said {
        match self.words.1.recv().await {
            Some(word) => word,
            // Never: a sender is kept beside the receiver.
            None => std::future::pending().await,
        }
    }

    /// Takes a word in. Who ended unasked is started again, if `kept`; tells whether one was let go.
    pub fn hear(&mut self, (number, word): Said, kept: bool) -> bool {
        let Some(index) = self.replicas.iter().position(|replica| replica.number == number) else { return false };
        let replica = &mut self.replicas[index];
        match word {
            Word::Up if matches!(replica.phase, Phase::Starting) => {
                replica.phase = Phase::Running;
                tracing::info!(replica = replica.name(), "A replica is up.");
                false
            }
            Word::Up => false,
            Word::Ended(ended) => {
                self.gone.push((replica.place.clone(), Instant::now()));
                if matches!(replica.phase, Phase::Draining) {
                    if ended.well {
                        tracing::info!(replica = replica.name(), ended = ended.how, "A replica has ended.");
                    } else {
                        tracing::warn!(
                            replica = replica.name(),
                            ended = ended.how,
                            "A replica did not end in good order; what it had in hand is handed out again."
                        );
                        self.badly += 1;
                    }
                    self.replicas.remove(index);
                    return false;
                }
                if !kept && ended.well {
                    self.replicas.remove(index);
                    return true;
                }
                replica.fell(ended);
                false
            }
        }
    }

    /// When the next one is started again.
    pub fn due(&self) -> Option<Instant> {
        let until = |replica: &Replica| match replica.phase {
            Phase::Waiting { until, .. } => Some(until),
            _ => None,
        };
        self.replicas.iter().filter_map(until).min()
    }

    /// Starts again whose wait is over.
    pub fn restart_due(&mut self) {
        let now = Instant::now();
        self.gone.retain(|(_, at)| now.duration_since(*at) < REMEMBERED);
        for index in 0..self.replicas.len() {
            if matches!(self.replicas[index].phase, Phase::Waiting { until, .. } if until <= now) {
                self.launch(index);
            }
        }
    }

    /// Gives a replica a life: the process's own consumer first, processes beyond it.
    fn launch(&mut self, index: usize) {
        let has_task = self.active().any(|place| matches!(place, Place::Task(_)));
        let replica = &mut self.replicas[index];
        replica.begin();
        let told = Told::new(replica.number, self.words.0.clone());
        let started = match (&self.making.consumer, &self.making.program) {
            (Some(make), None) => run_task(make, replica, told, &self.tasks),
            (Some(make), Some(_)) if !has_task => run_task(make, replica, told, &self.tasks),
            (_, Some(program)) => run_child(program, self.making.bound, replica, told, &self.tasks),
            (None, None) => Ok(()),
        };
        if let Err(error) = started {
            replica.fell(Ended { how: format!("could not be started: {error:#}"), well: false });
        }
    }

    /// For people.
    pub fn states(&self) -> Vec<ReplicaState> {
        self.replicas.iter().map(Replica::state).collect()
    }
}

fn run_task(make: &MakeConsumer, replica: &mut Replica, told: Told, tasks: &TaskTracker) -> anyhow::Result<()> {
    let (name, consumer) = make()?;
    replica.place = Place::Task(name);
    replica.phase = Phase::Running;
    let shutdown = replica.shutdown.clone();
    tasks.spawn(async move {
        let ended = match consumer.run(shutdown).await {
            Ok(()) => Ended { how: "in good order".to_owned(), well: true },
            Err(error) => Ended { how: error.to_string(), well: false },
        };
        told.say(Word::Ended(ended)).await;
    });
    Ok(())
}

fn run_child(
    program: &Program,
    bound: Duration,
    replica: &mut Replica,
    told: Told,
    tasks: &TaskTracker,
) -> anyhow::Result<()> {
    let child = program.start()?;
    replica.place = Place::Child(child.id().unwrap_or_default());
    replica.phase = Phase::Starting;
    tracing::info!(replica = replica.name(), "A replica is started.");
    tasks.spawn(child::follow(child, replica.shutdown.clone(), bound, told));
    Ok(())
}
