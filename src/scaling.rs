//! A group's wanted replicas become true: starts and drains consumers to match the mark.
//!
//! Owns the supervisor of this process's own group (docs/decisions/013-scaling.md). The stages are
//! files: `presence` (who is there), `decide` (how many to start or drain), `fleet` and `replica`
//! (what there is here), `child` and `orders` (one in a process of its own), `scaler` (a command that does it all
//! elsewhere), `group` (what is shown). Refuses to set the mark, and to touch another's replicas.

mod child;
mod decide;
mod fleet;
mod group;
mod orders;
mod presence;
mod replica;
mod scaler;

use std::time::Duration;

use spinor_consumers::{
    consumer::{Agreed, Shutdown},
    state::Subject,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use child::Program;
pub use fleet::{MakeConsumer, Making};
pub use group::{GroupState, ReplicaPhase, ReplicaState, ScalerState};
pub use orders::Orders;
pub use scaler::Scaler;

use decide::{Change, decide};
use fleet::Fleet;
use replica::{Said, Word};

/// While a number is wanted, presence is looked at this often.
const LOOK: Duration = Duration::from_secs(2);
/// The leader's lease, begun anew at each look.
const LEASE: Duration = Duration::from_secs(6);
/// A start waits so long to hear what is wanted.
const PATIENCE: Duration = Duration::from_secs(2);
/// An excess that nobody ends for so long is ended by the leader.
const INSISTS: Duration = Duration::from_secs(15);
/// At most so many are started at a look: a machine is not to be flooded.
const AT_ONCE: usize = 8;
/// At most so many replicas has a process.
const MOST: usize = 200;
/// From the end of a drain's grace to the end by force.
pub const HARD_END: Duration = Duration::from_secs(45);

/// Sees that a group has as many consumers as it shall.
pub struct Supervisor {
    group: String,
    host: String,
    id: Uuid,
    agreed: Agreed,
    fleet: Fleet,
    shown: watch::Sender<GroupState>,
    state: GroupState,
    /// Since when there are too many.
    excess: Option<Instant>,
    /// The process's own consumer was told to end, while nobody wants a number.
    let_go: bool,
}

impl Supervisor {
    /// Of a group, with no replicas yet.
    pub fn new(group: String, host: String, agreed: Agreed, making: Making, shown: watch::Sender<GroupState>) -> Self {
        let state = GroupState { group: group.clone(), ..GroupState::default() };
        let fleet = Fleet::new(making);
        Self { group, host, id: Uuid::now_v7(), agreed, fleet, shown, state, excess: None, let_go: false }
    }

    /// Until told to stop; then drains all replicas and comes back when none is left, with how many
    /// did not end in good order. A consumer of this process that cannot run cancels `failed`.
    pub async fn run(mut self, shutdown: Shutdown, failed: &CancellationToken) -> usize {
        let mut changes = self.agreed.marks.changes();
        if self.agreed.state.get().is_some() {
            tokio::select! {
                _ = self.agreed.marks.loaded(PATIENCE) => {}
                () = shutdown.drain.cancelled() => return 0,
            }
        }
        // Its own consumer is there at once, whoever leads; if it is one too many it goes again.
        if self.fleet.consumes() && self.wanted() != Some(0) {
            self.fleet.start();
        }
        let mut look = Instant::now();
        while !shutdown.drain.is_cancelled() {
            self.fleet.restart_due();
            if look <= Instant::now() {
                self.step().await;
                look = Instant::now() + LOOK;
            }
            self.show();
            let due = self.fleet.due().unwrap_or(look).min(look);
            tokio::select! {
                () = shutdown.drain.cancelled() => {}
                word = self.fleet.word() => self.hear(word, failed),
                changed = changes.changed() => {
                    if changed.is_err() {
                        // Nobody follows the marks any more: the end is near.
                        sleep_until(due).await;
                    }
                    look = Instant::now();
                }
                () = sleep_until(due) => {}
            }
        }
        let before = self.fleet.badly();
        self.end(&shutdown).await;
        self.fleet.badly() - before
    }

    fn wanted(&self) -> Option<usize> {
        let wanted = self.agreed.marks.number(&[Subject::Replicas(self.group.clone())])?;
        usize::try_from(wanted).ok()
    }

    fn lease(&self) -> String {
        format!("scale:{}", self.group)
    }

    /// Looks at what is wanted and who is there, and does what follows.
    async fn step(&mut self) {
        let mark = self.agreed.marks.get(&Subject::Replicas(self.group.clone()));
        let wanted = self.wanted();
        self.state.wanted = wanted.and_then(|wanted| u32::try_from(wanted).ok());
        self.state.by = mark.as_ref().map(|mark| mark.by.clone());
        self.state.at = mark.as_ref().map(|mark| mark.at);
        self.state.why = mark.and_then(|mark| mark.why);
        match wanted {
            Some(wanted) => {
                self.let_go = false;
                self.towards(wanted).await;
            }
            None => self.alone(),
        }
    }

    /// Nobody wants a number: this process's own consumer, and no other.
    fn alone(&mut self) {
        self.state = GroupState { group: self.group.clone(), ..GroupState::default() };
        self.excess = None;
        let active = self.fleet.active().count();
        let own = usize::from(self.fleet.consumes());
        if active > own {
            self.fleet.drain(active - own);
        } else if active < own && !self.let_go {
            self.fleet.start();
        }
    }

    /// A number is wanted: judged by the list that all supervisors read. Without it nothing changes.
    async fn towards(&mut self, wanted: usize) {
        let Some(state) = self.agreed.state.get() else {
            return self.blind("it has not answered since the start");
        };
        let epoch = match state.lease(&self.lease(), self.id, LEASE).await {
            Ok(epoch) => epoch,
            Err(error) => return self.blind(&error.to_string()),
        };
        let present = match state.consumers().await {
            Ok(present) => present,
            Err(error) => return self.blind(&error.to_string()),
        };
        self.state.problem = None;
        self.state.leads = epoch.is_some();
        let seen = presence::seen(&self.group, &self.host, &self.fleet, &present);
        let elsewhere = seen.iter().filter(|one| !one.mine).count();
        self.state.elsewhere = u32::try_from(elsewhere).ok();
        self.excess = if seen.len() > wanted { self.excess.or_else(|| Some(Instant::now())) } else { None };
        let insists = self.excess.is_some_and(|since| since.elapsed() >= INSISTS);
        match decide(wanted, seen, epoch.is_some(), insists) {
            Change::Keep => {}
            Change::Start(missing) => self.start(missing),
            Change::Drain(excess) => self.fleet.drain(excess),
        }
    }

    fn start(&mut self, missing: usize) {
        let room = MOST.saturating_sub(self.fleet.active().count());
        if missing > room {
            self.state.problem = Some(format!("{missing} more are wanted; one process has at most {MOST} replicas"));
        }
        for _ in 0..missing.min(room).min(AT_ONCE) {
            self.fleet.start();
        }
    }

    fn blind(&mut self, why: &str) {
        self.state.leads = false;
        self.state.elsewhere = None;
        self.excess = None;
        self.state.problem = Some(format!("state cannot be read, so nothing is started or drained: {why}"));
    }

    fn hear(&mut self, (number, word): Said, failed: &CancellationToken) {
        if let (Word::Ended(ended), true) = (&word, self.fleet.is_task(number))
            && !ended.well
        {
            tracing::error!(error = ended.how, "A consumer could not start.");
            failed.cancel();
        }
        let kept = self.wanted().is_some();
        self.let_go |= self.fleet.hear((number, word), kept);
    }

    fn show(&self) {
        let state = self.state.clone().with_replicas(self.fleet.states());
        self.shown.send_if_modified(|shown| {
            let differs = *shown != state;
            *shown = state;
            differs
        });
    }

    /// Drains all; another leads from now on.
    async fn end(&mut self, shutdown: &Shutdown) {
        self.fleet.drain(usize::MAX);
        self.show();
        if let (true, Some(state)) = (self.state.leads, self.agreed.state.get()) {
            // Best effort: else it ends by itself.
            let _ = state.give_up(&self.lease(), self.id).await;
        }
        let mut told = false;
        while !self.fleet.is_empty() {
            tokio::select! {
                word = self.fleet.word() => {
                    self.fleet.hear(word, false);
                }
                () = shutdown.now.cancelled(), if !told => {
                    told = true;
                    self.fleet.end_now();
                }
            }
            self.show();
        }
    }
}
