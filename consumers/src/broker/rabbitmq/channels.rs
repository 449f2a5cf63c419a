//! The channels that deliveries came on, by generation, as long as they are good for an answer.
//! Refuses to decide what is answered.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use lapin::{Channel, options::ConfirmSelectOptions};
use tokio::time::timeout;

use super::{
    Inner, lock,
    tracker::{Answer, Tracker},
};
use crate::broker::DeliveryTag;

/// How long the broker may take to hear an ack.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is in hand on a channel, and the channel.
pub struct Open {
    tracker: Arc<Tracker>,
    channel: Channel,
}

impl Inner {
    /// The tracker of a delivery's channel; none when that is gone.
    pub(super) fn tracker(&self, generation: u64) -> Option<Arc<Tracker>> {
        lock(&self.trackers).get(&generation).map(|open| Arc::clone(&open.tracker))
    }

    /// A tracker for a new channel.
    pub(super) fn new_tracker(&self, channel: &Channel, say: impl Fn(Answer) + Send + Sync + 'static) -> Arc<Tracker> {
        let tracker = Arc::new(Tracker::new(self.generations.fetch_add(1, Ordering::Relaxed), say));
        let open = Open { tracker: Arc::clone(&tracker), channel: channel.clone() };
        lock(&self.trackers).insert(tracker.id, open);
        tracker
    }

    /// A channel is gone.
    pub(super) fn retire(&self, tracker: &Tracker) {
        lock(&self.trackers).remove(&tracker.id);
        tracker.retire();
    }

    /// Acks a delivery and waits until the broker has heard it.
    pub(super) async fn let_go(&self, tag: &DeliveryTag) {
        let channel = lock(&self.trackers).get(&tag.subscription).map(|open| {
            open.tracker.let_go(tag.number);
            open.channel.clone()
        });
        let Some(channel) = channel else { return };
        // A channel hears one thing after the other, so what it answers after an ack says that the
        // ack was heard. This asks for nothing: no message is published on a consuming channel.
        let _ = timeout(PATIENCE, channel.confirm_select(ConfirmSelectOptions::default())).await;
    }
}
