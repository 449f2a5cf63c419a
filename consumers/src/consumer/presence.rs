//! A consumer answers on the control topic: who is there, and what it runs.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{Background, ConsumerSettings, slot::Slots};
use crate::broker::{AnyBroker, Broker, BrokerError, Event, Topic};

/// Answers every ping until intake ends, and who asks after a job until nothing runs.
pub async fn answer(
    broker: &AnyBroker,
    settings: &Arc<ConsumerSettings>,
    slots: &Arc<Slots>,
    intaking: &CancellationToken,
    (tasks, stop): &Background,
) -> Result<(), BrokerError> {
    let mut events = broker.listen(Topic::Control).await?;
    let (broker, settings, slots) = (broker.clone(), Arc::clone(settings), Arc::clone(slots));
    let (intaking, stop) = (intaking.clone(), stop.clone());
    tasks.spawn(async move {
        loop {
            let event = tokio::select! {
                () = stop.cancelled() => return,
                event = events.next() => event,
            };
            match event {
                Some(Event::Ping { nonce }) if !intaking.is_cancelled() => broker.cast(Event::Pong {
                    nonce,
                    consumer: settings.origin.consumer.clone(),
                    group: settings.origin.group.clone(),
                    node: settings.node.clone(),
                }),
                Some(event) => slots.hear(&event),
                None => return,
            }
        }
    });
    Ok(())
}
