//! What comes again, and how it is marked.

use std::collections::BTreeMap;

use super::fixture::{Fixture, acked, consume, number, publish, take, take_many, until_ready, with_queues, work};

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
    let got: BTreeMap<_, _> = take_many(&mut subscription, 20)
        .await
        .iter()
        .map(|delivery| (number(delivery), delivery.redelivered))
        .collect();
    assert_eq!(got, (0..20).map(|number| (number, number < 4)).collect());
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
    let got: BTreeMap<_, _> = take_many(&mut subscription, 10)
        .await
        .iter()
        .map(|delivery| (number(delivery), delivery.redelivered))
        .collect();
    assert_eq!(got, (10..20).map(|number| (number, number < 14)).collect());
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
