//! Drains, second signals, lost consumers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use spinor_consumers::{
    broker::Broker,
    entry::Entry,
    results::{Results, ResultsTarget},
};
use spinor_executors::{Json, Origin, Outcome, Report, State};
use tokio::sync::Notify;

use super::stage::{Cast, QUEUE, Stage, job, publish, settings};
use crate::{
    conformance::fixture::{Fixture, acked, consume, declare, end, hand_back, take, take_many, until_ready, work},
    support::scratch::Scratch,
};

/// A kind that says when it starts and waits to be let go.
fn gate(started: &Arc<Notify>, go: &Arc<Notify>) -> Cast {
    let (started, go) = (Arc::clone(started), Arc::clone(go));
    Cast::default().kind("gate", move |_, context| {
        let (started, go) = (Arc::clone(&started), Arc::clone(&go));
        Box::pin(async move {
            started.notify_one();
            tokio::select! {
                () = go.notified() => Outcome::Succeeded(Json::null()),
                () = context.cancelled() => Outcome::failed("asked to end"),
            }
        })
    })
}

pub async fn a_drain_waits_for_what_runs_and_hands_back_the_rest<F: Fixture>() {
    let (started, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (_fixture, mut stage) = Stage::open::<F>(settings(1), gate(&started, &go)).await;
    stage.publish(&[job("gate"), job("gate"), job("gate")]).await;
    started.notified().await;
    stage.shutdown.drain.cancel();
    until_ready(&stage.broker, QUEUE, 2).await;
    go.notify_one();
    assert_eq!(stage.report().await.state, State::Succeeded);
    let broker = stage.broker.clone();
    stage.ended().await;
    until_ready(&broker, QUEUE, 2).await;
}

pub async fn a_drain_past_its_grace_gives_the_job_back<F: Fixture>() {
    let (started, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let mut settings = settings(1);
    settings.grace = Duration::from_millis(200);
    let (_fixture, stage) = Stage::open::<F>(settings, gate(&started, &go)).await;
    stage.publish(&[job("gate")]).await;
    started.notified().await;
    let broker = stage.broker.clone();
    stage.drain().await;
    until_ready(&broker, QUEUE, 1).await;
}

pub async fn a_second_signal_is_immediate<F: Fixture>() {
    let (started, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (mut fixture, stage) = Stage::open::<F>(settings(1), gate(&started, &go)).await;
    let given_up = job("gate");
    stage.publish(std::slice::from_ref(&given_up)).await;
    started.notified().await;
    stage.shutdown.drain.cancel();
    stage.shutdown.now.cancel();
    stage.ended().await;
    // The process ends here, and with it its link.
    let broker = fixture.reopen().await;
    let mut subscription = consume(&broker, work(QUEUE), 1).await;
    let again = take(&mut subscription).await;
    assert_eq!(again.message.properties.id, Some(given_up.id.to_string()));
    assert!(again.redelivered);
    acked(&broker, again).await;
}

pub async fn a_job_of_a_lost_consumer_runs_again_and_is_marked<F: Fixture>() {
    let (started, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (mut fixture, stage) = Stage::open::<F>(settings(1), gate(&started, &go)).await;
    let lost = job("gate");
    stage.publish(std::slice::from_ref(&lost)).await;
    started.notified().await;
    let broker = fixture.lose().await;
    let mut second = Stage::on(
        broker,
        settings(1),
        Cast::default().kind("gate", |_, context| {
            Box::pin(async move {
                assert!(context.maybe_rerun);
                Outcome::Succeeded(Json::null())
            })
        }),
        None,
    )
    .await;
    let report = second.report().await;
    assert_eq!((report.job, report.state, report.attempt, report.maybe_rerun), (lost.id, State::Succeeded, 1, true));
    second.drain().await;
}

pub async fn a_redelivered_job_that_has_ended_is_not_run<F: Fixture>() {
    let scratch = Scratch::new("ended");
    let record = Results::open(&ResultsTarget::Sqlite(scratch.path().join("results.db"))).await.expect("open");
    let fixture = F::install(false).await;
    let broker = fixture.broker();
    declare(&broker, &[QUEUE]).await;
    let jobs = [job("count"), job("count")];
    publish(&broker, &jobs).await;
    let mut before = consume(&broker, work(QUEUE), 2).await;
    let in_hand = take_many(&mut before, 2).await;
    before.cancel().await.expect("cancelled");
    for delivery in in_hand {
        end(broker.settle(delivery, hand_back())).await.expect("back");
    }
    let origin = Origin { consumer: "c-0".into(), group: "stage".into(), host: "here".into() };
    let mut done = Report::of(&jobs[0], &origin, uuid::Uuid::now_v7(), jobs[0].created);
    done.end(Outcome::Succeeded(Json::null()));
    record.store(&[Entry::Report(Box::new(done))]).await.expect("stored");
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let cast = Cast::default().kind("count", move |_, _| {
        counted.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { Outcome::Succeeded(Json::null()) })
    });
    let mut stage = Stage::on(broker, settings(1), cast, Some(record)).await;
    let report = stage.report().await;
    assert_eq!(report.job, jobs[1].id);
    until_ready(&stage.broker, QUEUE, 0).await;
    let broker = stage.broker.clone();
    stage.drain().await;
    assert_eq!(broker.stats(&[QUEUE.to_owned()]).await.expect("stats")[0].ready, 0);
    assert_eq!(runs.load(Ordering::SeqCst), 1, "only the one that had not ended");
}
