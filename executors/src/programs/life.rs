//! An executor process between its hello and its end: jobs, and the time between them.
//!
//! Owns when it is asked for a sign of life, recycled and ended. Refuses to choose its jobs.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::{
    child::{Child, GRACE, Next},
    ears::LogEar,
    pool::{Handle, Pool},
    start::ended,
    turn::{self, Beat, Pulse, Turn},
    words::{Said, Told},
};

/// One that was told to end does so within this.
const BYE: Duration = Duration::from_secs(5);
/// Between two looks at how much memory it holds: a look costs more than a small job.
const LOOK: Duration = Duration::from_secs(1);

/// What a process gets to do.
pub enum Order {
    /// A job.
    Turn(Box<Turn>),
    /// End: its place is wanted.
    Leave,
}

/// One process's life.
pub struct Life {
    pool: Arc<Pool>,
    handle: Handle,
    orders: mpsc::Receiver<Order>,
    log: LogEar,
    pings: bool,
    jobs: u64,
    looked: Instant,
    /// A job ran since the last look.
    unlooked: bool,
}

/// Why it ends.
enum Why {
    /// Told so, with a farewell.
    Retired,
    /// It went, or misbehaved; for the log.
    Lost(String),
    /// It is gone already, with its job's report.
    Over,
}

impl Life {
    /// Of a process that has said hello.
    pub fn new(pool: Arc<Pool>, handle: Handle, orders: mpsc::Receiver<Order>, log: LogEar, pings: bool) -> Self {
        Self { pool, handle, orders, log, pings, jobs: 0, looked: Instant::now(), unlooked: false }
    }

    /// Lives it.
    pub async fn live(mut self, child: Child) {
        let mut child = Some(child);
        let why = self.works(&mut child).await;
        // Its place is free at once: what ends takes no jobs, and one that was just handed to it goes on.
        self.orders.close();
        while self.orders.try_recv().is_ok() {}
        self.pool.gone(self.handle.id);
        let Some(mut child) = child else { return };
        match why {
            Why::Over => {}
            Why::Retired => {
                let _ = child.tell(&Told::Bye {});
                child.see_off(BYE, &mut self.log).await;
            }
            Why::Lost(why) => {
                let pid = child.pid();
                let (exit, _) = child.end(GRACE, &mut self.log).await;
                let (program, tail) = (self.pool.program().named(), self.log.tail());
                tracing::warn!(program, pid, end = ended(exit), why, tail, "An executor process ended between jobs.");
            }
        }
    }

    async fn works(&mut self, place: &mut Option<Child>) -> Why {
        loop {
            self.pool.give(self.handle.clone());
            let Some(child) = place else { return Why::Over };
            let turn = match self.waits(child).await {
                Ok(turn) => turn,
                Err(why) => return why,
            };
            let Some(child) = place.take() else { return Why::Over };
            let program = self.pool.program();
            let Some((child, wants)) = turn::run(child, *turn, program, self.pings).await else { return Why::Over };
            let child = place.insert(child);
            self.jobs += 1;
            self.unlooked = true;
            let grown = self.looked.elapsed() >= LOOK && self.has_grown(child).await;
            if !wants || grown || self.jobs >= self.pool.program().recycle_jobs {
                return Why::Retired;
            }
        }
    }

    /// Waits for a job.
    async fn waits(&mut self, child: &mut Child) -> Result<Box<Turn>, Why> {
        let pool = Arc::clone(&self.pool);
        let mut pulse = Pulse::new(pool.program());
        let mut idle = Instant::now() + pool.program().idle;
        loop {
            let look = self.looked + LOOK;
            tokio::select! {
                biased;
                next = child.next(&mut self.log) => {
                    between(next)?;
                    pulse.sign();
                }
                order = self.orders.recv() => match order {
                    Some(Order::Turn(turn)) => {
                        // One that went or misbehaved gets no job, however late the runtime hears of it.
                        while let Some(next) = child.next_now(&mut self.log) {
                            between(next)?;
                        }
                        return Ok(turn);
                    }
                    Some(Order::Leave) | None => return Err(Why::Retired),
                },
                () = pool.closing() => return Err(Why::Retired),
                beat = pulse.due() => match beat {
                    Beat::Ask(n) if child.tell(&Told::Ping { n }).is_ok() => {}
                    Beat::Ask(_) => return Err(Why::Lost("it went".to_owned())),
                    Beat::Hung => return Err(Why::Lost("it answered no ping".to_owned())),
                },
                () = sleep_until(look), if self.unlooked && pool.program().recycle_memory.is_some() => {
                    // One that was taken meanwhile is looked at after its job.
                    if self.has_grown(child).await && pool.withdraw(self.handle.id) {
                        return Err(Why::Retired);
                    }
                }
                () = sleep_until(idle) => {
                    if pool.may_leave(self.handle.id) {
                        return Err(Why::Retired);
                    }
                    idle = Instant::now() + pool.program().idle;
                }
            }
        }
    }

    /// Does it hold more memory than it may keep?
    async fn has_grown(&mut self, child: &Child) -> bool {
        let Some(bound) = self.pool.program().recycle_memory else { return false };
        (self.looked, self.unlooked) = (Instant::now(), false);
        let tree = child.tree();
        tokio::task::spawn_blocking(move || tree.memory()).await.unwrap_or(0) > bound
    }
}

/// What one says between jobs: a sign of life, or the end of it.
fn between(next: Next) -> Result<(), Why> {
    match next {
        Next::Said(Said::Bye) => Err(Why::Retired),
        Next::Said(Said::Result(_)) => Err(Why::Lost("it sent a result, and ran no job".to_owned())),
        Next::Said(Said::Hello(_)) => Err(Why::Lost("it said hello again".to_owned())),
        Next::Said(_) => Ok(()),
        Next::Rude(why) => Err(Why::Lost(why)),
        Next::Gone => Err(Why::Lost("it went".to_owned())),
    }
}
