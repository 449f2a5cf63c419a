//! The names under which a consumer holds jobs: its boot id, and those it took after a held queue
//! that answered nothing.
//!
//! Owns which names are its own: asked by any of them, it answers. Refuses to know when a name is
//! given up: that is `holding`'s.

use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use uuid::Uuid;

/// Names of one consumer, the one in use last.
pub struct Holders(RwLock<Vec<Uuid>>);

impl Holders {
    /// One name, the boot id.
    pub fn new(boot: Uuid) -> Self {
        Self(RwLock::new(vec![boot]))
    }

    /// The one in use.
    pub fn current(&self) -> Uuid {
        self.read().last().copied().unwrap_or_default()
    }

    /// Is this consumer meant, by any of its names?
    pub fn has(&self, holder: Uuid) -> bool {
        self.read().contains(&holder)
    }

    /// From now on it is this one; the others are its own still.
    pub fn take(&self, holder: Uuid) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).push(holder);
    }

    fn read(&self) -> RwLockReadGuard<'_, Vec<Uuid>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}
