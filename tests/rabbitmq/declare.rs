//! Connecting and declaring: what is wrong is explained, and nothing of others is touched.

use lapin::{
    options::{BasicPublishOptions, QueueDeclareOptions, QueueDeleteOptions},
    types::{AMQPValue, FieldTable},
};
use spinor_consumers::broker::{
    Address, Broker, BrokerError, ObjectKind, ObjectState, PublishError, rabbitmq::RabbitMq,
};
use std::time::Duration;

use super::{connect, foreign, misconfigured, must, next_id, numbered, own, prefix, raw, settings, work};
use crate::{conformance::on_rabbitmq::remove, support::servers::rabbitmq_url};

/// The URL with another user, password or virtual host.
fn changed(url: &str, user: &str, vhost: &str) -> String {
    let (scheme, rest) = url.split_once("://").expect("a URL");
    let (own, server) = rest.rsplit_once('@').expect("a user");
    let user = if user.is_empty() { own } else { user };
    format!("{scheme}://{user}@{}/{vhost}", server.split('/').next().expect("a host"))
}

#[tokio::test]
async fn a_wrong_password_is_said_at_once_and_never_shown() {
    let url = changed(&rabbitmq_url(), "spinor:hunter2", "%2f");
    let why = misconfigured(RabbitMq::connect(settings(&url, &prefix())).await);
    assert!(why.contains("password is refused") && !why.contains("hunter2"), "{why}");
}

#[tokio::test]
async fn an_unknown_virtual_host_is_said_at_once() {
    let url = changed(&rabbitmq_url(), "", "no-such-place");
    let why = misconfigured(RabbitMq::connect(settings(&url, &prefix())).await);
    assert!(why.contains("virtual host") && why.contains("no-such-place"), "{why}");
}

#[tokio::test]
async fn a_server_that_is_away_is_unreachable() {
    // Bound and dropped: nobody listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("amqp://me:hunter2@127.0.0.1:{port}/%2f");
    match RabbitMq::connect(settings(&url, &prefix())).await.map(drop) {
        Err(BrokerError::Unreachable(why)) => assert!(!why.contains("hunter2"), "{why}"),
        other => panic!("expected unreachable, got {other:?}"),
    }
}

#[tokio::test]
async fn the_second_host_is_taken_when_the_first_is_away() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = rabbitmq_url();
    let url = url.replacen('@', &format!("@127.0.0.1:{port},"), 1);
    let broker = RabbitMq::connect(settings(&url, &prefix())).await.expect("the second host");
    broker.close().await;
}

#[tokio::test]
async fn a_classic_queue_of_the_same_name_is_explained_and_left_alone() {
    let (url, prefix) = (rabbitmq_url(), prefix());
    let other = raw(&url).await;
    let channel = other.create_channel().await.unwrap();
    let name = format!("{prefix}.jobs.images");
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("classic".into()));
    channel.queue_declare(name.as_str().into(), QueueDeclareOptions::durable(), arguments).await.unwrap();
    let broker = connect(&url, &prefix).await;
    let why = misconfigured(broker.declare(&[own("images")]).await);
    for part in [name.as_str(), "x-queue-type", "classic", "quorum", "delete it"] {
        assert!(why.contains(part), "{part} is not in: {why}");
    }
    let objects = broker.objects(&[own("images"), own("mail")]).await.expect("a look at our objects");
    let one = |kind: ObjectKind, end: &str| {
        objects.iter().find(|one| one.kind == kind && one.name.ends_with(end)).unwrap_or_else(|| panic!("no {end}"))
    };
    let images = one(ObjectKind::Queue, ".jobs.images");
    assert_eq!((images.state, images.ready, images.consumers), (ObjectState::Differs, Some(0), Some(0)));
    assert!(images.in_force.is_none() && images.why.as_ref().is_some_and(|why| why.contains("classic")), "{images:?}");
    assert_eq!(images.wanted["x-queue-type"], "quorum");
    assert_eq!(one(ObjectKind::Queue, ".jobs.mail").state, ObjectState::Missing);
    assert_eq!(one(ObjectKind::Binding, ".jobs.images").state, ObjectState::NotKnown);
    let back = one(ObjectKind::Exchange, ".back");
    assert_eq!((back.state, back.in_force.as_ref()), (ObjectState::InForce, Some(&back.wanted)));
    // A look made nothing, and the link is whole.
    let again = broker.objects(&[own("mail")]).await.expect("another look");
    assert!(again.iter().any(|one| one.name.ends_with(".jobs.mail") && one.state == ObjectState::Missing), "{again:?}");
    // The others were not harmed by it.
    broker.declare(&[own("mail")]).await.expect("another queue");
    broker.close().await;
    remove(&url, &prefix).await.unwrap();
}

#[tokio::test]
async fn a_tier_that_would_lose_is_explained() {
    let (url, prefix) = (rabbitmq_url(), prefix());
    let other = raw(&url).await;
    let channel = other.create_channel().await.unwrap();
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(1_000_000));
    arguments.insert("x-message-ttl".into(), AMQPValue::LongLongInt(5000));
    let name = format!("{prefix}.delay.5s");
    channel.queue_declare(name.as_str().into(), QueueDeclareOptions::durable(), arguments).await.unwrap();
    let broker = connect(&url, &prefix).await;
    let why = misconfigured(broker.declare(&[]).await);
    assert!(why.contains(&name) && why.contains("arguments"), "{why}");
    broker.close().await;
    remove(&url, &prefix).await.unwrap();
}

#[tokio::test]
async fn a_foreign_queue_is_consumed_delayed_to_and_never_declared() {
    let (url, prefix) = (rabbitmq_url(), prefix());
    let broker = connect(&url, &prefix).await;
    let theirs = format!("{prefix}-theirs");
    match broker.declare(&[foreign(&theirs)]).await {
        Err(BrokerError::Absent(why)) => assert!(why.contains(&theirs), "{why}"),
        other => panic!("expected absent, got {other:?}"),
    }
    let other = raw(&url).await;
    let channel = other.create_channel().await.unwrap();
    channel.queue_declare(theirs.as_str().into(), QueueDeclareOptions::durable(), FieldTable::default()).await.unwrap();
    broker.declare(&[foreign(&theirs)]).await.expect("it exists now");
    let mut subscription = broker.consume(&work(&theirs), 5).await.expect("consume");
    let options = BasicPublishOptions::default();
    let properties = lapin::BasicProperties::default().with_message_id("raw".into());
    channel.basic_publish("".into(), theirs.as_str().into(), options, b"{}", properties).await.unwrap();
    assert_eq!(next_id(&broker, &mut subscription).await, "raw");
    let to = Address::Delayed { queue: theirs.clone(), after: Duration::from_secs(1) };
    broker.publish(vec![must(to, numbered(7))]).await.remove(0).expect("published");
    assert_eq!(next_id(&broker, &mut subscription).await, "7");
    broker.close().await;
    channel.queue_delete(theirs.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
    remove(&url, &prefix).await.unwrap();
}

#[tokio::test]
async fn a_delayed_job_whose_queue_is_deleted_becomes_a_dead_letter() {
    let (url, prefix) = (rabbitmq_url(), prefix());
    let broker = connect(&url, &prefix).await;
    broker.declare(&[own("images"), own("mail")]).await.expect("declare");
    for queue in ["images", "mail"] {
        let to = Address::Delayed { queue: queue.to_owned(), after: Duration::from_secs(1) };
        broker.publish(vec![must(to, numbered(queue.len()))]).await.remove(0).expect("published");
    }
    let channel = raw(&url).await.create_channel().await.unwrap();
    let gone = format!("{prefix}.jobs.images");
    channel.queue_delete(gone.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
    let mut dead = broker.consume(&Address::Dead, 5).await.expect("consume");
    assert_eq!(next_id(&broker, &mut dead).await, "6");
    // The neighbour in the tier is not held up.
    let mut mail = broker.consume(&work("mail"), 5).await.expect("consume");
    assert_eq!(next_id(&broker, &mut mail).await, "4");
    broker.close().await;
    remove(&url, &prefix).await.unwrap();
}

#[tokio::test]
async fn a_header_that_no_frame_holds_is_refused_and_the_channel_lives_on() {
    let (url, prefix) = (rabbitmq_url(), prefix());
    let broker = connect(&url, &prefix).await;
    broker.declare(&[own("images")]).await.expect("declare");
    let mut wide = numbered(1);
    let value = spinor_executors::HeaderValue::Text("x".repeat(200_000));
    wide.properties.headers.insert("wide".to_owned(), value);
    let results = broker.publish(vec![must(work("images"), wide), must(work("images"), numbered(2))]).await;
    assert!(matches!(results[0], Err(PublishError::TooLarge { .. })), "{results:?}");
    assert!(results[1].is_ok(), "{results:?}");
    broker.close().await;
    remove(&url, &prefix).await.unwrap();
}

#[tokio::test]
async fn what_a_holder_does_not_take_goes_home_by_itself_and_says_whose_it_was() {
    let (url, prefix) = (rabbitmq_url(), prefix());
    let broker = connect(&url, &prefix).await;
    broker.declare(&[own("images")]).await.expect("declare");
    let holder = uuid::Uuid::now_v7();
    let to = Address::Held { holder, queue: "images".to_owned() };
    // Nobody has such a queue yet.
    let refused = broker.publish(vec![must(to.clone(), numbered(1))]).await.remove(0);
    assert!(matches!(refused, Err(PublishError::Unroutable { .. })), "{refused:?}");
    let mut held = broker.consume(&to, 1).await.expect("a holder's queue");
    broker.publish(vec![must(to.clone(), numbered(1))]).await.remove(0).expect("held");
    let mine = held.next().await.expect("the copy");
    assert_eq!((mine.queue.as_str(), mine.redelivered), ("images", true));
    broker.let_go(mine).await;
    held.cancel().await.expect("cancelled");
    broker.publish(vec![must(to, numbered(2))]).await.remove(0).expect("held");
    let mut images = broker.consume(&work("images"), 5).await.expect("consume");
    let home = images.next().await.expect("home");
    assert_eq!(home.message.properties.id.as_deref(), Some("2"), "what was let go is gone");
    assert_eq!(home.message.properties.text("spinor-holder"), Some(holder.to_string().as_str()));
    assert!(home.redelivered);
    broker.let_go(home).await;
    broker.close().await;
    let channel = raw(&url).await.create_channel().await.unwrap();
    let queue = format!("{prefix}.held.{}", holder.simple());
    channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
    remove(&url, &prefix).await.unwrap();
}
