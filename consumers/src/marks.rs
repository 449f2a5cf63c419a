//! The marks that hold, in the memory of a process: what its consumers obey.
//!
//! Owns how the memory follows the store: listen first, then load, then look again at every word of
//! a change and every [`LOOK`]; a store that is away leaves what is known in force. Refuses to
//! set marks, and to act on them.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use crate::{
    broker::{Broker, Event, Topic},
    state::{Changes, Kind, Mark, State, Subject},
};

/// The store is asked again after this long, whether or not somebody said that something changed.
pub const LOOK: Duration = Duration::from_secs(3);

/// Until it was read for the first time, it is asked again after this.
const AGAIN: Duration = Duration::from_millis(250);

/// State of who can do without it for a while: set once it has answered.
pub type StateCell = Arc<OnceLock<State>>;

/// What the bounds of a limit are, as its mark says it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bound {
    /// So many at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_once: Option<u32>,
    /// So many in each such time: `[100, 60000]` is a hundred a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_ms: Option<(u32, u64)>,
}

/// The marks that hold, as far as this process knows. Cheap to ask.
pub struct Marks {
    known: RwLock<Known>,
    cancels: AtomicBool,
    followed: bool,
    loaded: CancellationToken,
    changed: watch::Sender<u64>,
    /// One look at the store at a time: two would be taken over in any order.
    looking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Known {
    version: u64,
    marks: HashMap<Subject, Mark>,
    cancels: HashSet<Uuid>,
    /// By kind, the version of what changed last.
    changed: HashMap<Kind, u64>,
}

impl Default for Marks {
    fn default() -> Self {
        Self {
            known: RwLock::default(),
            cancels: AtomicBool::new(false),
            followed: false,
            loaded: CancellationToken::new(),
            changed: watch::Sender::new(0),
            looking: tokio::sync::Mutex::default(),
        }
    }
}

impl Marks {
    /// Follows the store until told to stop.
    pub fn follow<B: Broker>(broker: B, state: StateCell, tasks: &TaskTracker, stop: CancellationToken) -> Arc<Self> {
        let marks = Arc::new(Self { followed: true, ..Self::default() });
        let following = Arc::clone(&marks);
        tasks.spawn(async move {
            stop.run_until_cancelled(following.keep_up(&broker, &state)).await;
        });
        marks
    }

    /// Waits until the store was read once, but no longer than this; tells whether it was. Marks that
    /// follow no store are whole as they are.
    pub async fn loaded(&self, patience: Duration) -> bool {
        self.is_whole() || timeout(patience, self.loaded.cancelled()).await.is_ok()
    }

    /// Was the store read once? Then what is not said there holds for certain.
    pub fn is_whole(&self) -> bool {
        !self.followed || self.loaded.is_cancelled()
    }

    /// Counts the changes this process has seen.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The mark that holds for a subject.
    pub fn get(&self, subject: &Subject) -> Option<Mark> {
        self.read(|known| known.marks.get(subject).cloned())
    }

    /// The wish that this job, or its run, shall end. One look at a flag while nothing is cancelled.
    pub fn cancelled(&self, job: Uuid, run: Option<Uuid>) -> Option<Mark> {
        if !self.cancels.load(Ordering::Relaxed) {
            return None;
        }
        self.read(|known| {
            let of_run = || run.and_then(|run| known.marks.get(&Subject::CancelRun(run)));
            known.marks.get(&Subject::Cancel(job)).or_else(of_run).cloned()
        })
    }

    /// All marks of a kind that hold, in no order.
    pub fn all(&self, kind: Kind) -> Vec<Mark> {
        self.read(|known| known.marks.values().filter(|mark| mark.subject.kind() == kind).cloned().collect())
    }

    /// Moves when a mark of a kind is set or cleared.
    pub fn changed_last(&self, kind: Kind) -> u64 {
        self.read(|known| known.changed.get(&kind).copied().unwrap_or_default())
    }

    /// A number that a mark says of the first of these subjects that has one.
    pub fn number(&self, subjects: &[Subject]) -> Option<u32> {
        self.read(|known| {
            let of = |subject| known.marks.get(subject)?.value.as_ref()?.as_u64();
            subjects.iter().find_map(of).and_then(|number| u32::try_from(number).ok())
        })
    }

    /// The bound that a mark says of a limit.
    pub fn bound(&self, limit: &str) -> Option<Bound> {
        let mark = self.get(&Subject::Limit(limit.to_owned()))?;
        serde_json::from_value(mark.value?).ok()
    }

    fn read<T>(&self, look: impl FnOnce(&Known) -> T) -> T {
        look(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    async fn keep_up<B: Broker>(&self, broker: &B, state: &StateCell) {
        loop {
            // Listening comes first: what changes between the load and the first event is told.
            let Ok(mut events) = broker.listen(Topic::Control).await else {
                self.load(state).await;
                sleep(LOOK).await;
                continue;
            };
            loop {
                self.load(state).await;
                let told = async {
                    loop {
                        match events.next().await {
                            Some(Event::Marked { version }) if version > self.version() => return true,
                            Some(_) => {}
                            None => return false,
                        }
                    }
                };
                tokio::select! {
                    goes_on = told => if !goes_on { break },
                    () = sleep(if self.loaded.is_cancelled() { LOOK } else { AGAIN }) => {}
                }
            }
            // The broker was closed, or is about to be.
            sleep(LOOK).await;
        }
    }

    fn version(&self) -> u64 {
        self.read(|known| known.version)
    }

    /// Reads what is new, now: who has just set a mark sees it from then on. A store that does not answer
    /// is asked again at the next look.
    pub async fn load(&self, state: &StateCell) {
        let Some(state) = state.get() else { return };
        let _looking = self.looking.lock().await;
        if let Ok(changes) = state.marks_since(self.version()).await {
            self.take(changes);
        }
    }

    fn take(&self, changes: Changes) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let anything = changes.whole || !changes.marks.is_empty();
        if changes.whole {
            *known = Known::default();
            // What is not among them holds no more.
            known.changed = Kind::ALL.into_iter().map(|kind| (kind, changes.version)).collect();
        }
        known.version = changes.version;
        for mark in changes.marks {
            let subject = mark.subject.clone();
            let changed = known.changed.entry(subject.kind()).or_default();
            *changed = mark.version.max(*changed);
            if let Subject::Cancel(id) | Subject::CancelRun(id) = subject {
                if mark.value.is_some() {
                    known.cancels.insert(id)
                } else {
                    known.cancels.remove(&id)
                };
            }
            if mark.value.is_some() {
                known.marks.insert(subject, mark)
            } else {
                known.marks.remove(&subject)
            };
        }
        self.cancels.store(!known.cancels.is_empty(), Ordering::Relaxed);
        drop(known);
        self.loaded.cancel();
        if anything {
            self.changed.send_modify(|count| *count += 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::{Value, json};

    use super::*;

    fn mark(subject: Subject, value: Option<Value>, version: u64) -> Mark {
        Mark { subject, value, by: "me".into(), at: Timestamp::UNIX_EPOCH, why: None, version }
    }

    fn told(marks: &Marks, whole: bool, version: u64, changed: Vec<Mark>) {
        marks.take(Changes { version, whole, marks: changed });
    }

    #[test]
    fn what_changed_is_taken_over_and_what_was_cleared_holds_no_more() {
        let (marks, job, run) = (Marks::default(), Uuid::now_v7(), Uuid::now_v7());
        assert_eq!(marks.cancelled(job, Some(run)), None);
        told(&marks, true, 2, vec![mark(Subject::CancelRun(run), Some(Value::Null), 2)]);
        assert!(marks.cancelled(job, Some(run)).is_some() && marks.cancelled(job, None).is_none());
        told(&marks, false, 3, vec![mark(Subject::CancelRun(run), None, 3)]);
        assert_eq!(marks.cancelled(job, Some(run)), None);
        let changes = *marks.changes().borrow();
        told(&marks, false, 3, Vec::new());
        assert_eq!(*marks.changes().borrow(), changes);
    }

    #[test]
    fn a_number_is_that_of_the_nearest_subject_and_rubbish_is_none() {
        let marks = Marks::default();
        let [own, group] = [Subject::Slots("g@h-1".into()), Subject::Slots("g".into())];
        told(&marks, true, 1, vec![mark(group.clone(), Some(json!(4)), 1)]);
        assert_eq!(marks.number(&[own.clone(), group.clone()]), Some(4));
        told(&marks, false, 3, vec![mark(own.clone(), Some(json!(2)), 2), mark(group.clone(), Some(json!("x")), 3)]);
        assert_eq!((marks.number(&[own, group.clone()]), marks.number(&[group])), (Some(2), None));
        let changed = |kind| marks.changed_last(kind);
        assert_eq!((changed(Kind::Slots), changed(Kind::Limit)), (3, 1));
        told(&marks, false, 4, vec![mark(Subject::Limit("a".into()), Some(json!({"at_once": 3})), 4)]);
        assert_eq!((changed(Kind::Slots), changed(Kind::Limit)), (3, 4));
        assert_eq!(marks.bound("a"), Some(Bound { at_once: Some(3), rate_ms: None }));
    }
}
