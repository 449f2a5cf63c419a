//! Priority lanes: who comes first, that nobody starves, and that a job keeps its lane.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use spinor_consumers::{
    broker::{Address, AnyBroker, Broker, LaneStats, PublishError, QueueSpec, Subscription},
    message::Message,
};

use super::fixture::{
    Fixture, PATIENCE, ack_with, acked, consume, end, hand_back, message, must, number, publish, publish_one, stats,
    take, take_many, until_ready, with_queues, work,
};

const HIGH: u8 = 9;
const LOW: u8 = 0;

fn urgent(number: usize, priority: u8) -> Message {
    let mut message = message(number);
    message.properties.priority = Some(priority);
    message
}

/// Publishes numbered messages of one priority.
async fn publish_as(broker: &AnyBroker, priority: u8, numbers: std::ops::Range<usize>) {
    let batch = numbers.map(|number| must(work("images"), urgent(number, priority))).collect();
    for result in broker.publish(batch).await {
        result.expect("published");
    }
}

/// How many of each priority come in so many deliveries, each acked.
async fn shares(broker: &AnyBroker, subscription: &mut Subscription, count: usize) -> BTreeMap<Option<u8>, usize> {
    let mut shares = BTreeMap::new();
    for _ in 0..count {
        let delivery = take(subscription).await;
        *shares.entry(delivery.message.properties.priority).or_default() += 1;
        acked(broker, delivery).await;
    }
    shares
}

async fn lanes(broker: &AnyBroker) -> Option<LaneStats> {
    stats(broker, "images").await.lanes
}

/// Waits until so many are ready in the high and the low lane.
async fn until_lanes(broker: &AnyBroker, high: u64, low: u64) {
    let mut beat = tokio::time::interval(Duration::from_millis(20));
    let wait = async {
        while lanes(broker).await != Some(LaneStats { high, low }) {
            beat.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("the lanes have what they should");
}

pub async fn a_high_job_published_last_comes_among_the_first<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&["images"]).await;
    publish(&broker, "images", 0..1000).await;
    publish_as(&broker, LOW, 1000..2000).await;
    publish_as(&broker, HIGH, 2000..2001).await;
    let mut subscription = consume(&broker, work("images"), 4).await;
    let first: Vec<_> = take_many(&mut subscription, 4).await.iter().map(number).collect();
    assert!(first.contains(&2000), "{first:?}");
}

pub async fn no_lane_starves_while_high_ones_keep_coming<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&["images"]).await;
    publish(&broker, "images", 0..200).await;
    publish_as(&broker, LOW, 200..400).await;
    publish_as(&broker, HIGH, 400..440).await;
    let mut subscription = consume(&broker, work("images"), 4).await;
    let mut came: BTreeMap<Option<u8>, usize> = BTreeMap::new();
    for round in 1..=10 {
        // More than are taken: there is always one more that is high.
        publish_as(&broker, HIGH, 440 * round..440 * round + 21).await;
        for (priority, count) in shares(&broker, &mut subscription, 21).await {
            *came.entry(priority).or_default() += count;
        }
    }
    let [high, normal, low] = [Some(HIGH), None, Some(LOW)].map(|one| came.get(&one).copied().unwrap_or(0));
    assert!((140..=180).contains(&high) && (30..=52).contains(&normal) && (6..=16).contains(&low), "{came:?}");
}

pub async fn a_large_credit_is_shared_by_the_same_weights<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&["images"]).await;
    publish(&broker, "images", 0..1000).await;
    publish_as(&broker, LOW, 1000..2000).await;
    publish_as(&broker, HIGH, 2000..3000).await;
    let mut subscription = consume(&broker, work("images"), 210).await;
    let came = shares(&broker, &mut subscription, 630).await;
    let [high, normal, low] = [Some(HIGH), None, Some(LOW)].map(|one| came.get(&one).copied().unwrap_or(0));
    assert!((380..=560).contains(&high) && (60..=200).contains(&normal) && (10..=80).contains(&low), "{came:?}");
}

pub async fn an_empty_lane_takes_no_turns_from_the_others<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&["images"]).await;
    publish_as(&broker, HIGH, 0..1).await;
    publish(&broker, "images", 1..200).await;
    publish_as(&broker, LOW, 200..400).await;
    let mut subscription = consume(&broker, work("images"), 2).await;
    let came = shares(&broker, &mut subscription, 51).await;
    let [high, normal, low] = [Some(HIGH), None, Some(LOW)].map(|one| came.get(&one).copied().unwrap_or(0));
    assert!(high == 1 && (34..=44).contains(&normal) && (6..=16).contains(&low), "{came:?}");
}

pub async fn a_queue_without_priorities_has_no_lanes<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&["images"]).await;
    publish(&broker, "images", 0..3).await;
    publish_as(&broker, 3, 3..6).await;
    publish_as(&broker, 6, 6..9).await;
    let mut subscription = consume(&broker, work("images"), 9).await;
    let order: Vec<_> = take_many(&mut subscription, 9).await.iter().map(number).collect();
    assert_eq!(order, (0..9).collect::<Vec<_>>());
    assert_eq!(lanes(&broker).await, None);
}

pub async fn stats_add_the_lanes_up_and_show_them_apart<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&["images"]).await;
    publish(&broker, "images", 0..5).await;
    publish_as(&broker, 7, 5..8).await;
    publish_as(&broker, 2, 8..10).await;
    until_ready(&broker, "images", 10).await;
    until_lanes(&broker, 3, 2).await;
    let all = broker.stats(&[]).await.expect("stats");
    assert_eq!(all.iter().map(|stats| stats.name.as_str()).collect::<Vec<_>>(), ["images"], "a lane is no queue");
}

pub async fn a_lane_that_appears_later_is_consumed<F: Fixture>() {
    let (mut fixture, broker) = with_queues::<F>(&["images"]).await;
    let mut subscription = consume(&broker, work("images"), 2).await;
    publish(&broker, "images", 0..1).await;
    let first = take(&mut subscription).await;
    // Somebody else's process.
    let other = fixture.another().await;
    for (number, priority) in [(1, HIGH), (2, LOW)] {
        publish_as(&other, priority, number..number + 1).await;
        let delivery = take(&mut subscription).await;
        assert_eq!(super::fixture::number(&delivery), number);
        assert_eq!(delivery.queue, "images");
        assert!(!delivery.redelivered);
        acked(&broker, delivery).await;
    }
    acked(&broker, first).await;
}

pub async fn a_retry_returns_to_its_lane<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&["images"]).await;
    publish_as(&broker, HIGH, 0..1).await;
    publish_as(&broker, LOW, 1..2).await;
    let mut subscription = consume(&broker, work("images"), 2).await;
    for delivery in take_many(&mut subscription, 2).await {
        let to = Address::Delayed { queue: delivery.queue.clone(), after: Duration::from_secs(1) };
        let copy = must(to, delivery.message.clone());
        end(broker.settle(delivery, ack_with(vec![copy]))).await.expect("settled");
    }
    drop(subscription);
    until_lanes(&broker, 1, 1).await;
    until_ready(&broker, "images", 2).await;
}

pub async fn what_is_handed_back_returns_to_its_lane<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&["images"]).await;
    publish_as(&broker, HIGH, 0..2).await;
    publish_as(&broker, LOW, 2..4).await;
    publish(&broker, "images", 4..6).await;
    let mut subscription = consume(&broker, work("images"), 6).await;
    let hand = take_many(&mut subscription, 6).await;
    until_ready(&broker, "images", 0).await;
    drop(subscription);
    for delivery in hand {
        end(broker.settle(delivery, hand_back())).await.expect("handed back");
    }
    until_lanes(&broker, 2, 2).await;
    until_ready(&broker, "images", 6).await;
}

pub async fn what_a_lost_consumer_had_in_hand_stays_in_its_lane<F: Fixture>() {
    let (mut fixture, broker) = with_queues::<F>(&["images"]).await;
    publish_as(&broker, HIGH, 0..3).await;
    publish(&broker, "images", 3..6).await;
    publish_as(&broker, LOW, 6..9).await;
    let mut subscription = consume(&broker, work("images"), 9).await;
    let hand = take_many(&mut subscription, 9).await;
    until_ready(&broker, "images", 0).await;
    drop(broker);
    let broker = fixture.lose().await;
    drop((subscription, hand));
    super::fixture::declare(&broker, &["images"]).await;
    until_lanes(&broker, 3, 3).await;
    let mut subscription = consume(&broker, work("images"), 9).await;
    let all = take_many(&mut subscription, 9).await;
    assert_eq!(all.iter().map(number).collect::<BTreeSet<_>>(), (0..9).collect());
    assert!(all.iter().all(|delivery| delivery.redelivered));
    for delivery in all {
        acked(&broker, delivery).await;
    }
    until_ready(&broker, "images", 0).await;
}

pub async fn never_more_than_the_credit_is_in_hand_over_all_lanes<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&["images"]).await;
    publish_as(&broker, HIGH, 0..8).await;
    publish(&broker, "images", 8..16).await;
    publish_as(&broker, LOW, 16..24).await;
    let mut subscription = consume(&broker, work("images"), 4).await;
    let mut hand = take_many(&mut subscription, 4).await;
    until_ready(&broker, "images", 20).await;
    assert_eq!(stats(&broker, "images").await.consumers, 1, "however it takes from the lanes");
    for left in (0..20).rev() {
        assert!(subscription.try_next().is_none(), "a fifth came with four in hand");
        acked(&broker, hand.remove(0)).await;
        hand.push(take(&mut subscription).await);
        until_ready(&broker, "images", left).await;
    }
    for delivery in hand {
        assert!(!delivery.redelivered);
        acked(&broker, delivery).await;
    }
    assert!(subscription.try_next().is_none());
}

pub async fn a_credit_may_change_with_lanes<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&["images"]).await;
    publish_as(&broker, HIGH, 0..20).await;
    publish(&broker, "images", 20..40).await;
    let mut subscription = consume(&broker, work("images"), 0).await;
    assert!(subscription.try_next().is_none());
    subscription.credit(5);
    let hand = take_many(&mut subscription, 5).await;
    let mut seen: Vec<usize> = hand.iter().map(number).collect();
    until_ready(&broker, "images", 35).await;
    subscription.credit(2);
    for delivery in hand {
        acked(&broker, delivery).await;
    }
    let mut hand = take_many(&mut subscription, 2).await;
    until_ready(&broker, "images", 33).await;
    assert!(subscription.try_next().is_none(), "a third came with a credit of two");
    subscription.credit(60);
    hand.extend(take_many(&mut subscription, 33).await);
    until_ready(&broker, "images", 0).await;
    seen.extend(hand.iter().map(number));
    seen.sort_unstable();
    assert_eq!(seen, (0..40).collect::<Vec<_>>());
    for delivery in hand {
        acked(&broker, delivery).await;
    }
    assert!(subscription.try_next().is_none());
}

pub async fn lanes_are_there_after_a_restart<F: Fixture>() {
    let (mut fixture, broker) = with_queues::<F>(&["images"]).await;
    publish(&broker, "images", 0..5).await;
    publish_as(&broker, LOW, 5..10).await;
    publish_as(&broker, HIGH, 10..15).await;
    drop(broker);
    let broker = fixture.reopen().await;
    super::fixture::declare(&broker, &["images"]).await;
    until_lanes(&broker, 5, 5).await;
    let mut subscription = consume(&broker, work("images"), 4).await;
    let mut order = Vec::new();
    for _ in 0..15 {
        let delivery = take(&mut subscription).await;
        order.push(number(&delivery));
        acked(&broker, delivery).await;
    }
    assert_eq!(order[0], 10, "{order:?}");
    let of = |lane: std::ops::Range<usize>| order.iter().copied().filter(|one| lane.contains(one)).collect::<Vec<_>>();
    for lane in [0..5, 5..10, 10..15] {
        assert_eq!(of(lane.clone()), lane.collect::<Vec<_>>(), "a lane keeps its order: {order:?}");
    }
}

pub async fn a_name_of_a_lane_is_no_queue<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&["images"]).await;
    publish_as(&broker, HIGH, 0..1).await;
    let lane = QueueSpec { name: "images.high".to_owned(), foreign: false };
    let error = broker.declare(&[lane]).await.expect_err("reserved");
    assert!(error.to_string().contains("images.high") && error.to_string().contains("lane"), "{error}");
    for to in [work("images.high"), Address::Delayed { queue: "images.high".to_owned(), after: Duration::from_secs(1) }]
    {
        let result = publish_one(&broker, must(to, message(1))).await;
        assert!(matches!(result, Err(PublishError::Unroutable { .. })), "{result:?}");
    }
    assert!(broker.consume(&work("images.high"), 1).await.is_err());
    until_ready(&broker, "images", 1).await;
}

pub async fn a_priority_to_nowhere_is_unroutable<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&["images"]).await;
    let result = publish_one(&broker, must(work("nowhere"), urgent(1, HIGH))).await;
    let Err(PublishError::Unroutable { queue, known }) = result else { panic!("{result:?}") };
    assert_eq!((queue.as_str(), known), ("nowhere", vec!["images".to_owned()]));
}
