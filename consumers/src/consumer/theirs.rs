//! Queues of somebody else's: taken from when they are there, and waited for while they are not.
//!
//! Owns the wait for a queue that its owner has yet to make: the consumer goes on without it.
//! Refuses to declare one, and to wait for one that was there before: its subscription does.

use std::sync::Arc;

use tokio::time::{Duration, sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{intake::Intake, patiently};
use crate::broker::{AnyBroker, Broker, BrokerError, QueueSpec};

/// Between two looks; doubling...
const FIRST_LOOK: Duration = Duration::from_secs(1);
/// ...up to here: each is an error in the server's log.
const LAST_LOOK: Duration = Duration::from_secs(30);

/// What it takes to take from one.
pub struct Theirs<'a> {
    /// Where.
    pub broker: &'a AnyBroker,
    /// The line before the slots.
    pub intake: &'a Arc<Intake>,
    /// Who forwards.
    pub tracker: &'a TaskTracker,
    /// Nothing more is taken.
    pub stop: &'a CancellationToken,
}

impl Theirs<'_> {
    /// Takes from it, now or when it is there. `Err`: waiting does not help.
    pub async fn take(&self, spec: QueueSpec, waiting: &TaskTracker) -> Result<(), BrokerError> {
        let why = match self.subscribe(&spec).await {
            Err(BrokerError::Absent(why)) => why,
            ended => return ended,
        };
        tracing::warn!(queue = spec.name, why, "Nothing is taken from this queue until its owner has made it.");
        let (broker, intake) = (self.broker.clone(), Arc::clone(self.intake));
        let (tracker, stop) = (self.tracker.clone(), self.stop.clone());
        waiting.spawn(async move {
            let theirs = Theirs { broker: &broker, intake: &intake, tracker: &tracker, stop: &stop };
            let mut pause = FIRST_LOOK;
            loop {
                tokio::select! {
                    () = sleep(pause) => {}
                    () = stop.cancelled() => return,
                }
                pause = (pause * 2).min(LAST_LOOK);
                let subscribed = tokio::select! {
                    subscribed = theirs.subscribe(&spec) => subscribed,
                    () = stop.cancelled() => return,
                };
                match subscribed {
                    Ok(()) => {
                        return tracing::info!(queue = spec.name, "The queue is there; jobs are taken from it.");
                    }
                    Err(BrokerError::Absent(_)) => {}
                    Err(BrokerError::Closed) => return,
                    // Its owner may be at it: made, removed, locked.
                    Err(error) if pause == LAST_LOOK => {
                        tracing::error!(queue = spec.name, %error, "Nothing can be taken from this queue; it is tried again.");
                    }
                    Err(_) => {}
                }
            }
        });
        Ok(())
    }

    async fn subscribe(&self, spec: &QueueSpec) -> Result<(), BrokerError> {
        patiently(|| self.broker.declare(std::slice::from_ref(spec))).await?;
        patiently(|| self.intake.subscribe(self.broker, spec, self.tracker, self.stop)).await
    }
}
