//! What of a process sees to the number of its group's consumers, if anything does.

use std::sync::{Arc, atomic::Ordering};

use spinor_consumers::consumer::{Agreed, ConsumerSettings, Shutdown};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{App, consumers};
use crate::scaling::{GroupState, HARD_END, Making, Scaler, Supervisor};

impl App {
    /// Is this the consumer whose replicas the process supervises?
    pub(super) fn is_scaled(&self, settings: &ConsumerSettings) -> bool {
        settings.node.is_none() && self.role.supervises.is_some() && self.config.scaler.is_none()
    }

    /// Who sees to the number of the group's consumers, if this process does; what it knows.
    pub(super) fn start_scaling(
        &self,
        agreed: &Agreed,
        shutdown: &Shutdown,
        failed: &CancellationToken,
        tracker: &TaskTracker,
    ) -> Option<watch::Receiver<GroupState>> {
        let program = self.role.supervises.clone()?;
        let group = self.config.consumer.group.clone();
        let (shown, groups) = watch::channel(GroupState::default());
        if let Some(command) = self.config.scaler.clone() {
            let scaler = Scaler::new(group, command, agreed.clone(), shown);
            tracker.spawn(scaler.run(shutdown.drain.clone()));
            return Some(groups);
        }
        let making = Making {
            consumer: self.role.parts.consumer.then(|| {
                consumers::maker(
                    Arc::clone(&self.config),
                    self.broker.clone(),
                    Arc::clone(&self.record),
                    self.blobs.clone(),
                    agreed.clone(),
                )
            }),
            program: self.config.is_remote().then_some(program),
            bound: self.config.consumer.grace + HARD_END,
        };
        let supervisor = Supervisor::new(group, consumers::host(), agreed.clone(), making, shown);
        let (shutdown, failed) = (shutdown.clone(), failed.clone());
        let badly = Arc::clone(&self.badly);
        tracker.spawn(async move {
            badly.store(supervisor.run(shutdown, &failed).await, Ordering::Relaxed);
        });
        Some(groups)
    }
}
