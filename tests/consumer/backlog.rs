//! The report queue beyond its bound: nothing more is taken until the reports are recorded.

use std::sync::Arc;

use bytes::Bytes;
use spinor_consumers::{
    broker::{Address, Broker},
    consumer::{Consumer, ConsumerSettings, Shutdown},
};

use super::stage::{Cast, QUEUE, job, publish, settings};
use crate::{
    conformance::fixture::{Fixture, PATIENCE, acked, consume, declare, end, take_many, until_ready},
    support::eventually,
};

/// Reports that wait before the consumer starts, and the size of each.
const WAITING: usize = 20;
const SIZE: usize = 100_000;

pub async fn beyond_the_bound_of_the_reports_nothing_is_taken_until_they_are_recorded<F: Fixture>() {
    let fixture = F::install(false).await;
    let broker = fixture.broker();
    declare(&broker, &[QUEUE]).await;
    for _ in 0..WAITING {
        end(broker.report(vec![Bytes::from(vec![b'x'; SIZE])])).await.expect("reported");
    }
    eventually("the reports to be counted", PATIENCE, async || {
        let backlog = broker.backlog().await.expect("a broker that answers");
        backlog.packs == WAITING as u64 && backlog.bytes >= (WAITING * SIZE) as u64
    })
    .await;
    let settings = Arc::new(ConsumerSettings { results_bound: 1 << 20, ..settings(1) });
    let consumer = Consumer::new(settings, Arc::new(Cast::default().noop().registry()), broker.clone(), None);
    let shutdown = Shutdown::default();
    let (told, until) = (shutdown.clone(), broker.clone());
    let consuming = async move { consumer.run(told).await.expect("the consumer starts") };
    let recording = async move {
        let broker = until;
        // It looks before it takes the first.
        for count in 1..=20 {
            publish(&broker, &[job("noop")]).await;
            until_ready(&broker, QUEUE, count).await;
        }
        let mut results = consume(&broker, Address::Results, 100).await;
        for pack in take_many(&mut results, WAITING).await {
            acked(&broker, pack).await;
        }
        until_ready(&broker, QUEUE, 0).await;
        shutdown.drain.cancel();
    };
    tokio::join!(consuming, recording);
}
