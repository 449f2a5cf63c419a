//! The permits of limits that this consumer's executions have, until each ends.
//!
//! Owns their leases: begun anew at each beat, given back when the guard is dropped, and ended by
//! themselves when this process dies. Refuses to know what a limit is.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::time::Duration;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::marks::StateCell;

/// The permits of a consumer that died are free after this.
pub const LEASE: Duration = Duration::from_secs(30);
/// A permit that cannot be given back is tried again this often; then its lease ends it.
const TRIES: u32 = 5;

/// Every permit this consumer has.
pub struct Permits {
    state: StateCell,
    owners: Mutex<HashSet<Uuid>>,
    tasks: TaskTracker,
}

/// One job's permits; dropped, they are given back.
pub struct Permit {
    permits: Arc<Permits>,
    owner: Uuid,
}

impl Permits {
    /// None yet; what gives them back runs on `tasks`.
    pub fn new(state: StateCell, tasks: TaskTracker) -> Self {
        Self { state, owners: Mutex::default(), tasks }
    }

    /// Keeps what a job was granted.
    pub fn keep(self: &Arc<Self>, owner: Uuid) -> Permit {
        self.owners().insert(owner);
        Permit { permits: Arc::clone(self), owner }
    }

    /// Begins all leases anew.
    pub async fn renew(&self) {
        let owners: Vec<Uuid> = self.owners().iter().copied().collect();
        let Some(state) = self.state.get().filter(|_| !owners.is_empty()) else { return };
        match state.renew(&owners, LEASE).await {
            Ok(lost) => {
                // One that ended in the meantime has none any more either.
                let lost = lost.iter().filter(|owner| self.owners().contains(*owner)).count();
                if lost > 0 {
                    tracing::warn!(
                        lost,
                        "Running jobs have lost their place under a limit; others may start beside them."
                    );
                }
            }
            Err(error) => tracing::debug!(%error, "Leases of limits could not be renewed now."),
        }
    }

    fn owners(&self) -> MutexGuard<'_, HashSet<Uuid>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.permits.owners().remove(&self.owner);
        let (permits, owner) = (Arc::clone(&self.permits), self.owner);
        self.permits.tasks.spawn(async move {
            for _ in 0..TRIES {
                let Some(state) = permits.state.get() else { return };
                if state.release(owner).await.is_ok() {
                    return;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
    }
}
