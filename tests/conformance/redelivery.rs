//! What comes again, and how it is marked.

use std::collections::BTreeMap;

use spinor_consumers::broker::{Broker, Delivery};

use super::fixture::{Fixture, ack, acked, consume, number, publish, take, take_many, until_ready, with_queues, work};

/// Which numbers came, and which of them were marked.
fn marks(deliveries: &[Delivery]) -> BTreeMap<usize, bool> {
    deliveries.iter().map(|delivery| (number(delivery), delivery.redelivered)).collect()
}

pub async fn what_a_lost_consumer_had_in_hand_comes_again_marked<F: Fixture>() {
    let (mut fixture, broker) = with_queues::<F>(&["images"]).await;
    publish(&broker, "images", 0..20).await;
    let mut subscription = consume(&broker, work("images"), 4).await;
    let hand = take_many(&mut subscription, 4).await;
    until_ready(&broker, "images", 16).await;
    drop(broker);
    let broker = fixture.lose().await;
    drop((subscription, hand));
    let mut subscription = consume(&broker, work("images"), 20).await;
    let all = take_many(&mut subscription, 20).await;
    assert_eq!(marks(&all), (0..20).map(|number| (number, number < 4)).collect());
}

pub async fn what_was_acked_before_a_loss_does_not_come_again<F: Fixture>() {
    let (mut fixture, broker) = with_queues::<F>(&["images"]).await;
    publish(&broker, "images", 0..20).await;
    let mut subscription = consume(&broker, work("images"), 4).await;
    for _ in 0..10 {
        let delivery = take(&mut subscription).await;
        acked(&broker, delivery).await;
    }
    let hand = take_many(&mut subscription, 4).await;
    until_ready(&broker, "images", 6).await;
    drop(broker);
    let broker = fixture.lose().await;
    drop((subscription, hand));
    let mut subscription = consume(&broker, work("images"), 20).await;
    let all = take_many(&mut subscription, 10).await;
    assert_eq!(marks(&all), (10..20).map(|number| (number, number < 14)).collect());
    assert!(subscription.try_next().is_none());
}

pub async fn what_was_not_taken_out_of_a_dropped_subscription_goes_back<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&["images"]).await;
    publish(&broker, "images", 0..6).await;
    let mut subscription = consume(&broker, work("images"), 5).await;
    let first = take(&mut subscription).await;
    until_ready(&broker, "images", 1).await;
    drop(subscription);
    until_ready(&broker, "images", 5).await;
    acked(&broker, first).await;
    let mut subscription = consume(&broker, work("images"), 5).await;
    let mut got: Vec<_> = take_many(&mut subscription, 5).await.iter().map(number).collect();
    got.sort_unstable();
    assert_eq!(got, [1, 2, 3, 4, 5]);
}

pub async fn a_dropped_delivery_goes_back<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&["images"]).await;
    publish(&broker, "images", 0..6).await;
    let mut subscription = consume(&broker, work("images"), 3).await;
    let mut hand = take_many(&mut subscription, 3).await;
    until_ready(&broker, "images", 3).await;
    drop(hand.remove(1));
    // Its place in the credit is free again; whoever comes next, the others stay in hand.
    let mut back = take(&mut subscription).await;
    while number(&back) != 1 {
        acked(&broker, back).await;
        back = take(&mut subscription).await;
    }
    assert!(back.redelivered);
    acked(&broker, back).await;
    for delivery in hand {
        acked(&broker, delivery).await;
    }
}

pub async fn a_delivery_dropped_after_its_subscription_goes_back<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&["images"]).await;
    publish(&broker, "images", 0..4).await;
    let mut subscription = consume(&broker, work("images"), 3).await;
    let mut hand = take_many(&mut subscription, 3).await;
    drop(subscription);
    until_ready(&broker, "images", 1).await;
    acked(&broker, hand.remove(0)).await;
    drop(hand);
    until_ready(&broker, "images", 3).await;
    let mut subscription = consume(&broker, work("images"), 3).await;
    let all = take_many(&mut subscription, 3).await;
    assert_eq!(marks(&all), [(1, true), (2, true), (3, false)].into());
}

pub async fn what_was_answered_does_not_go_back<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&["images"]).await;
    publish(&broker, "images", 0..50).await;
    let mut subscription = consume(&broker, work("images"), 50).await;
    for delivery in take_many(&mut subscription, 50).await {
        drop(broker.settle(delivery, ack()));
    }
    publish(&broker, "images", 50..51).await;
    let last = take(&mut subscription).await;
    assert_eq!((number(&last), last.redelivered), (50, false));
}

pub async fn a_first_delivery_is_not_marked<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&["images"]).await;
    let mut subscription = consume(&broker, work("images"), 10).await;
    publish(&broker, "images", 0..200).await;
    for _ in 0..200 {
        let delivery = take(&mut subscription).await;
        assert!(!delivery.redelivered, "{}", number(&delivery));
        acked(&broker, delivery).await;
    }
}
