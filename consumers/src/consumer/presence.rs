//! A consumer answers pings, so that people and runs know who is there.

use std::sync::Arc;

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::ConsumerSettings;
use crate::broker::{AnyBroker, Broker, BrokerError, Event, Topic};

/// Answers every ping until told to stop.
pub async fn answer_pings(
    broker: &AnyBroker,
    settings: &Arc<ConsumerSettings>,
    tracker: &TaskTracker,
    stop: &CancellationToken,
) -> Result<(), BrokerError> {
    let mut events = broker.listen(Topic::Control).await?;
    let (broker, settings, stop) = (broker.clone(), Arc::clone(settings), stop.clone());
    tracker.spawn(async move {
        loop {
            let event = tokio::select! {
                () = stop.cancelled() => return,
                event = events.next() => event,
            };
            match event {
                Some(Event::Ping { nonce }) => broker.cast(Event::Pong {
                    nonce,
                    consumer: settings.origin.consumer.clone(),
                    group: settings.origin.group.clone(),
                    node: settings.node.clone(),
                }),
                Some(_) => {}
                None => return,
            }
        }
    });
    Ok(())
}
