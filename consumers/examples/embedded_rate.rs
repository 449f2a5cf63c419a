//! How fast the embedded broker carries jobs: durable publish, consume, report and ack.
//!
//! `embedded_rate DIR [JOBS] [CREDIT]`: one task publishes batches of 100, another consumes and
//! settles each with a report line of 200 bytes, a third takes the packs off the report queue.
//! Prints jobs/s from the first publish to the last confirmed ack.

use bytes::Bytes;
use spinor_consumers::{
    broker::{
        Address, Broker, Outgoing, QueueSpec, Settlement,
        embedded::{Embedded, EmbeddedSettings},
    },
    message::{Message, Properties},
};
use tokio::{task::JoinSet, time::Instant};

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().ok_or("a directory, please")?.into();
    let jobs: usize = arguments.next().map_or(Ok(50_000), |text| text.parse())?;
    let credit: u32 = arguments.next().map_or(Ok(500), |text| text.parse())?;
    let broker = Embedded::open(EmbeddedSettings { dir, ..EmbeddedSettings::default() }).await?;
    broker.declare(&[QueueSpec { name: "rate".to_owned(), foreign: false }]).await?;
    let started = Instant::now();
    let mut tasks: JoinSet<Result<(), Failure>> = JoinSet::new();
    tasks.spawn(publish(broker.clone(), jobs));
    tasks.spawn(consume(broker.clone(), jobs, credit));
    tasks.spawn(record(broker.clone(), jobs));
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    let seconds = started.elapsed().as_secs_f64();
    println!("{jobs} jobs in {seconds:.2} s: {:.0} jobs/s", jobs as f64 / seconds);
    broker.close().await;
    Ok(())
}

fn job(number: usize) -> Outgoing {
    let properties = Properties {
        id: Some(format!("00000000-0000-7000-8000-{number:012}")),
        kind: Some("noop".to_owned()),
        content_type: Some("application/json".to_owned()),
        timestamp: Some(1_700_000_000),
        ..Properties::default()
    };
    let message = Message { properties, body: Bytes::from(vec![b'1'; 100]) };
    Outgoing { to: Address::Work("rate".to_owned()), message, must: true }
}

async fn publish(broker: Embedded, jobs: usize) -> Result<(), Failure> {
    for start in (0..jobs).step_by(100) {
        for result in broker.publish((start..jobs.min(start + 100)).map(job).collect()).await {
            result?;
        }
    }
    Ok(())
}

async fn consume(broker: Embedded, jobs: usize, credit: u32) -> Result<(), Failure> {
    let mut subscription = broker.consume(&Address::Work("rate".to_owned()), credit).await?;
    let line = Bytes::from(vec![b'r'; 200]);
    let (mut hand, mut receipts) = (Vec::new(), Vec::new());
    let mut settled = 0;
    while settled < jobs {
        subscription.next_many(&mut hand, 500).await;
        for delivery in hand.drain(..) {
            settled += 1;
            receipts.push(broker.settle(delivery, Settlement { lines: vec![line.clone()], ..Settlement::default() }));
        }
    }
    for receipt in receipts {
        receipt.await?;
    }
    Ok(())
}

async fn record(broker: Embedded, jobs: usize) -> Result<(), Failure> {
    let mut subscription = broker.consume(&Address::Results, 8).await?;
    let mut lines = 0;
    while lines < jobs {
        let Some(pack) = subscription.next().await else { break };
        lines += pack.message.body.iter().filter(|byte| **byte == b'\n').count();
        broker.settle(pack, Settlement::default()).await?;
    }
    Ok(())
}
