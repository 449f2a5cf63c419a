//! Jobs that go wrong: panics, rubbish, unknown kinds, late ones, nameless ones, endless ones.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use spinor_consumers::{
    broker::{Address, Broker},
    message::{Message, Properties, header},
};
use spinor_executors::{Bounds, Cause, Json, Outcome, State, Timeout};

use super::stage::{Cast, QUEUE, Stage, job, settings, with_policy};
use crate::conformance::fixture::{Fixture, consume, must, take, until_ready, work};

pub async fn a_panic_fails_its_job_and_the_next_one_runs<F: Fixture>() {
    let cast = Cast::default().noop().kind("bad", |_, _| Box::pin(async { panic!("unexpected corner") }));
    let (_fixture, mut stage) = Stage::open::<F>(settings(1), cast).await;
    stage.publish(&[job("bad"), job("noop")]).await;
    let failure = stage.report().await.failure.expect("why");
    assert_eq!(failure.cause, Cause::Panic);
    assert!(failure.message.contains("unexpected corner"), "{}", failure.message);
    assert_eq!(stage.report().await.state, State::Succeeded);
    stage.drain().await;
}

pub async fn rubbish_becomes_a_dead_letter_with_its_reason<F: Fixture>() {
    let (_fixture, mut stage) = Stage::open::<F>(settings(1), Cast::default().noop()).await;
    let mut dead = consume(&stage.broker, Address::Dead, 10).await;
    let typed = |body: &'static [u8]| Message {
        properties: Properties { kind: Some("noop".into()), ..Properties::default() },
        body: body.into(),
    };
    let table = [
        (typed(b"\xff\xfe{"), "JSON"),
        (typed(b"{\"a\":"), "JSON"),
        (Message { properties: Properties::default(), body: "{}".into() }, "type"),
    ];
    for (message, word) in table {
        let sent = message.clone();
        for result in stage.broker.publish(vec![must(work(QUEUE), message)]).await {
            result.expect("published");
        }
        let letter = take(&mut dead).await;
        let reason = letter.message.properties.text(header::REASON).expect("a reason");
        assert!(reason.contains(word), "{reason}");
        assert_eq!(letter.message.properties.text(header::FROM), Some(QUEUE));
        assert_eq!(letter.message.body, sent.body, "whole");
        crate::conformance::fixture::acked(&stage.broker, letter).await;
    }
    stage.publish(&[job("noop")]).await;
    assert_eq!(stage.report().await.state, State::Succeeded);
    stage.drain().await;
}

pub async fn a_kinds_bounds_reach_its_processes<F: Fixture>() {
    let mut settings = with_policy(1, None, None);
    settings.kinds[0].bounds = Bounds { memory: Some(32 << 20), files: Some(20) };
    let cast = Cast::default().kind("bounds", |_, context| {
        let bounds = context.bounds;
        Box::pin(async move { Outcome::Succeeded(Json::of(&(bounds.memory, bounds.files)).expect("JSON")) })
    });
    let (_fixture, mut stage) = Stage::open::<F>(settings, cast).await;
    stage.publish(&[job("bounds")]).await;
    assert_eq!(stage.report().await.value.expect("a value").text(), "[33554432,20]");
    stage.drain().await;
}

pub async fn an_unknown_kind_waits_and_is_dead_after_the_grace<F: Fixture>() {
    let (_fixture, mut stage) = Stage::open::<F>(settings(1), Cast::default().noop()).await;
    let mut dead = consume(&stage.broker, Address::Dead, 10).await;
    let published = Timestamp::now();
    let unknown = job("image.resize");
    stage.publish(std::slice::from_ref(&unknown)).await;
    let report = stage.report().await;
    assert_eq!((report.job, report.state, report.attempt), (unknown.id, State::Dead, 1));
    let why = report.failure.expect("why").message;
    assert!(why.contains("image.resize") && why.contains("noop") && why.contains(QUEUE), "{why}");
    // By its first line failures are grouped: what this version of a consumer serves is not in it.
    assert!(why.lines().next().is_some_and(|line| line.contains("image.resize") && !line.contains("noop")), "{why}");
    assert!(report.ended.duration_since(published).as_secs() >= 1, "it waited for a deploy");
    let letter = take(&mut dead).await;
    assert_eq!(letter.message.properties.id.as_deref(), Some(unknown.id.to_string().as_str()));
    stage.drain().await;
}

pub async fn an_expired_job_does_not_run<F: Fixture>() {
    let (_fixture, mut stage) = Stage::open::<F>(settings(1), Cast::default().noop()).await;
    let mut late = job("noop");
    late.expires_at = Some(late.created);
    stage.publish(&[late]).await;
    let report = stage.report().await;
    assert_eq!((report.state, report.execution), (State::Expired, uuid::Uuid::nil()));
    stage.drain().await;
}

pub async fn a_message_without_an_id_gets_one_and_runs_once<F: Fixture>() {
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let cast = Cast::default().kind("once", move |_, _| {
        counted.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { Outcome::Succeeded(Json::null()) })
    });
    let (_fixture, mut stage) = Stage::open::<F>(settings(1), cast).await;
    let bare =
        Message { properties: Properties { kind: Some("once".into()), ..Properties::default() }, body: "7".into() };
    stage.broker.publish(vec![must(work(QUEUE), bare)]).await.remove(0).expect("published");
    let report = stage.report().await;
    let whole = report.whole.expect("a foreign job is in its first report");
    assert_eq!((whole.id, whole.args.text(), report.state), (report.job, "7", State::Succeeded));
    until_ready(&stage.broker, QUEUE, 0).await;
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    stage.drain().await;
}

pub async fn a_job_past_its_limit_is_ended<F: Fixture>() {
    let cast = Cast::default().noop().kind("endless", |_, _| Box::pin(std::future::pending()));
    let limit = Duration::from_millis(300);
    let settings = with_policy(1, None, Some(Timeout { soft: limit, hard: 2 * limit }));
    let (_fixture, mut stage) = Stage::open::<F>(settings, cast).await;
    stage.publish(&[job("endless"), job("noop")]).await;
    let report = stage.report().await;
    assert_eq!((report.state, report.failure.map(|failure| failure.cause)), (State::Failed, Some(Cause::Timeout)));
    assert_eq!(stage.report().await.state, State::Succeeded, "the slot is free again");
    stage.drain().await;
}
