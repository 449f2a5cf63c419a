//! How fast jobs go through RabbitMQ: this crate's broker beside a raw client's loop.
//!
//! `rabbit_rate URL [N]`: for each of the two, preloads N messages of 100 bytes and then consumes
//! them with a 200-byte report line each; then the same with publishing beside it. Prints jobs per
//! second and the seconds of CPU this process used for 10 000 jobs. The objects are deleted after.

use std::{error::Error, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
        ExchangeDeleteOptions, QueueDeleteOptions,
    },
    types::FieldTable,
};
use spinor_consumers::{
    broker::{
        Address, Broker, Outgoing, QueueSpec, Settlement,
        rabbitmq::{RabbitMq, RabbitSettings},
    },
    message::{Message, Properties},
};
use tokio::{task::JoinSet, time::Instant};

type Done<T> = Result<T, Box<dyn Error + Send + Sync>>;

const CREDIT: u16 = 500;
const BATCH: usize = 250;
const PUBLISHERS: usize = 2;

#[tokio::main]
async fn main() -> Done<()> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("usage: rabbit_rate URL [N]")?;
    let count: usize = arguments.next().map_or(Ok(50_000), |count| count.parse())?;
    let prefix = format!("rate-{}", uuid::Uuid::now_v7().simple());
    let settings = RabbitSettings { prefix: prefix.clone(), ..RabbitSettings::new(url.clone()) };
    let broker = RabbitMq::connect(settings).await?;
    broker.declare(&[QueueSpec { name: "rate".to_owned(), foreign: false }]).await?;
    let raw = Raw { url: url.clone(), prefix: prefix.clone() };
    for round in 1..=3 {
        println!("round {round}, {count} jobs");
        publish(&broker, count).await?;
        measure("  preloaded, raw   ", count, raw.consume(count)).await?;
        publish(&broker, count).await?;
        measure("  preloaded, spinor", count, consume(&broker, count)).await?;
        let publishing = raw.publish_beside(count)?;
        measure("  live, raw        ", count, raw.consume(count)).await?;
        publishing.join_all().await;
        let mut publishing = JoinSet::new();
        for part in 0..PUBLISHERS {
            let (broker, count) = (broker.clone(), count / PUBLISHERS + usize::from(part < count % PUBLISHERS));
            publishing.spawn(async move { publish(&broker, count).await });
        }
        measure("  live, spinor     ", count, consume(&broker, count)).await?;
        publishing.join_all().await;
    }
    broker.close().await;
    raw.remove().await
}

async fn measure(name: &str, count: usize, work: impl Future<Output = Done<()>>) -> Done<()> {
    let (began, before) = (Instant::now(), cpu()?);
    work.await?;
    let seconds = began.elapsed().as_secs_f64();
    let used = (cpu()? - before) * 10_000.0 / count as f64;
    println!("{name} {:>7.0} jobs/s  {used:.3} s CPU per 10 000", count as f64 / seconds);
    Ok(())
}

/// Seconds of CPU this process used, from the kernel's ticks of 10 ms.
fn cpu() -> Done<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit_once(") ").ok_or("stat")?.1;
    let ticks: u64 = fields.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(ticks as f64 / 100.0)
}

fn line() -> Bytes {
    Bytes::from(vec![b'x'; 200])
}

async fn publish(broker: &RabbitMq, count: usize) -> Done<()> {
    let body = Bytes::from(vec![b'1'; 100]);
    let mut left = count;
    while left > 0 {
        let batch = (0..left.min(BATCH)).map(|_| {
            let id = Some(uuid::Uuid::now_v7().to_string());
            let properties = Properties { id, kind: Some("noop".to_owned()), ..Properties::default() };
            let message = Message { properties, body: body.clone() };
            Outgoing { to: Address::Work("rate".to_owned()), message, must: true }
        });
        let batch: Vec<_> = batch.collect();
        left -= batch.len();
        for result in broker.publish(batch).await {
            result?;
        }
    }
    Ok(())
}

async fn consume(broker: &RabbitMq, count: usize) -> Done<()> {
    let mut subscription = broker.consume(&Address::Work("rate".to_owned()), u32::from(CREDIT)).await?;
    let line = line();
    let mut hand = Vec::new();
    let mut receipts = Vec::with_capacity(count);
    while receipts.len() < count {
        subscription.next_many(&mut hand, usize::from(CREDIT)).await;
        for delivery in hand.drain(..) {
            let settlement = Settlement { lines: vec![line.clone()], ..Settlement::default() };
            receipts.push(broker.settle(delivery, settlement));
        }
    }
    for receipt in receipts {
        receipt.await?;
    }
    Ok(())
}

/// What a careful programmer writes with the client alone: the floor.
#[derive(Clone)]
struct Raw {
    url: String,
    prefix: String,
}

impl Raw {
    async fn connect(&self) -> Done<(Connection, Channel)> {
        let connection = Connection::connect(&self.url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        Ok((connection, channel))
    }

    fn publish_beside(&self, count: usize) -> Done<JoinSet<()>> {
        let mut tasks = JoinSet::new();
        for part in 0..PUBLISHERS {
            let (raw, count) = (self.clone(), count / PUBLISHERS + usize::from(part < count % PUBLISHERS));
            tasks.spawn(async move {
                if let Err(error) = raw.publish(count).await {
                    eprintln!("raw publish: {error}");
                }
            });
        }
        Ok(tasks)
    }

    async fn publish(&self, count: usize) -> Done<()> {
        let (_connection, channel) = self.connect().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let key = format!("{}.jobs.rate", self.prefix);
        let body = vec![b'1'; 100];
        let mut left = count;
        while left > 0 {
            let batch = left.min(BATCH);
            left -= batch;
            let mut sending = Vec::with_capacity(batch);
            for _ in 0..batch {
                let id = uuid::Uuid::now_v7().to_string();
                let properties = BasicProperties::default()
                    .with_delivery_mode(2)
                    .with_message_id(id.into())
                    .with_type("noop".into());
                let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
                let mut one =
                    Box::pin(channel.basic_publish("".into(), key.as_str().into(), options, &body, properties));
                if one.as_mut().now_or_never().is_none() {
                    sending.push(one);
                }
            }
            let mut confirms = Vec::with_capacity(batch);
            for one in sending {
                confirms.push(one.await?);
            }
            for confirm in confirms {
                confirm.await?;
            }
        }
        Ok(())
    }

    async fn consume(&self, count: usize) -> Done<()> {
        let (_reports, reports) = self.connect().await?;
        reports.confirm_select(ConfirmSelectOptions::default()).await?;
        let (_connection, channel) = self.connect().await?;
        channel.basic_qos(CREDIT, BasicQosOptions::default()).await?;
        let queue = format!("{}.jobs.rate", self.prefix);
        let consumer = channel
            .basic_consume(queue.as_str().into(), "".into(), BasicConsumeOptions::default(), FieldTable::default())
            .await?;
        let mut chunks = consumer.ready_chunks(usize::from(CREDIT));
        let results = format!("{}.results", self.prefix);
        let line = line();
        let mut seen = 0;
        while seen < count {
            let chunk = chunks.next().await.ok_or("the consumer ended")?;
            let mut pack = Vec::with_capacity(chunk.len() * 201);
            let mut last = 0;
            for delivery in chunk {
                last = delivery?.delivery_tag;
                pack.extend_from_slice(&line);
                pack.push(b'\n');
                seen += 1;
            }
            let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            let properties = BasicProperties::default().with_delivery_mode(2);
            reports.basic_publish("".into(), results.as_str().into(), options, &pack, properties).await?.await?;
            channel.basic_ack(last, BasicAckOptions { multiple: true }).await?;
        }
        channel.close(200, "done".into()).await?;
        Ok(())
    }

    async fn remove(&self) -> Done<()> {
        let (_connection, channel) = self.connect().await?;
        let tiers = ["1s", "5s", "15s", "1m", "5m", "15m"].map(|tier| format!("delay.{tier}"));
        let own = ["jobs.rate", "results", "next", "dead", "back", "lost", "events"].map(str::to_owned);
        for rest in own.into_iter().chain(tiers) {
            let name = format!("{}.{rest}", self.prefix);
            channel.queue_delete(name.as_str().into(), QueueDeleteOptions::default()).await?;
            channel.exchange_delete(name.as_str().into(), ExchangeDeleteOptions::default()).await?;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok(())
    }
}
