//! The raw AMQP client of the floors: connections, quorum queues, pipelined publishes.
//!
//! The client library resolves a publish when its frames were written, so a batch is handed over
//! whole before any of it is awaited: its frames leave in few writes, and one wake-up serves all.

use std::pin::Pin;

use anyhow::{Result, bail};
use futures_util::FutureExt;
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, Consumer, PublisherConfirm,
    options::{
        BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions, QueueDeclareOptions,
        QueueDeleteOptions,
    },
    types::{AMQPValue, FieldTable, ShortString},
};

/// As in the product: never -1, never absent.
const DELIVERY_LIMIT: i64 = 1_000_000;
/// Jobs published and not confirmed.
pub const WINDOW: usize = 500;
/// Lines to a pack.
pub const PACK: usize = 500;

/// One message.
pub struct Parcel {
    /// What goes with it.
    pub properties: BasicProperties,
    /// The body.
    pub body: Vec<u8>,
}

/// One connection.
pub async fn connect(url: &str) -> Result<Connection> {
    Ok(Connection::connect(url, ConnectionProperties::default()).await?)
}

/// A channel with confirms.
pub async fn confirming(connection: &Connection) -> Result<Channel> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}

/// Declares a queue with the product's type and arguments.
pub async fn declare(channel: &Channel, name: &str) -> Result<()> {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(DELIVERY_LIMIT));
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(name.into(), options, arguments).await?;
    Ok(())
}

/// Messages ready in a queue, as the broker says.
pub async fn ready(channel: &Channel, name: &str) -> Result<u32> {
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    Ok(channel.queue_declare(name.into(), options, FieldTable::default()).await?.message_count())
}

/// Deletes a queue.
pub async fn delete(channel: &Channel, name: &str) -> Result<()> {
    channel.queue_delete(name.into(), QueueDeleteOptions::default()).await?;
    Ok(())
}

/// Consumes from a queue with this prefetch.
pub async fn consume(channel: &Channel, queue: &str, prefetch: u16) -> Result<Consumer> {
    channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions::default();
    Ok(channel.basic_consume(queue.into(), ShortString::default(), options, FieldTable::default()).await?)
}

type Publishing<'a> = Pin<Box<dyn Future<Output = lapin::Result<PublisherConfirm>> + Send + 'a>>;

/// Publishes to a queue, mandatory; returns when all frames were written.
pub async fn publish(channel: &Channel, queue: &ShortString, parcels: Vec<Parcel>) -> Result<Vec<PublisherConfirm>> {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let mut done = Vec::with_capacity(parcels.len());
    let mut going: Vec<Publishing<'_>> = Vec::with_capacity(parcels.len());
    for parcel in &parcels {
        let mut one: Publishing<'_> = Box::pin(channel.basic_publish(
            ShortString::default(),
            queue.clone(),
            options,
            &parcel.body,
            parcel.properties.clone(),
        ));
        match one.as_mut().now_or_never() {
            Some(written) => done.push(written?),
            None => going.push(one),
        }
    }
    // Frames are written in order: after the last one the others are ready.
    let last = match going.pop() {
        Some(last) => Some(last.await?),
        None => None,
    };
    for one in going {
        done.push(one.await?);
    }
    done.extend(last);
    Ok(done)
}

/// Waits until the broker has all of them.
pub async fn settled(mut confirms: Vec<PublisherConfirm>) -> Result<()> {
    let last = confirms.pop();
    for confirm in last.into_iter().chain(confirms) {
        let confirmation = confirm.await?;
        if !confirmation.is_ack() || confirmation.take_message().is_some() {
            bail!("a message was refused or returned");
        }
    }
    Ok(())
}
