//! Delayed messages: never early, never lost.

use std::time::Duration;

use spinor_consumers::broker::{Address, PublishError};
use tokio::time::Instant;

use super::fixture::{
    Fixture, ack_with, acked, consume, end, message, must, number, publish, publish_one, take, until_ready,
    with_queues, work,
};
use spinor_consumers::broker::Broker;

fn delayed(queue: &str, after: Duration) -> Address {
    Address::Delayed { queue: queue.to_owned(), after }
}

pub async fn a_delayed_message_comes_and_never_early<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&["images"]).await;
    publish(&broker, "images", 0..1).await;
    let mut subscription = consume(&broker, work("images"), 5).await;
    let first = take(&mut subscription).await;
    let after = Duration::from_millis(1500);
    let asked = Instant::now();
    let retry = must(delayed("images", after), message(1));
    end(broker.settle(first, ack_with(vec![retry]))).await.expect("settled");
    let second = take(&mut subscription).await;
    assert!(asked.elapsed() >= after, "came after {:?}", asked.elapsed());
    assert_eq!((number(&second), second.redelivered), (1, false));
    assert_eq!(second.queue, "images");
    acked(&broker, second).await;
}

pub async fn a_delay_of_a_queue_that_does_not_exist_is_unroutable<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&["images"]).await;
    let result = publish_one(&broker, must(delayed("nowhere", Duration::from_secs(1)), message(1))).await;
    assert!(matches!(result, Err(PublishError::Unroutable { .. })), "{result:?}");
}

pub async fn a_delayed_message_survives_a_restart<F: Fixture>() {
    let (mut fixture, broker) = with_queues::<F>(&["images"]).await;
    let after = Duration::from_secs(2);
    let asked = Instant::now();
    publish_one(&broker, must(delayed("images", after), message(1))).await.expect("published");
    drop(broker);
    let broker = fixture.lose().await;
    let mut subscription = consume(&broker, work("images"), 5).await;
    let delivery = take(&mut subscription).await;
    assert!(asked.elapsed() >= after, "came after {:?}", asked.elapsed());
    assert_eq!(number(&delivery), 1);
    acked(&broker, delivery).await;
    until_ready(&broker, "images", 0).await;
}

pub async fn delays_do_not_hold_each_other<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&["images", "mail"]).await;
    let mut images = consume(&broker, work("images"), 5).await;
    let mut mail = consume(&broker, work("mail"), 5).await;
    for (queue, seconds) in [("images", 600), ("images", 1), ("mail", 1)] {
        let to = delayed(queue, Duration::from_secs(seconds));
        publish_one(&broker, must(to, message(usize::try_from(seconds).expect("small")))).await.expect("published");
    }
    let hand = [take(&mut images).await, take(&mut mail).await];
    assert_eq!(hand.each_ref().map(number), [1, 1]);
    assert!(images.try_next().is_none());
}
