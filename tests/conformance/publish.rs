//! Publishing: a result for each item, and nothing changed on the way.

use std::collections::BTreeMap;

use bytes::Bytes;
use spinor_consumers::{
    broker::{Broker, PublishError},
    message::{MAX_BODY, Message, Properties},
};
use spinor_executors::HeaderValue;

use super::fixture::{
    Fixture, acked, consume, declare, message, must, publish_one, stats, take, take_many, until_ready, with_queues,
    work,
};

pub async fn a_publish_is_delivered_as_it_was_sent<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&["images"]).await;
    publish_one(&broker, must(work("images"), message(1))).await.expect("published");
    let mut subscription = consume(&broker, work("images"), 1).await;
    let delivery = take(&mut subscription).await;
    assert_eq!(delivery.message, message(1));
    assert_eq!(delivery.queue, "images");
    assert!(!delivery.redelivered);
    acked(&broker, delivery).await;
}

pub async fn a_batch_has_a_result_for_each_item_in_order<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&["images"]).await;
    let batch = (0..20)
        .map(|number| {
            let queue = if number % 5 == 3 { "nowhere" } else { "images" };
            must(work(queue), message(number))
        })
        .collect();
    let results = broker.publish(batch).await;
    assert_eq!(results.len(), 20);
    for (number, result) in results.iter().enumerate() {
        let unroutable = matches!(result, Err(PublishError::Unroutable { .. }));
        assert_eq!(unroutable, number % 5 == 3, "item {number}: {result:?}");
        assert!(unroutable || result.is_ok(), "item {number}: {result:?}");
    }
    until_ready(&broker, "images", 16).await;
}

pub async fn an_empty_batch_has_no_results<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&["images"]).await;
    assert!(broker.publish(vec![]).await.is_empty());
}

pub async fn an_unroutable_publish_names_the_queues_that_exist<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&["images", "mail"]).await;
    match publish_one(&broker, must(work("imagse"), message(1))).await {
        Err(PublishError::Unroutable { queue, known }) => {
            assert_eq!(queue, "imagse");
            assert!(known.contains(&"images".to_owned()) && known.contains(&"mail".to_owned()), "{known:?}");
        }
        other => panic!("expected unroutable, got {other:?}"),
    }
}

pub async fn a_message_over_the_limit_is_refused_and_its_neighbours_are_not<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&["images"]).await;
    let mut large = message(2);
    large.body = Bytes::from(vec![b'x'; MAX_BODY + 1]);
    let batch = [message(1), large, message(3)].map(|message| must(work("images"), message)).to_vec();
    let results = broker.publish(batch).await;
    assert!(results[0].is_ok() && results[2].is_ok(), "{results:?}");
    match &results[1] {
        Err(PublishError::TooLarge { size, limit }) => assert_eq!((*size, *limit), (MAX_BODY + 1, MAX_BODY)),
        other => panic!("expected too large, got {other:?}"),
    }
}

pub async fn a_message_at_the_limit_is_carried<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&["images"]).await;
    let mut large = message(1);
    large.body = (0..MAX_BODY).map(|at| (at % 251) as u8).collect();
    publish_one(&broker, must(work("images"), large.clone())).await.expect("published");
    let mut subscription = consume(&broker, work("images"), 1).await;
    let delivery = take(&mut subscription).await;
    assert!(delivery.message == large, "the large message changed on its way");
    acked(&broker, delivery).await;
}

fn exotic() -> Properties {
    let table = BTreeMap::from([
        ("inner".to_owned(), HeaderValue::List(vec![HeaderValue::Null, HeaderValue::Bool(false)])),
        ("größe".to_owned(), HeaderValue::Int(i64::MIN)),
    ]);
    let headers = BTreeMap::from([
        ("x-null".to_owned(), HeaderValue::Null),
        ("x-bool".to_owned(), HeaderValue::Bool(true)),
        ("x-int".to_owned(), HeaderValue::Int(i64::MAX)),
        ("x-small".to_owned(), HeaderValue::Int(-1)),
        ("x-float".to_owned(), HeaderValue::Float(-0.1)),
        ("x-text".to_owned(), HeaderValue::Text("naïve \u{1F300} \n\"quoted\"".to_owned())),
        ("x-empty".to_owned(), HeaderValue::Text(String::new())),
        ("x-bytes".to_owned(), HeaderValue::Bytes(Bytes::from_static(&[0, 255, 128, 10]))),
        ("x-time".to_owned(), HeaderValue::Time(1_700_000_000)),
        ("x-list".to_owned(), HeaderValue::List(vec![HeaderValue::Int(1), HeaderValue::Text("two".to_owned())])),
        ("x-table".to_owned(), HeaderValue::Table(table)),
        ("spinor-attempt".to_owned(), HeaderValue::Int(3)),
        ("traceparent".to_owned(), HeaderValue::Text("00-0af7-b7ad-01".to_owned())),
    ]);
    Properties {
        id: Some("order 7/é".to_owned()),
        kind: Some("image.resize".to_owned()),
        correlation_id: Some("c-1".to_owned()),
        reply_to: Some("answers".to_owned()),
        priority: Some(9),
        timestamp: Some(1_700_000_000),
        content_type: Some("application/json".to_owned()),
        app_id: Some("shop".to_owned()),
        expiration: None,
        headers,
    }
}

pub async fn every_property_and_header_survives<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&["images"]).await;
    let sent = Message { properties: exotic(), body: Bytes::from_static(b"{}") };
    publish_one(&broker, must(work("images"), sent.clone())).await.expect("published");
    publish_one(&broker, must(work("images"), Message::default())).await.expect("published");
    let mut subscription = consume(&broker, work("images"), 2).await;
    let got = take_many(&mut subscription, 2).await;
    assert_eq!(got[0].message, sent);
    assert_eq!(got[1].message, Message::default());
}

pub async fn binary_and_empty_bodies_survive<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&["images"]).await;
    let bodies: [Bytes; 4] =
        [Bytes::new(), Bytes::from_static(&[0]), (0..=255).collect(), Bytes::from(vec![0xff; 100_000])];
    let batch = bodies.clone().map(|body| must(work("images"), Message { body, ..message(1) })).to_vec();
    assert!(broker.publish(batch).await.iter().all(Result::is_ok));
    let mut subscription = consume(&broker, work("images"), 4).await;
    for (delivery, body) in take_many(&mut subscription, 4).await.into_iter().zip(bodies) {
        assert!(delivery.message.body == body, "a body of {} bytes changed", body.len());
        acked(&broker, delivery).await;
    }
}

pub async fn declaring_twice_changes_nothing<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&["images"]).await;
    publish_one(&broker, must(work("images"), message(1))).await.expect("published");
    declare(&broker, &["images"]).await;
    until_ready(&broker, "images", 1).await;
}

pub async fn two_messages_may_have_the_same_id<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&["images"]).await;
    for _ in 0..2 {
        publish_one(&broker, must(work("images"), message(1))).await.expect("published");
    }
    let mut subscription = consume(&broker, work("images"), 2).await;
    for delivery in take_many(&mut subscription, 2).await {
        assert_eq!(delivery.message, message(1));
        acked(&broker, delivery).await;
    }
    assert_eq!(stats(&broker, "images").await.ready, 0);
}
