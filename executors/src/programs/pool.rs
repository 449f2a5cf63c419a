//! How many processes of a program there are, and who gets one.
//!
//! Owns the numbers: one more starts when a job waits and there may be more, one that has nothing
//! to do leaves, and the one that ran last runs next. One that cannot start is left alone for a
//! while, longer each time, and its jobs are told so. Refuses to know what is said to a process.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Program,
    child::Child,
    ears::LogEar,
    life::{Life, Order},
    start::{BACK_OFF, start},
    words::Hello,
};
use crate::Unready;

/// All are ended within this when the pool closes.
const CLOSED: Duration = Duration::from_secs(10);

/// The way to one process.
#[derive(Clone)]
pub struct Handle {
    /// Its number in the pool.
    pub id: u64,
    orders: mpsc::Sender<Order>,
}

/// A process for one job; dropped unused, it is free again.
pub struct Seat {
    pool: Arc<Pool>,
    handle: Option<Handle>,
}

impl Seat {
    /// Hands it an order; `Err` gives it back when the process is gone.
    pub async fn order(mut self, order: Order) -> Result<(), Order> {
        match self.handle.take() {
            Some(handle) => handle.orders.send(order).await.map_err(|unsent| unsent.0),
            None => Err(order),
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            self.pool.give(handle);
        }
    }
}

/// The pools of one consumer, who together have so many places.
pub struct Places {
    slots: usize,
    pools: Mutex<Vec<Weak<Pool>>>,
}

impl Places {
    /// So many in all.
    pub fn new(slots: usize) -> Arc<Self> {
        Arc::new(Self { slots, pools: Mutex::default() })
    }

    /// If there are too many, one with nothing to do leaves another pool than this.
    fn make_room(&self, for_pool: &Pool) {
        let pools: Vec<Arc<Pool>> =
            self.pools.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade).collect();
        if pools.iter().map(|pool| pool.lock().live).sum::<usize>() > self.slots {
            let _ = pools.iter().filter(|pool| !std::ptr::eq(Arc::as_ptr(pool), for_pool)).find(|pool| pool.evict());
        }
    }
}

/// The processes of one program.
pub struct Pool {
    program: Program,
    places: Arc<Places>,
    state: Mutex<State>,
    tasks: TaskTracker,
    closing: CancellationToken,
}

#[derive(Default)]
struct State {
    /// The last is the warmest.
    free: Vec<Handle>,
    /// Processes, with those that start.
    live: usize,
    starting: usize,
    waiting: VecDeque<oneshot::Sender<Seat>>,
    hello: Option<Arc<Hello>>,
    trouble: Option<Trouble>,
    last_id: u64,
}

struct Trouble {
    why: String,
    times: usize,
}

impl Pool {
    /// Nothing runs yet.
    pub fn new(program: Program, places: &Arc<Places>) -> Arc<Self> {
        let (tasks, closing) = (TaskTracker::new(), CancellationToken::new());
        let pool = Arc::new(Self { program, places: Arc::clone(places), state: Mutex::default(), tasks, closing });
        places.pools.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&pool));
        pool
    }

    /// What it runs.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// What the program said last of itself.
    pub fn hello(&self) -> Option<Arc<Hello>> {
        self.lock().hello.clone()
    }

    /// Why it cannot start, if it cannot.
    pub fn trouble(&self) -> Option<String> {
        self.lock().trouble.as_ref().map(|trouble| trouble.why.clone())
    }

    /// How many processes there are.
    #[cfg(test)]
    pub fn live(&self) -> usize {
        self.lock().live
    }

    /// Starts the first, whoever needs it: what it serves is known then.
    pub fn open(self: &Arc<Self>) {
        let mut state = self.lock();
        for _ in state.live..self.program.min.max(1) {
            self.start_one(&mut state);
        }
    }

    /// A process for one job; waits until one is free. `Err` while none can start.
    pub async fn take(self: &Arc<Self>) -> Result<Seat, Unready> {
        let seat = {
            let mut state = self.lock();
            if self.closing.is_cancelled() {
                return Err(Unready("the consumer stops".to_owned()));
            }
            if let Some(handle) = state.free.pop() {
                return Ok(Seat { pool: Arc::clone(self), handle: Some(handle) });
            }
            if let Some(trouble) = state.trouble.as_ref().filter(|_| state.live == state.starting) {
                return Err(self.unready(&trouble.why));
            }
            let (give, seat) = oneshot::channel();
            state.waiting.push_back(give);
            self.grow(&mut state);
            seat
        };
        seat.await.map_err(|_| self.unready(self.trouble().as_deref().unwrap_or("the consumer stops")))
    }

    /// What its jobs are told while it cannot start.
    pub fn unready(&self, why: &str) -> Unready {
        Unready(format!("the program `{}` cannot be started: {why}", self.program.named()))
    }

    /// A process is free: for who waits longest, or the next that comes.
    pub fn give(self: &Arc<Self>, handle: Handle) {
        if handle.orders.is_closed() {
            return;
        }
        let mut state = self.lock();
        let mut handle = Some(handle);
        while let Some(waiting) = state.waiting.pop_front() {
            let seat = Seat { pool: Arc::clone(self), handle: handle.take() };
            match waiting.send(seat) {
                Ok(()) => return,
                // It waits no more.
                Err(mut seat) => handle = seat.handle.take(),
            }
        }
        if !self.closing.is_cancelled() {
            state.free.extend(handle);
        }
    }

    /// A process takes no more jobs.
    pub fn gone(self: &Arc<Self>, id: u64) {
        let mut state = self.lock();
        state.live -= 1;
        state.free.retain(|handle| handle.id != id);
        self.grow(&mut state);
    }

    /// May one that has nothing to do leave? Then nobody gets it any more.
    pub fn may_leave(&self, id: u64) -> bool {
        let spare = self.lock().live > self.program.min;
        spare && self.withdraw(id)
    }

    /// Nobody gets it any more; `false` when somebody has it.
    pub fn withdraw(&self, id: u64) -> bool {
        let mut state = self.lock();
        let before = state.free.len();
        state.free.retain(|handle| handle.id != id);
        state.free.len() < before
    }

    /// Lets the one go that has had nothing to do for longest, if it is not one of those that stay.
    fn evict(&self) -> bool {
        let mut state = self.lock();
        if state.live <= self.program.min || state.free.is_empty() {
            return false;
        }
        state.free.remove(0).orders.try_send(Order::Leave).is_ok()
    }

    /// Resolves when all are to end.
    pub async fn closing(&self) {
        self.closing.cancelled().await;
    }

    /// Ends all of them; those that run a job are left to who waits for it.
    pub async fn close(&self) {
        self.closing.cancel();
        {
            let mut state = self.lock();
            state.waiting.clear();
            state.free.clear();
        }
        self.tasks.close();
        if timeout(CLOSED, self.tasks.wait()).await.is_err() {
            tracing::warn!(program = self.program.named(), "Executor processes did not end in time.");
        }
    }

    /// Starts as many as are wanted, if there may be more.
    fn grow(self: &Arc<Self>, state: &mut State) {
        state.waiting.retain(|waiting| !waiting.is_closed());
        // One that cannot start is tried by the clock.
        if self.closing.is_cancelled() || state.trouble.is_some() {
            return;
        }
        let wanted =
            state.waiting.len().saturating_sub(state.starting).max(self.program.min.saturating_sub(state.live));
        for _ in 0..wanted.min(self.program.max.saturating_sub(state.live)) {
            self.start_one(state);
        }
    }

    fn start_one(self: &Arc<Self>, state: &mut State) {
        state.live += 1;
        state.starting += 1;
        state.last_id += 1;
        let (pool, id) = (Arc::clone(self), state.last_id);
        self.tasks.spawn(async move {
            pool.places.make_room(&pool);
            let started = tokio::select! {
                started = start(&pool.program) => started,
                () = pool.closing() => Err("the consumer stops".to_owned()),
            };
            match started {
                Ok((child, hello, log)) => pool.started(id, child, hello, log).await,
                Err(why) => pool.failed(why),
            }
        });
    }

    async fn started(self: Arc<Self>, id: u64, child: Child, hello: Hello, log: LogEar) {
        for kind in hello.kinds.iter().filter(|kind| !self.program.has(&kind.kind)) {
            tracing::warn!(
                program = self.program.named(),
                kind = kind.kind,
                "A program serves a kind that is not mapped to it."
            );
        }
        let pings = hello.answers_pings_while_running;
        {
            let mut state = self.lock();
            state.starting -= 1;
            if state.trouble.take().is_some() {
                tracing::info!(program = self.program.named(), "The program starts again.");
            }
            state.hello = Some(Arc::new(hello));
        }
        let (orders, received) = mpsc::channel(1);
        Life::new(Arc::clone(&self), Handle { id, orders }, received, log, pings).live(child).await;
    }

    fn failed(self: &Arc<Self>, why: String) {
        if self.closing.is_cancelled() {
            return;
        }
        tracing::warn!(program = self.program.named(), why, "A program cannot be started.");
        let mut state = self.lock();
        state.live -= 1;
        state.starting -= 1;
        let times = state.trouble.as_ref().map_or(0, |trouble| trouble.times);
        state.trouble = Some(Trouble { why, times: times + 1 });
        if state.live == state.starting {
            // Nobody can serve them: they are told so.
            state.waiting.clear();
        }
        if state.starting > 0 {
            return;
        }
        let (pool, pause) = (Arc::clone(self), BACK_OFF[times.min(BACK_OFF.len() - 1)]);
        self.tasks.spawn(async move {
            tokio::select! {
                () = sleep(pause) => {
                    let mut state = pool.lock();
                    if state.trouble.is_some() && state.starting == 0 {
                        pool.start_one(&mut state);
                    }
                }
                () = pool.closing() => {}
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
