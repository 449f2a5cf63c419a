//! Closing: what is under way is finished, what is in hand goes back.

use spinor_consumers::broker::{Address, Broker, Link, Settlement};

use super::fixture::{
    Fixture, PATIENCE, ack, consume, end, message, must, number, publish, publish_one, take, take_many, until_ready,
    with_queues, work,
};

pub async fn a_close_gives_back_what_is_in_hand<F: Fixture>() {
    let (mut fixture, broker) = with_queues::<F>(&["images"]).await;
    publish(&broker, "images", 0..5).await;
    let mut subscription = consume(&broker, work("images"), 2).await;
    let hand = take_many(&mut subscription, 2).await;
    until_ready(&broker, "images", 3).await;
    drop(broker);
    let broker = fixture.reopen().await;
    drop((subscription, hand));
    let mut subscription = consume(&broker, work("images"), 5).await;
    let mut got: Vec<_> =
        take_many(&mut subscription, 5).await.iter().map(|delivery| (number(delivery), delivery.redelivered)).collect();
    got.sort_unstable();
    assert_eq!(got, [(0, true), (1, true), (2, false), (3, false), (4, false)]);
}

pub async fn what_was_confirmed_is_there_after_a_close<F: Fixture>() {
    let (mut fixture, broker) = with_queues::<F>(&["images"]).await;
    publish(&broker, "images", 0..250).await;
    publish_one(&broker, must(Address::Dead, message(1))).await.expect("published");
    publish_one(&broker, must(Address::Next, message(2))).await.expect("published");
    drop(broker);
    let broker = fixture.reopen().await;
    let mut subscription = consume(&broker, work("images"), 250).await;
    let got: Vec<_> = take_many(&mut subscription, 250).await.iter().map(number).collect();
    assert_eq!(got, (0..250).collect::<Vec<_>>());
    assert_eq!(number(&take(&mut consume(&broker, Address::Dead, 1).await).await), 1);
    assert_eq!(number(&take(&mut consume(&broker, Address::Next, 1).await).await), 2);
}

pub async fn a_settle_under_way_is_finished_by_a_close<F: Fixture>() {
    let (mut fixture, broker) = with_queues::<F>(&["images"]).await;
    publish(&broker, "images", 0..100).await;
    let mut subscription = consume(&broker, work("images"), 100).await;
    let hand = take_many(&mut subscription, 100).await;
    let receipts: Vec<_> = hand
        .into_iter()
        .map(|delivery| {
            let lines = vec![delivery.message.body.clone()];
            broker.settle(delivery, Settlement { lines, ..Settlement::default() })
        })
        .collect();
    drop(broker);
    let broker = fixture.reopen().await;
    for receipt in receipts {
        end(receipt).await.expect("settled before the end");
    }
    until_ready(&broker, "images", 0).await;
}

pub async fn a_closed_broker_says_so<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&["images"]).await;
    publish(&broker, "images", 0..1).await;
    let mut subscription = consume(&broker, work("images"), 1).await;
    let delivery = take(&mut subscription).await;
    broker.close().await;
    assert!(subscription.next().await.is_none());
    assert!(publish_one(&broker, must(work("images"), message(1))).await.is_err());
    assert!(end(broker.settle(delivery, ack())).await.is_err());
    assert!(broker.consume(&work("images"), 1).await.is_err());
    broker.close().await;
}

pub async fn the_link_is_up_and_then_closed<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&[]).await;
    let mut link = broker.link();
    assert_eq!(*link.borrow_and_update(), Link::Up);
    broker.close().await;
    tokio::time::timeout(PATIENCE, link.wait_for(|link| *link == Link::Closed))
        .await
        .expect("closed in time")
        .expect("the link's last word");
}
