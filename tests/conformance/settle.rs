//! Settling: publish these, then answer that.

use bytes::Bytes;
use spinor_consumers::{
    broker::{Address, Broker, Outgoing, PublishError},
    message::{MAX_BODY, header},
};
use spinor_executors::HeaderValue;

use super::fixture::{
    Fixture, ack, ack_with, acked, consume, end, hand_back, message, must, number, publish, publish_one, take,
    take_many, until_ready, with_queues, work,
};

pub async fn an_acked_delivery_does_not_come_again<F: Fixture>() {
    let (mut fixture, broker) = with_queues::<F>(&["images"]).await;
    publish(&broker, "images", 0..2).await;
    let mut subscription = consume(&broker, work("images"), 2).await;
    let mut hand = take_many(&mut subscription, 2).await;
    acked(&broker, hand.remove(0)).await;
    drop((subscription, hand, broker));
    let broker = fixture.reopen().await;
    let mut subscription = consume(&broker, work("images"), 2).await;
    let only = take(&mut subscription).await;
    assert_eq!(number(&only), 1);
    until_ready(&broker, "images", 0).await;
    assert!(subscription.try_next().is_none());
}

pub async fn a_handed_back_delivery_comes_again_near_its_old_place<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&["images"]).await;
    publish(&broker, "images", 0..30).await;
    let mut subscription = consume(&broker, work("images"), 3).await;
    let mut hand = take_many(&mut subscription, 3).await;
    end(broker.settle(hand.remove(0), hand_back())).await.expect("handed back");
    let mut place = None;
    for at in 0..28 {
        let delivery = take(&mut subscription).await;
        assert_eq!(delivery.redelivered, number(&delivery) == 0);
        if number(&delivery) == 0 {
            place = Some(at);
        }
        acked(&broker, delivery).await;
    }
    assert!(place.is_some_and(|place| place < 10), "came again at place {place:?} of 28");
}

pub async fn what_a_settle_publishes_arrives<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&["images", "mail"]).await;
    publish(&broker, "images", 0..1).await;
    let mut subscription = consume(&broker, work("images"), 1).await;
    let delivery = take(&mut subscription).await;
    let follow = vec![must(work("mail"), message(7)), must(work("mail"), message(8))];
    end(broker.settle(delivery, ack_with(follow))).await.expect("settled");
    let mut mail = consume(&broker, work("mail"), 2).await;
    let got: Vec<_> = take_many(&mut mail, 2).await.iter().map(number).collect();
    assert_eq!(got, [7, 8]);
}

pub async fn a_dead_letter_and_a_follow_up_arrive_on_their_internal_queues<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&["images"]).await;
    publish(&broker, "images", 0..1).await;
    let mut subscription = consume(&broker, work("images"), 1).await;
    let delivery = take(&mut subscription).await;
    let mut letter = delivery.message.clone();
    letter.properties.headers.insert(header::REASON.to_owned(), HeaderValue::Text("rubbish".to_owned()));
    let publish = vec![must(Address::Dead, letter.clone()), must(Address::Next, message(9))];
    end(broker.settle(delivery, ack_with(publish))).await.expect("settled");
    let mut dead = consume(&broker, Address::Dead, 5).await;
    let buried = take(&mut dead).await;
    assert_eq!(buried.message, letter);
    acked(&broker, buried).await;
    let mut next = consume(&broker, Address::Next, 5).await;
    assert_eq!(number(&take(&mut next).await), 9);
}

pub async fn a_settle_whose_publish_fails_is_not_acked_and_comes_again<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&["images"]).await;
    publish(&broker, "images", 0..1).await;
    let mut subscription = consume(&broker, work("images"), 1).await;
    let delivery = take(&mut subscription).await;
    let receipt = broker.settle(delivery, ack_with(vec![must(work("nowhere"), message(7))]));
    match end(receipt).await {
        Err(PublishError::Unroutable { queue, .. }) => assert_eq!(queue, "nowhere"),
        other => panic!("expected unroutable, got {other:?}"),
    }
    let again = take(&mut subscription).await;
    assert!(again.redelivered);
    assert_eq!(number(&again), 0);
    acked(&broker, again).await;
}

pub async fn a_failed_settle_does_not_hold_its_neighbours<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&["images", "mail"]).await;
    publish(&broker, "images", 0..9).await;
    let mut subscription = consume(&broker, work("images"), 9).await;
    let receipts: Vec<_> = take_many(&mut subscription, 9)
        .await
        .into_iter()
        .map(|delivery| {
            let number = number(&delivery);
            let queue = if number == 4 { "nowhere" } else { "mail" };
            (number, broker.settle(delivery, ack_with(vec![must(work(queue), message(number))])))
        })
        .collect();
    for (number, receipt) in receipts {
        assert_eq!(end(receipt).await.is_err(), number == 4, "settle {number}");
    }
    let mut mail = consume(&broker, work("mail"), 9).await;
    let mut got: Vec<_> = take_many(&mut mail, 8).await.iter().map(number).collect();
    got.sort_unstable();
    assert_eq!(got, [0, 1, 2, 3, 5, 6, 7, 8]);
    let again = take(&mut subscription).await;
    assert_eq!((number(&again), again.redelivered), (4, true));
}

pub async fn a_reply_reaches_its_queue<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&["images"]).await;
    let replies = Address::Reply(format!("answers-{}", uuid::Uuid::now_v7()));
    let mut answers = consume(&broker, replies.clone(), 10).await;
    publish(&broker, "images", 0..1).await;
    let mut subscription = consume(&broker, work("images"), 1).await;
    let delivery = take(&mut subscription).await;
    let reply = Outgoing { to: replies, message: message(7), must: false };
    end(broker.settle(delivery, ack_with(vec![reply]))).await.expect("settled");
    let answer = take(&mut answers).await;
    assert_eq!(answer.message, message(7));
    acked(&broker, answer).await;
}

pub async fn a_reply_to_nowhere_does_not_hold_the_settle<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&["images"]).await;
    publish(&broker, "images", 0..1).await;
    let mut subscription = consume(&broker, work("images"), 1).await;
    let delivery = take(&mut subscription).await;
    let reply = Outgoing { to: Address::Reply("gone".to_owned()), message: message(7), must: false };
    end(broker.settle(delivery, ack_with(vec![reply]))).await.expect("settled");
}

pub async fn a_settle_may_end_after_its_subscription_was_cancelled<F: Fixture>() {
    let (mut fixture, broker) = with_queues::<F>(&["images"]).await;
    publish(&broker, "images", 0..2).await;
    let mut subscription = consume(&broker, work("images"), 2).await;
    let mut hand = take_many(&mut subscription, 2).await;
    subscription.cancel().await.expect("cancelled");
    acked(&broker, hand.remove(0)).await;
    drop(subscription);
    acked(&broker, hand.remove(0)).await;
    drop(broker);
    let broker = fixture.reopen().await;
    until_ready(&broker, "images", 0).await;
}

pub async fn a_receipt_may_be_dropped<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&["images", "mail"]).await;
    publish(&broker, "images", 0..1).await;
    let mut subscription = consume(&broker, work("images"), 1).await;
    let delivery = take(&mut subscription).await;
    drop(broker.settle(delivery, ack_with(vec![must(work("mail"), message(7))])));
    let mut mail = consume(&broker, work("mail"), 1).await;
    assert_eq!(number(&take(&mut mail).await), 7);
}

pub async fn a_message_that_a_settle_publishes_over_the_limit_fails_it<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&["images"]).await;
    publish_one(&broker, must(work("images"), message(1))).await.expect("published");
    let mut subscription = consume(&broker, work("images"), 1).await;
    let delivery = take(&mut subscription).await;
    let mut large = message(2);
    large.body = Bytes::from(vec![b'x'; MAX_BODY + 1]);
    let ended = end(broker.settle(delivery, ack_with(vec![must(Address::Dead, large)]))).await;
    assert!(matches!(ended, Err(PublishError::TooLarge { .. })), "{ended:?}");
    let again = take(&mut subscription).await;
    assert!(again.redelivered);
    end(broker.settle(again, ack())).await.expect("settled");
}
