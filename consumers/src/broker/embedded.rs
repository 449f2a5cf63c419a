//! Placeholder.

use bytes::Bytes;
use tokio::sync::watch;

use super::{
    Address, Broker, BrokerError, Delivery, Event, Events, Link, Outgoing, PublishError, QueueSpec, QueueStats,
    Receipt, Settlement, Subscription, Topic,
};

/// Placeholder.
#[derive(Clone)]
pub struct Embedded;

/// Where an embedded broker lives, and what it keeps.
#[derive(Clone, Debug, Default)]
pub struct EmbeddedSettings {
    /// Its directory; made when absent.
    pub dir: std::path::PathBuf,
    /// Keep the second copy of the packs for the search index?
    pub search: bool,
    /// The socket of the process that owns it, for the message to a second one.
    pub socket: Option<std::path::PathBuf>,
}

impl Embedded {
    /// Opens the directory.
    pub async fn open(_: EmbeddedSettings) -> Result<Self, BrokerError> {
        Ok(Self)
    }
}

impl Broker for Embedded {
    async fn declare(&self, _: &[QueueSpec]) -> Result<(), BrokerError> {
        Ok(())
    }
    async fn publish(&self, _: Vec<Outgoing>) -> Vec<Result<(), PublishError>> {
        vec![]
    }
    async fn consume(&self, _: &Address, _: u32) -> Result<Subscription, BrokerError> {
        Err(BrokerError::Closed)
    }
    fn settle(&self, _: Delivery, _: Settlement) -> Receipt {
        Receipt::pair().1
    }
    fn report(&self, _: Vec<Bytes>) -> Receipt {
        Receipt::pair().1
    }
    fn cast(&self, _: Event) {}
    async fn listen(&self, _: Topic) -> Result<Events, BrokerError> {
        Err(BrokerError::Closed)
    }
    fn link(&self) -> watch::Receiver<Link> {
        watch::channel(Link::Up).1
    }
    async fn stats(&self, _: &[String]) -> Result<Vec<QueueStats>, BrokerError> {
        Ok(vec![])
    }
    async fn close(&self) {}
}
