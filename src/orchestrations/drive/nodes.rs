//! Which nodes are there: who answers a ping, and whose queue has a consumer.
//!
//! Owns the name of a node's queue and the difference between unknown (no queue) and unreachable
//! (nobody on it). Refuses to start or stop nodes.

use std::{collections::BTreeSet, time::Duration};

use spinor_consumers::broker::{Broker, BrokerError, Event, Topic};
use tokio::time::{Instant, sleep, sleep_until};
use uuid::Uuid;

use super::{Driver, members::Members};
use crate::orchestrations::view::{RunView, Watch};

const PREFIX: &str = "node.";

/// The queue of a node.
pub fn node_queue(node: &str) -> String {
    format!("{PREFIX}{node}")
}

/// The node a queue belongs to.
pub fn node_of(queue: &str) -> Option<&str> {
    queue.strip_prefix(PREFIX)
}

impl<B: Broker, V: RunView> Driver<B, V> {
    /// The nodes that answer in time, by name.
    pub(super) async fn ping(&self) -> Result<Vec<String>, BrokerError> {
        let mut events = self.broker.listen(Topic::Control).await?;
        let mine = Uuid::now_v7();
        let mut found = BTreeSet::new();
        let end = Instant::now() + self.patience.answer;
        // A ping is lossy like every event, so it is said twice.
        for part in [self.patience.answer / 2, self.patience.answer / 2] {
            self.broker.cast(Event::Ping { nonce: mine });
            let until = (Instant::now() + part).min(end);
            loop {
                tokio::select! {
                    biased;
                    () = sleep_until(until) => break,
                    event = events.next() => match event {
                        Some(Event::Pong { nonce, node: Some(node), .. }) if nonce == mine => {
                            found.insert(node);
                        }
                        Some(_) => {}
                        None => return Err(BrokerError::Closed),
                    },
                }
            }
        }
        Ok(found.into_iter().collect())
    }

    /// Waits until the nodes of this process are on their queues; they start beside the driver, and
    /// a plan for a node whose queue is not there yet would be called unknown.
    pub(super) async fn await_local(&self) {
        let queues: Vec<String> = self.local.iter().map(|node| node_queue(node)).collect();
        let end = Instant::now() + self.patience.unreachable;
        while !queues.is_empty() && Instant::now() < end {
            if let Ok(stats) = self.broker.stats(&queues).await
                && stats.iter().filter(|queue| queue.consumers > 0).count() >= queues.len()
            {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Looks whether somebody is on the queues of the members that have not ended.
    pub(super) async fn look_for_nodes(&self, run: Uuid, members: &mut Members, watch: Watch<'_>) {
        let queues: Vec<String> = members.waiting().map(node_queue).collect();
        let stats = match self.broker.stats(&queues).await {
            Ok(stats) => stats,
            Err(error) => {
                // Without an answer nobody is called unreachable.
                tracing::debug!(%error, "the queues of the nodes cannot be looked at now");
                return;
            }
        };
        let now = Instant::now();
        for queue in &stats {
            if let Some(node) = node_of(&queue.name) {
                members.seen(node, queue.consumers > 0, now);
            }
        }
        if members.any_gone_since(now, self.patience.unreachable) {
            // The record knows what lost events do not: it may have ended, or started at least.
            self.ask(run, members, watch).await;
            members.give_up_on_gone(now, self.patience.unreachable, watch);
        }
    }
}
