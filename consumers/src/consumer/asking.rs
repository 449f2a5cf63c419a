//! Deliveries whose holder is asked whether it runs them: they wait here, not in a slot.
//!
//! Owns the questions at 0, 5 and 10 s and the verdict at 15 s that a silent holder is dead (30 s
//! when the broker itself was away). What is known of a holder's silence counts for whatever else it
//! holds, and for what comes again over a new link: one question and 5 s are enough then.
//! Bounded; refuses to act on an answer: the slots do.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use spinor_executors::{Job, pool::AttemptKey};
use tokio::{
    sync::Notify,
    time::{Duration, Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{credit::BOUND, intake::Intake};
use crate::broker::{AnyBroker, Broker, Delivery, Event, Link};

/// Between two questions.
const AGAIN: Duration = Duration::from_secs(5);
/// So many questions without an answer.
const QUESTIONS: u32 = 3;
/// And so many when the broker was away a moment ago: a holder may take longer to come back.
const QUESTIONS_AFTER_LOSS: u32 = 6;
/// How long that moment is.
const LATELY: Duration = Duration::from_secs(60);

/// A delivery of a job that another consumer may run.
pub struct Asked {
    /// The job.
    pub job: Job,
    /// Was it announced?
    pub journaled: bool,
    /// The delivery.
    pub delivery: Delivery,
    /// Who holds it.
    pub holder: Uuid,
}

struct Open {
    asked: Asked,
    key: AttemptKey,
    /// Asked about this one.
    questions: u32,
    /// Asked in vain about its holder before.
    before: u32,
    next: Instant,
}

/// Questions in vain about one holder, and when the last one was asked.
struct Silence {
    questions: u32,
    last: Instant,
}

/// All that wait for an answer.
pub struct Asking {
    broker: AnyBroker,
    intake: Arc<Intake>,
    open: Mutex<Vec<Open>>,
    silent: Mutex<HashMap<Uuid, Silence>>,
    changed: Notify,
}

impl Asking {
    /// Nothing is asked yet.
    pub fn new(broker: AnyBroker, intake: Arc<Intake>) -> Self {
        Self { broker, intake, open: Mutex::default(), silent: Mutex::default(), changed: Notify::new() }
    }

    fn open(&self) -> MutexGuard<'_, Vec<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for one more; gives the delivery back when too many wait.
    #[must_use]
    pub fn ask(&self, asked: Asked) -> Option<Delivery> {
        let mut open = self.open();
        if open.len() >= BOUND {
            return Some(asked.delivery);
        }
        let key = (asked.job.id, asked.job.replay, asked.job.attempt);
        let before = self.known_silence(asked.holder);
        open.push(Open { asked, key, questions: 0, before, next: Instant::now() });
        self.intake.set_aside(open.len());
        drop(open);
        self.changed.notify_one();
        None
    }

    /// So many questions about it were in vain, lately.
    fn known_silence(&self, holder: Uuid) -> u32 {
        let silent = self.silent();
        silent.get(&holder).filter(|silence| silence.last.elapsed() < LATELY).map_or(0, |silence| silence.questions)
    }

    fn silent(&self) -> MutexGuard<'_, HashMap<Uuid, Silence>> {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a holder answered about; it waits no longer.
    pub fn answered(&self, holder: Uuid, key: AttemptKey) -> Vec<Asked> {
        self.silent().remove(&holder);
        self.open().iter_mut().filter(|one| one.asked.holder == holder).for_each(|one| one.before = 0);
        self.take(|one| one.asked.holder == holder && one.key == key)
    }

    /// Everything that waits.
    pub fn close(&self) -> Vec<Asked> {
        self.take(|_| true)
    }

    fn take(&self, which: impl Fn(&Open) -> bool) -> Vec<Asked> {
        let mut open = self.open();
        let taken: Vec<Asked> = open.extract_if(.., |one| which(one)).map(|one| one.asked).collect();
        self.intake.set_aside(open.len());
        taken
    }

    /// Asks when it is time, and tells of each whose holder stays silent.
    pub async fn run(&self, dead: impl Fn(Asked), stop: CancellationToken) {
        let mut link = self.broker.link();
        let mut lost: Option<Instant> = None;
        loop {
            let next = self.open().iter().map(|one| one.next).min();
            let due = async {
                match next {
                    Some(next) => sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => {}
                () = self.changed.notified() => continue,
                Ok(()) = link.changed() => {
                    let up = matches!(*link.borrow_and_update(), Link::Up);
                    // Its end counts, as long as it was seen to begin.
                    lost = lost.or_else(|| (!up).then(Instant::now)).map(|_| Instant::now());
                    continue;
                }
                () = stop.cancelled() => return,
            }
            let now = Instant::now();
            let enough = if lost.is_some_and(|at| at.elapsed() < LATELY) { QUESTIONS_AFTER_LOSS } else { QUESTIONS };
            let silent = |one: &Open| one.questions > 0 && one.questions + one.before >= enough;
            self.take(|one| one.next <= now && silent(one)).into_iter().for_each(&dead);
            for one in self.open().iter_mut().filter(|one| one.next <= now) {
                let (job, replay, attempt) = one.key;
                self.broker.cast(Event::WhoHolds { holder: one.asked.holder, job, replay, attempt });
                one.questions += 1;
                one.next = now + AGAIN;
                self.is_silent(one.asked.holder, one.questions + one.before, now);
            }
        }
    }

    /// So many questions about it, and no answer yet.
    fn is_silent(&self, holder: Uuid, questions: u32, now: Instant) {
        let mut silent = self.silent();
        silent.retain(|_, silence| silence.last.elapsed() < LATELY);
        let silence = silent.entry(holder).or_insert(Silence { questions, last: now });
        (silence.questions, silence.last) = (silence.questions.max(questions), now);
    }
}
