//! Making a lane, on a connection of its own.
//!
//! RabbitMQ tells whoever declares a queue second, or looks for it, that it is there before it has
//! started; what takes from it then is answered by an error that ends its whole connection (541,
//! `noproc`), and so may be the declare. Owns the tries until it answers. Refuses to know who needs
//! a lane: that is `priorities`'.

use std::{sync::Arc, time::Duration};

use lapin::{
    Connection,
    options::{BasicGetOptions, BasicNackOptions, QueueDeclareOptions},
    types::FieldTable,
};
use tokio::time::{sleep, timeout};

use super::{Inner, connection, settings};
use crate::broker::BrokerError;

/// So many tries...
const TRIES: u32 = 5;
/// ...this long apart; doubling.
const APART: Duration = Duration::from_millis(100);
/// One that says nothing at all for so long is no new one; those who take from it know how to go on without.
const SILENT: Duration = Duration::from_secs(2);

impl Inner {
    /// Makes a lane, if it is not there, and sees that it answers.
    pub(super) async fn make_lane(&self, name: &str) -> Result<(), BrokerError> {
        self.until_it_answers(name, true).await
    }

    /// Sees that a lane which is there answers.
    pub(super) async fn lane_answers(&self, name: &str) -> Result<(), BrokerError> {
        self.until_it_answers(name, false).await
    }

    async fn until_it_answers(&self, name: &str, make: bool) -> Result<(), BrokerError> {
        let mut pause = APART;
        for _ in 1..TRIES {
            match self.one_try(name, make).await {
                Err(BrokerError::Unreachable(why)) => {
                    tracing::debug!(lane = name, why, "A lane does not answer yet.");
                }
                ended => return ended,
            }
            sleep(pause).await;
            pause *= 2;
        }
        self.one_try(name, make).await
    }

    async fn one_try(&self, name: &str, make: bool) -> Result<(), BrokerError> {
        let (hosts, called) = (settings::hosts(&self.settings)?, format!("{} lane", self.settings.connection_name));
        let own = Arc::new(connection::connect(&hosts, &called).await?);
        let tried = async {
            if make {
                self.topology(&own).ensure_lane(name).await?;
            }
            let asked = timeout(SILENT, take_from(&own, &self.names.work(name))).await;
            asked.unwrap_or(Ok(())).map_err(|error| BrokerError::Unreachable(error.to_string()))
        };
        let ended = tried.await;
        // It may have been ended for us.
        let _ = own.close(200, "done".into()).await;
        ended
    }
}

/// Of one with messages or consumers it is known that it answers; what comes in this moment goes back.
async fn take_from(connection: &Connection, full: &str) -> lapin::Result<()> {
    let channel = connection.create_channel().await?;
    let look = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let figures = channel.queue_declare(full.into(), look, FieldTable::default()).await?;
    if figures.message_count() > 0 || figures.consumer_count() > 0 {
        return Ok(());
    }
    if let Some(got) = channel.basic_get(full.into(), BasicGetOptions::default()).await? {
        got.delivery.acker.nack(BasicNackOptions { requeue: true, ..BasicNackOptions::default() }).await?;
    }
    Ok(())
}
