//! The whole of it at once: publishers, subscriptions and settles side by side.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use spinor_consumers::broker::{Address, Broker, Settlement, Subscription};
use tokio::task::JoinSet;

use super::fixture::{
    Fixture, PATIENCE, ack_with, acked, consume, end, message, must, number, packs, publish, take, until_ready,
    with_queues, work,
};

const ALL: usize = 5000;

pub async fn five_thousand_messages_are_each_acked_once<F: Fixture>() {
    all_are_acked_once::<F>(|_| None).await;
}

pub async fn five_thousand_messages_of_all_lanes_are_each_acked_once<F: Fixture>() {
    all_are_acked_once::<F>(|number| u8::try_from(number % 10).ok()).await;
}

async fn all_are_acked_once<F: Fixture>(priority: fn(usize) -> Option<u8>) {
    let (mut fixture, broker) = with_queues::<F>(&["images"]).await;
    let seen: Arc<Mutex<BTreeMap<usize, u32>>> = Arc::default();
    let mut tasks = JoinSet::new();
    for credit in [1, 20, 200] {
        let mut subscription = consume(&broker, work("images"), credit).await;
        let (broker, seen) = (broker.clone(), Arc::clone(&seen));
        tasks.spawn(async move {
            let mut receipts = Vec::new();
            while let Some(delivery) = next_or_done(&mut subscription, &seen).await {
                *seen.lock().expect("lock").entry(number(&delivery)).or_default() += 1;
                let lines = vec![delivery.message.body.clone()];
                receipts.push(broker.settle(delivery, Settlement { lines, ..Settlement::default() }));
            }
            for receipt in receipts {
                end(receipt).await.expect("settled");
            }
        });
    }
    for publisher in 0..4 {
        let broker = broker.clone();
        tasks.spawn(async move {
            for start in (publisher * ALL / 4..(publisher + 1) * ALL / 4).step_by(50) {
                let batch = (start..start + 50).map(|number| {
                    let mut message = message(number);
                    message.properties.priority = priority(number);
                    must(work("images"), message)
                });
                for result in broker.publish(batch.collect()).await {
                    result.expect("published");
                }
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.expect("no task failed");
    }
    assert_eq!(*seen.lock().expect("lock"), (0..ALL).map(|number| (number, 1)).collect());
    until_ready(&broker, "images", 0).await;
    let mut results = consume(&broker, Address::Results, 20).await;
    let mut reported: Vec<usize> =
        packs(&broker, &mut results, ALL).await.iter().flatten().map(|line| line.parse().expect("a number")).collect();
    reported.sort_unstable();
    assert_eq!(reported, (0..ALL).collect::<Vec<_>>());
    drop((results, broker));
    let broker = fixture.reopen().await;
    until_ready(&broker, "images", 0).await;
}

/// The next delivery, or `None` once all were seen by somebody.
async fn next_or_done(
    subscription: &mut Subscription,
    seen: &Mutex<BTreeMap<usize, u32>>,
) -> Option<spinor_consumers::broker::Delivery> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let mut beat = tokio::time::interval(std::time::Duration::from_millis(20));
    loop {
        tokio::select! {
            biased;
            delivery = subscription.next() => return delivery,
            _ = beat.tick() => {
                if seen.lock().expect("lock").len() == ALL {
                    return None;
                }
                assert!(tokio::time::Instant::now() < deadline, "nothing came for too long");
            }
        }
    }
}

pub async fn a_pipeline_of_settles_loses_nothing<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&["one", "two", "three"]).await;
    let mut tasks = JoinSet::new();
    for (from, to) in [("one", "two"), ("two", "three")] {
        let broker = broker.clone();
        let mut subscription = consume(&broker, work(from), 50).await;
        tasks.spawn(async move {
            let mut receipts = Vec::new();
            for _ in 0..1000 {
                let delivery = take(&mut subscription).await;
                let follow = must(work(to), message(number(&delivery)));
                receipts.push(broker.settle(delivery, ack_with(vec![follow])));
            }
            for receipt in receipts {
                end(receipt).await.expect("settled");
            }
        });
    }
    publish(&broker, "one", 0..1000).await;
    let mut last = consume(&broker, work("three"), 50).await;
    let mut got = Vec::new();
    while got.len() < 1000 {
        let delivery = take(&mut last).await;
        got.push(number(&delivery));
        acked(&broker, delivery).await;
    }
    while let Some(ended) = tasks.join_next().await {
        ended.expect("no task failed");
    }
    got.sort_unstable();
    assert_eq!(got, (0..1000).collect::<Vec<_>>());
    for queue in ["one", "two", "three"] {
        until_ready(&broker, queue, 0).await;
    }
}
