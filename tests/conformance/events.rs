//! Events: filtered, lossy, never in anybody's way.

use spinor_consumers::broker::{AnyBroker, Broker, Event, Events, Topic};
use spinor_executors::Stream;
use uuid::Uuid;

use super::fixture::{Fixture, PATIENCE, publish, with_queues};

async fn hear(events: &mut Events) -> Event {
    tokio::time::timeout(PATIENCE, events.next()).await.expect("an event in time").expect("an event before the end")
}

fn started(job: Uuid, run: Option<Uuid>) -> Event {
    Event::Started { job, run, attempt: 1, consumer: "c".to_owned() }
}

fn output(job: Uuid, text: String) -> Event {
    Event::Output { job, run: None, stream: Stream::Stdout, text }
}

async fn listen(broker: &AnyBroker, topic: Topic) -> Events {
    broker.listen(topic).await.expect("listen")
}

pub async fn a_listener_hears_its_topic_and_no_other<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&[]).await;
    let (one, two, run) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
    let mut all = listen(&broker, Topic::All).await;
    let mut of_job = listen(&broker, Topic::Job(one)).await;
    let mut of_run = listen(&broker, Topic::Run(run)).await;
    let mut control = listen(&broker, Topic::Control).await;
    let ping = Event::Ping { nonce: Uuid::now_v7() };
    let (first, second) = (started(one, None), started(two, Some(run)));
    // The last of each topic comes after everything that must not be heard.
    for event in [&second, &ping, &first, &second, &ping] {
        broker.cast(event.clone());
    }
    assert_eq!(hear(&mut of_job).await, first);
    for wanted in [&second, &second] {
        assert_eq!(hear(&mut of_run).await, *wanted);
    }
    for wanted in [&ping, &ping] {
        assert_eq!(hear(&mut control).await, *wanted);
    }
    for wanted in [&second, &first, &second] {
        assert_eq!(hear(&mut all).await, *wanted);
    }
}

pub async fn events_from_before_are_not_heard<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&[]).await;
    let job = Uuid::now_v7();
    let mut early = listen(&broker, Topic::Job(job)).await;
    broker.cast(output(job, "before".to_owned()));
    assert_eq!(hear(&mut early).await, output(job, "before".to_owned()));
    let mut late = listen(&broker, Topic::Job(job)).await;
    broker.cast(output(job, "after".to_owned()));
    assert_eq!(hear(&mut late).await, output(job, "after".to_owned()));
}

pub async fn a_slow_listener_never_blocks_the_caster<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&["images"]).await;
    let job = Uuid::now_v7();
    let mut slow = listen(&broker, Topic::All).await;
    for number in 0..100_000 {
        broker.cast(output(job, number.to_string()));
    }
    publish(&broker, "images", 0..1).await;
    broker.cast(output(job, "last".to_owned()));
    let mut last = None;
    let mut heard = 0;
    while last != Some(output(job, "last".to_owned())) {
        last = Some(hear(&mut slow).await);
        heard += 1;
    }
    assert!(heard < 100_000, "{heard} events were kept for a listener that did not listen");
}

pub async fn every_listener_hears_control<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&[]).await;
    let mut one = listen(&broker, Topic::Control).await;
    let mut two = listen(&broker, Topic::Control).await;
    let (nonce, holder, job) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
    let said = [
        Event::Ping { nonce },
        Event::WhoHolds { holder, job, replay: 0, attempt: 1 },
        Event::Holds { holder, job, replay: 0, attempt: 1, running: true },
        Event::Laned { name: "images.high".to_owned() },
        Event::Marked { version: 7 },
    ];
    for event in said {
        broker.cast(event.clone());
        assert_eq!(hear(&mut one).await, event);
        assert_eq!(hear(&mut two).await, event);
    }
}

pub async fn who_waits_and_who_records_hear_each_other_and_nobody_else_does<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&[]).await;
    let mut records = listen(&broker, Topic::Watches).await;
    let mut waits = listen(&broker, Topic::Recorded).await;
    let mut control = listen(&broker, Topic::Control).await;
    let mut all = listen(&broker, Topic::All).await;
    let (jobs, nonce) = (vec![Uuid::now_v7(), Uuid::now_v7()], Uuid::now_v7());
    let watch = Event::Watch { jobs: jobs.clone() };
    let answers = [Event::Watched { jobs: jobs.clone() }, Event::Recorded { jobs }];
    let last = started(Uuid::now_v7(), None);
    for event in answers.iter().chain([&watch, &Event::Ping { nonce }, &last]) {
        broker.cast(event.clone());
    }
    assert_eq!(hear(&mut records).await, watch);
    for answer in answers {
        assert_eq!(hear(&mut waits).await, answer);
    }
    assert_eq!(hear(&mut control).await, Event::Ping { nonce });
    assert_eq!(hear(&mut all).await, last);
}
