//! Which queues there are: declared or met here, declared again after a loss, and the queue that an
//! address means.
//!
//! Owns what this process knows of the work queues. Refuses to know how an object is declared:
//! that is `topology`'s.

use std::sync::Arc;

use lapin::Connection;

use super::{Inner, connection::State, feed::Source, lock, topology::Topology};
use crate::broker::{Address, BrokerError, PublishError, QueueSpec};

impl Inner {
    /// Is it somebody else's?
    pub(super) fn is_foreign(&self, short: &str) -> bool {
        lock(&self.known).get(short).is_some_and(|queue| queue.foreign)
    }

    /// The full name of a work queue.
    pub(super) fn full(&self, short: &str) -> String {
        if self.is_foreign(short) { short.to_owned() } else { self.names.work(short) }
    }

    /// Declares what every installation needs, and these queues.
    pub(super) async fn ensure(&self, queues: &[QueueSpec]) -> Result<(), BrokerError> {
        self.declaring()?.ensure(self.settings.search, queues).await
    }

    /// Declares and looks go over the consuming connection, which no alarm stops.
    pub(super) fn declaring(&self) -> Result<Topology, BrokerError> {
        match &*self.consuming.borrow() {
            State::Up(connection) | State::Blocked(connection, _) => Ok(self.topology(connection)),
            State::Down(why) => Err(BrokerError::Unreachable(why.clone())),
            State::Closed => Err(BrokerError::Closed),
        }
    }

    /// What is on the server, by a connection.
    pub(super) fn topology(&self, connection: &Arc<Connection>) -> Topology {
        Topology { connection: Arc::clone(connection), names: self.names.clone(), tasks: self.tasks.clone() }
    }

    /// What was declared is declared again on each new connection: it may be another server.
    pub(super) async fn declare_after_each_loss(self: Arc<Self>) {
        let mut state = self.consuming.clone();
        let mut lost = false;
        while !self.stop.is_cancelled() && state.changed().await.is_ok() {
            let up = state.borrow_and_update().connection().is_some();
            if up && std::mem::replace(&mut lost, !up) {
                let queues: Vec<QueueSpec> = lock(&self.known).values().filter(|one| !one.foreign).cloned().collect();
                let mut declared = self.ensure(&queues).await;
                for queue in &queues {
                    declared = declared.and(self.ensure_lanes(&queue.name).await);
                }
                if let Err(error) = declared {
                    tracing::warn!(%error, "The queues could not be declared again; their subscriptions keep trying.");
                }
            }
            lost |= !up;
        }
    }

    /// Is there such a work queue? Asked once, then remembered.
    pub(super) async fn knows(&self, queue: &str) -> Result<bool, PublishError> {
        if lock(&self.known).contains_key(queue) {
            return Ok(true);
        }
        let refused = |error: BrokerError| PublishError::Refused(error.to_string());
        let topology = self.declaring().map_err(refused)?;
        let found = topology.look(&self.names.work(queue)).await.map_err(refused)?.is_some();
        if found {
            let spec = QueueSpec { name: queue.to_owned(), foreign: false };
            lock(&self.known).insert(queue.to_owned(), spec);
        }
        Ok(found)
    }

    /// The work queues declared or met here, by their short names.
    pub(super) fn known_names(&self) -> Vec<String> {
        lock(&self.known).keys().cloned().collect()
    }

    /// The queue that an address is.
    pub(super) fn source(&self, from: &Address) -> Result<Source, BrokerError> {
        let own = |full: String, short: &str| Source { full, short: short.to_owned(), work: None, held: None };
        let names = &self.names;
        Ok(match from {
            Address::Work(queue) => {
                let spec = lock(&self.known).get(queue).cloned();
                let spec = spec.unwrap_or_else(|| QueueSpec { name: queue.clone(), foreign: false });
                Source { full: self.full(queue), short: queue.clone(), work: Some(spec), held: None }
            }
            Address::Results => own(names.results(), "results"),
            Address::Search => own(names.search(), "search"),
            Address::Dead => own(names.dead(), "dead"),
            Address::Next => own(names.next(), "next"),
            Address::Reply(name) => own(name.clone(), name),
            Address::Held { holder, .. } => Source { held: Some(*holder), ..own(names.held(*holder), "held") },
            Address::Delayed { .. } => {
                return Err(BrokerError::Misconfigured("a delayed queue cannot be consumed".to_owned()));
            }
        })
    }
}
