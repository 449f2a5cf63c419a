//! Consuming: credit, order, the end of a subscription.

use std::collections::BTreeSet;

use futures_util::FutureExt;
use spinor_consumers::broker::{Address, Broker};

use super::fixture::{
    Fixture, acked, consume, number, publish, stats, take, take_many, until_ready, with_queues, work,
};

pub async fn a_waiting_consumer_gets_what_is_published_later<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&["images"]).await;
    let mut subscription = consume(&broker, work("images"), 1).await;
    assert!(subscription.try_next().is_none());
    for wanted in 0..3 {
        publish(&broker, "images", wanted..wanted + 1).await;
        let delivery = take(&mut subscription).await;
        assert_eq!(number(&delivery), wanted);
        acked(&broker, delivery).await;
    }
}

pub async fn a_queue_that_does_not_exist_cannot_be_consumed<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&["images"]).await;
    let error = broker.consume(&work("imagse"), 1).await.map(drop).expect_err("no such queue");
    assert!(error.to_string().contains("imagse"), "{error}");
}

pub async fn never_more_than_the_credit_is_in_hand<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&["images"]).await;
    publish(&broker, "images", 0..20).await;
    let mut subscription = consume(&broker, work("images"), 3).await;
    let mut hand = take_many(&mut subscription, 3).await;
    until_ready(&broker, "images", 17).await;
    for left in (0..17).rev() {
        assert!(subscription.try_next().is_none(), "a fourth came with three in hand");
        acked(&broker, hand.remove(0)).await;
        hand.push(take(&mut subscription).await);
        until_ready(&broker, "images", left).await;
    }
    for delivery in hand {
        acked(&broker, delivery).await;
    }
    assert!(subscription.try_next().is_none());
}

pub async fn a_credit_of_zero_pauses_and_more_resumes<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&["images"]).await;
    let mut subscription = consume(&broker, work("images"), 0).await;
    publish(&broker, "images", 0..10).await;
    until_ready(&broker, "images", 10).await;
    assert!(subscription.try_next().is_none());
    subscription.credit(2);
    let hand = take_many(&mut subscription, 2).await;
    until_ready(&broker, "images", 8).await;
    subscription.credit(0);
    for delivery in hand {
        acked(&broker, delivery).await;
    }
    until_ready(&broker, "images", 8).await;
    assert!(subscription.try_next().is_none());
    subscription.credit(8);
    for delivery in take_many(&mut subscription, 8).await {
        acked(&broker, delivery).await;
    }
}

pub async fn a_lower_credit_holds_once_the_old_deliveries_are_answered<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&["images"]).await;
    publish(&broker, "images", 0..20).await;
    let mut subscription = consume(&broker, work("images"), 5).await;
    let hand = take_many(&mut subscription, 5).await;
    until_ready(&broker, "images", 15).await;
    subscription.credit(2);
    for delivery in hand {
        acked(&broker, delivery).await;
    }
    let hand = take_many(&mut subscription, 2).await;
    until_ready(&broker, "images", 13).await;
    assert!(subscription.try_next().is_none(), "a third came with a credit of two");
    assert_eq!(hand.iter().map(number).collect::<BTreeSet<_>>(), BTreeSet::from([5, 6]));
}

pub async fn a_higher_credit_brings_more_in_hand<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&["images"]).await;
    publish(&broker, "images", 0..20).await;
    let mut subscription = consume(&broker, work("images"), 2).await;
    let hand = take_many(&mut subscription, 2).await;
    subscription.credit(6);
    // The broker may let the old ones end first; with them answered the whole credit is there.
    for delivery in hand {
        acked(&broker, delivery).await;
    }
    let hand = take_many(&mut subscription, 6).await;
    until_ready(&broker, "images", 12).await;
    assert!(subscription.try_next().is_none(), "a seventh came with a credit of six");
    drop(hand);
}

pub async fn a_queue_keeps_its_order<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&["images"]).await;
    let mut subscription = consume(&broker, work("images"), 7).await;
    for start in (0..300).step_by(50) {
        publish(&broker, "images", start..start + 50).await;
    }
    for wanted in 0..300 {
        let delivery = take(&mut subscription).await;
        assert_eq!(number(&delivery), wanted);
        acked(&broker, delivery).await;
    }
}

pub async fn queues_do_not_mix<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&["images", "mail"]).await;
    publish(&broker, "images", 0..5).await;
    publish(&broker, "mail", 5..10).await;
    let mut images = consume(&broker, work("images"), 10).await;
    let mut mail = consume(&broker, work("mail"), 10).await;
    let hand = (take_many(&mut images, 5).await, take_many(&mut mail, 5).await);
    for delivery in &hand.0 {
        assert!(number(delivery) < 5 && delivery.queue == "images");
    }
    for delivery in &hand.1 {
        assert!(number(delivery) >= 5 && delivery.queue == "mail");
    }
    assert!(images.try_next().is_none() && mail.try_next().is_none());
}

pub async fn many_are_taken_at_once<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&["images"]).await;
    publish(&broker, "images", 0..50).await;
    let mut subscription = consume(&broker, work("images"), 50).await;
    until_ready(&broker, "images", 0).await;
    let mut hand = Vec::new();
    while hand.len() < 50 {
        assert!(subscription.next_many(&mut hand, 20).await <= 20);
    }
    assert_eq!(hand.iter().map(number).collect::<Vec<_>>(), (0..50).collect::<Vec<_>>());
}

pub async fn a_cancelled_subscription_ends<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&["images"]).await;
    publish(&broker, "images", 0..10).await;
    let mut subscription = consume(&broker, work("images"), 3).await;
    let first = take(&mut subscription).await;
    subscription.cancel().await.expect("cancelled");
    publish(&broker, "images", 10..20).await;
    let mut rest = Vec::new();
    while let Some(delivery) = subscription.next().await {
        rest.push(delivery);
    }
    assert!(rest.len() <= 2, "{} came after the cancel, with a credit of 3 and one taken out", rest.len());
    acked(&broker, first).await;
    for delivery in rest {
        acked(&broker, delivery).await;
    }
}

pub async fn next_is_cancel_safe<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&["images"]).await;
    let mut subscription = consume(&broker, work("images"), 10).await;
    publish(&broker, "images", 0..500).await;
    let mut seen = Vec::new();
    while seen.len() < 500 {
        // Polled once and dropped, again and again: no delivery may be lost in between.
        for _ in 0..3 {
            if let Some(delivery) = subscription.next().now_or_never() {
                let delivery = delivery.expect("not ended");
                seen.push(number(&delivery));
                drop(broker.settle(delivery, super::fixture::ack()));
            }
        }
        if seen.len() < 500 {
            let delivery = take(&mut subscription).await;
            seen.push(number(&delivery));
            acked(&broker, delivery).await;
        }
    }
    assert_eq!(seen, (0..500).collect::<Vec<_>>());
}

pub async fn two_subscriptions_share_a_queue<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&["images"]).await;
    let mut one = consume(&broker, work("images"), 5).await;
    let mut two = consume(&broker, work("images"), 5).await;
    publish(&broker, "images", 0..10).await;
    let mut hand = take_many(&mut one, 5).await;
    hand.extend(take_many(&mut two, 5).await);
    let mut seen: Vec<_> = hand.iter().map(number).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..10).collect::<Vec<_>>());
}

pub async fn stats_count_what_is_ready_and_who_consumes<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&["images", "mail"]).await;
    publish(&broker, "images", 0..10).await;
    until_ready(&broker, "images", 10).await;
    assert_eq!(stats(&broker, "images").await.consumers, 0);
    let mut subscription = consume(&broker, work("images"), 4).await;
    let hand = take_many(&mut subscription, 4).await;
    until_ready(&broker, "images", 6).await;
    let now = stats(&broker, "images").await;
    assert_eq!((now.name.as_str(), now.consumers), ("images", 1));
    assert!(now.unacked.is_none_or(|unacked| unacked == 4), "{now:?}");
    let all = broker.stats(&[]).await.expect("stats of all");
    let names: BTreeSet<_> = all.iter().map(|queue| queue.name.as_str()).collect();
    assert!(names.contains("images") && names.contains("mail"), "{names:?}");
    drop(hand);
    let internal = broker.consume(&Address::Results, 1).await;
    assert!(internal.is_ok(), "the internal queues always exist");
}
