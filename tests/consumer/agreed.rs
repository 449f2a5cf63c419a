//! What all consumers agree on: cancels, pauses, slots, drains, limits, claims and unique keys.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use spinor_consumers::{
    broker::{AnyBroker, Broker, Event},
    consumer::{Agreed, ConsumerSettings, KindSettings},
    marks::{Bound, Marks},
    message::{self, header},
    state::{KeyFilter, KeyTaken, OnTaken, State, StateTarget, Subject},
};
use spinor_executors::{HeaderValue, Job, Json, KindPattern, Outcome, State as JobState, Unique};
use sqlx::{ConnectOptions, Executor, sqlite::SqliteConnectOptions};
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use super::stage::{Cast, QUEUE, Stage, every_kind, job, publish, settings};
use crate::{
    conformance::fixture::{Fixture, PATIENCE, declare, must, until_ready, work},
    support::{eventually, scratch::Scratch},
};

/// State in a file, and consumers that follow it.
struct Pact {
    state: State,
    stop: CancellationToken,
    file: PathBuf,
    _scratch: Scratch,
}

impl Pact {
    async fn new() -> Self {
        let scratch = Scratch::new("pact");
        let file = scratch.join("state.db");
        let state = State::open(&StateTarget::Sqlite(file.clone())).await.expect("state opens");
        Self { state, stop: CancellationToken::new(), file, _scratch: scratch }
    }

    /// What one process shares with all others.
    fn agreed(&self, broker: &AnyBroker) -> Agreed {
        let cell = Arc::new(self.state.clone().into());
        let marks = Marks::follow(broker.clone(), Arc::clone(&cell), &TaskTracker::new(), self.stop.clone());
        Agreed { state: cell, marks }
    }

    /// Says something of a subject, and that it was said.
    async fn mark(&self, broker: &AnyBroker, subject: Subject, value: Value) {
        let version = self.state.set_mark(&subject, value, "ann", Some("a test")).await.expect("marked");
        broker.cast(Event::Marked { version });
    }

    async fn clear(&self, broker: &AnyBroker, subject: Subject) {
        let version = self.state.clear_mark(&subject, "ann", None).await.expect("cleared");
        broker.cast(Event::Marked { version: version.expect("there was a mark") });
    }
}

impl Drop for Pact {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A fresh installation with its pact.
async fn open<F: Fixture>(settings: ConsumerSettings, cast: Cast) -> (F, Pact, Stage) {
    let (fixture, pact) = (F::install(false).await, Pact::new().await);
    let broker = fixture.broker();
    let stage = Stage::agreeing(broker.clone(), settings, cast, None, pact.agreed(&broker)).await;
    (fixture, pact, stage)
}

/// Counts how many run at once, and lets each go when it is told to.
#[derive(Clone, Default)]
struct Turnstile {
    inside: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    left: Arc<AtomicUsize>,
    go: Arc<Notify>,
}

impl Turnstile {
    fn cast(&self) -> Cast {
        let turnstile = self.clone();
        Cast::default().kind("turn", move |_, context| {
            let turnstile = turnstile.clone();
            Box::pin(async move {
                let inside = turnstile.inside.fetch_add(1, Ordering::SeqCst) + 1;
                turnstile.most.fetch_max(inside, Ordering::SeqCst);
                tokio::select! {
                    () = turnstile.go.notified() => {}
                    () = context.cancelled() => {}
                }
                turnstile.inside.fetch_sub(1, Ordering::SeqCst);
                turnstile.left.fetch_add(1, Ordering::SeqCst);
                Outcome::Succeeded(Json::null())
            })
        })
    }

    async fn holds(&self, count: usize) {
        eventually("so many inside", PATIENCE, async || self.inside.load(Ordering::SeqCst) == count).await;
    }

    async fn have_left(&self, count: usize) {
        eventually("so many to leave", PATIENCE, async || self.left.load(Ordering::SeqCst) == count).await;
    }

    fn let_go(&self) {
        self.go.notify_one();
    }

    fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }
}

/// Runs until it is asked to end, and tells that it has started.
fn endless(started: &Arc<Notify>) -> Cast {
    let started = Arc::clone(started);
    Cast::default().noop().kind("endless", move |_, context| {
        let started = Arc::clone(&started);
        Box::pin(async move {
            started.notify_one();
            context.cancelled().await;
            Outcome::failed("ended")
        })
    })
}

fn limited(names: &[&str]) -> Job {
    let mut job = job("turn");
    job.limits = names.iter().map(|name| (*name).to_owned()).collect();
    job
}

fn with_limit(slots: usize, name: &str, bound: Bound) -> ConsumerSettings {
    ConsumerSettings { limits: [(name.to_owned(), bound)].into(), ..settings(slots) }
}

pub async fn a_job_cancelled_before_it_starts_does_not_run<F: Fixture>() {
    let (fixture, pact) = (F::install(false).await, Pact::new().await);
    let broker = fixture.broker();
    declare(&broker, &[QUEUE]).await;
    let jobs = [job("count"), job("count")];
    publish(&broker, &jobs).await;
    pact.mark(&broker, Subject::Cancel(jobs[0].id), json!(true)).await;
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let cast = Cast::default().kind("count", move |_, _| {
        counted.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { Outcome::Succeeded(Json::null()) })
    });
    let mut stage = Stage::agreeing(broker.clone(), settings(1), cast, None, pact.agreed(&broker)).await;
    let reports = [stage.report().await, stage.report().await];
    let of = |job: &Job| reports.iter().find(|report| report.job == job.id).expect("a report of each");
    let cancelled = of(&jobs[0]);
    assert_eq!((cancelled.state, cancelled.execution), (JobState::Cancelled, Uuid::nil()));
    let why = cancelled.failure.as_ref().map(|failure| failure.message.as_str());
    assert_eq!(why, Some("cancelled: by ann: a test"));
    assert_eq!((of(&jobs[1]).state, runs.load(Ordering::SeqCst)), (JobState::Succeeded, 1));
    stage.drain().await;
}

pub async fn a_running_job_is_cancelled_by_its_own_wish_and_by_its_runs<F: Fixture>() {
    let started = Arc::new(Notify::new());
    let (_fixture, pact, mut stage) = open::<F>(settings(2), endless(&started)).await;
    let (one, mut of_a_run) = (job("endless"), job("endless"));
    let run = Uuid::now_v7();
    of_a_run.run = Some(run);
    stage.publish(std::slice::from_ref(&one)).await;
    started.notified().await;
    let broker = stage.broker.clone();
    pact.mark(&broker, Subject::Cancel(one.id), json!(true)).await;
    let report = stage.report().await;
    assert_eq!((report.job, report.state), (one.id, JobState::Cancelled));
    assert!(report.failure.is_some_and(|failure| failure.message.contains("by ann")));
    stage.publish(&[of_a_run.clone()]).await;
    started.notified().await;
    pact.mark(&broker, Subject::CancelRun(run), json!(true)).await;
    let report = stage.report().await;
    assert_eq!((report.job, report.state), (of_a_run.id, JobState::Cancelled));
    stage.drain().await;
}

pub async fn a_paused_queue_is_left_alone_until_it_is_resumed<F: Fixture>() {
    let turnstile = Turnstile::default();
    let (_fixture, pact, mut stage) = open::<F>(settings(2), turnstile.cast()).await;
    let broker = stage.broker.clone();
    stage.publish(&[job("turn")]).await;
    turnstile.holds(1).await;
    pact.mark(&broker, Subject::Pause(QUEUE.to_owned()), json!(true)).await;
    // What runs goes on; what comes now stays. A consumer that has heard it says so.
    eventually("that it is paused", PATIENCE, async || {
        let alive = pact.state.consumers().await.expect("presence");
        alive.iter().any(|one| one.beat.intake == "paused: stage")
    })
    .await;
    stage.publish(&[job("turn"), job("turn")]).await;
    until_ready(&broker, QUEUE, 2).await;
    turnstile.let_go();
    assert_eq!(stage.report().await.state, JobState::Succeeded);
    assert_eq!(broker.stats(&[QUEUE.to_owned()]).await.expect("stats")[0].ready, 2);
    pact.clear(&broker, Subject::Pause(QUEUE.to_owned())).await;
    turnstile.holds(2).await;
    turnstile.let_go();
    turnstile.let_go();
    for _ in 0..2 {
        assert_eq!(stage.report().await.state, JobState::Succeeded);
    }
    stage.drain().await;
}

pub async fn slots_follow_their_mark_down_and_up<F: Fixture>() {
    let (fixture, pact) = (F::install(false).await, Pact::new().await);
    let broker = fixture.broker();
    let turnstile = Turnstile::default();
    pact.mark(&broker, Subject::Slots("stage".to_owned()), json!(1)).await;
    let mut stage = Stage::agreeing(broker.clone(), settings(3), turnstile.cast(), None, pact.agreed(&broker)).await;
    stage.publish(&(0..9).map(|_| job("turn")).collect::<Vec<_>>()).await;
    turnstile.holds(1).await;
    for _ in 0..2 {
        turnstile.let_go();
        assert_eq!(stage.report().await.state, JobState::Succeeded);
    }
    turnstile.holds(1).await;
    assert_eq!(turnstile.most(), 1);
    // The consumer's own mark counts before its group's.
    pact.mark(&broker, Subject::Slots("c-1".to_owned()), json!(5)).await;
    turnstile.holds(5).await;
    for _ in 0..7 {
        turnstile.let_go();
        assert_eq!(stage.report().await.state, JobState::Succeeded);
    }
    assert_eq!(turnstile.most(), 5);
    stage.drain().await;
}

pub async fn a_drain_mark_ends_the_consumer_and_the_next_one_goes_on<F: Fixture>() {
    let turnstile = Turnstile::default();
    let (_fixture, pact, mut stage) = open::<F>(settings(1), turnstile.cast()).await;
    let broker = stage.broker.clone();
    stage.publish(&[job("turn"), job("turn")]).await;
    turnstile.holds(1).await;
    pact.mark(&broker, Subject::Drain("c-1".to_owned()), json!(true)).await;
    eventually("that it drains", PATIENCE, async || {
        pact.state.consumers().await.expect("presence").iter().any(|one| one.beat.draining)
    })
    .await;
    turnstile.let_go();
    assert_eq!(stage.report().await.state, JobState::Succeeded);
    stage.ended().await;
    assert!(pact.state.consumers().await.expect("presence").is_empty(), "it has left");
    let mut own = settings(1);
    own.origin.consumer = "c-2".to_owned();
    let mut next = Stage::agreeing(broker.clone(), own, turnstile.cast(), None, pact.agreed(&broker)).await;
    turnstile.holds(1).await;
    turnstile.let_go();
    assert_eq!(next.report().await.state, JobState::Succeeded);
    next.drain().await;
}

pub async fn a_limit_holds_over_two_consumers_and_follows_its_mark<F: Fixture>() {
    let turnstile = Turnstile::default();
    let bound = Bound { at_once: Some(2), rate_ms: None };
    let (_fixture, pact, stage) = open::<F>(with_limit(4, "api", bound.clone()), turnstile.cast()).await;
    let broker = stage.broker.clone();
    let mut second = with_limit(4, "api", bound);
    second.origin.consumer = "c-2".to_owned();
    let second = Stage::agreeing(broker.clone(), second, turnstile.cast(), None, pact.agreed(&broker)).await;
    // A key of its own is counted by itself, under the bounds of its name.
    let jobs: Vec<Job> = (0..6).map(|number| limited(&[if number < 4 { "api:blue" } else { "api:red" }])).collect();
    stage.publish(&jobs).await;
    turnstile.holds(4).await;
    pact.mark(&broker, Subject::Limit("api".to_owned()), json!({"at_once": 3})).await;
    turnstile.holds(5).await;
    assert_eq!(turnstile.most(), 5, "three blue ones and two red ones");
    for left in 1..=6 {
        turnstile.let_go();
        turnstile.have_left(left).await;
    }
    assert_eq!(turnstile.most(), 5);
    second.drain().await;
    stage.drain().await;
}

pub async fn a_rate_lets_only_so_many_start<F: Fixture>() {
    let bound = Bound { at_once: None, rate_ms: Some((3, 3_600_000)) };
    let kinds = vec![KindSettings { limits: vec!["mail".to_owned()], ..every_kind() }];
    let own = ConsumerSettings { kinds, ..with_limit(2, "mail", bound) };
    let (_fixture, pact, mut stage) = open::<F>(own, Cast::default().noop()).await;
    let broker = stage.broker.clone();
    stage.publish(&(0..5).map(|_| job("noop")).collect::<Vec<_>>()).await;
    for _ in 0..3 {
        assert_eq!(stage.report().await.state, JobState::Succeeded);
    }
    // The other two come back for as long as it takes.
    pact.mark(&broker, Subject::Limit("mail".to_owned()), json!({"at_once": 5})).await;
    for _ in 0..2 {
        assert_eq!(stage.report().await.state, JobState::Succeeded);
    }
    stage.drain().await;
}

pub async fn a_copy_of_a_claimed_attempt_does_not_run<F: Fixture>() {
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let cast = Cast::default().noop().kind("count", move |_, _| {
        counted.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { Outcome::Succeeded(Json::null()) })
    });
    let (_fixture, pact, mut stage) = open::<F>(settings(1), cast).await;
    let broker = stage.broker.clone();
    let job = job("count");
    let mut copy = message::encode(&job, true);
    copy.properties.headers.insert(header::CLAIM.to_owned(), HeaderValue::Bool(true));
    let batch = vec![must(work(QUEUE), copy.clone()), must(work(QUEUE), copy)];
    for sent in broker.publish(batch).await {
        sent.expect("published");
    }
    let last = super::stage::job("noop");
    stage.publish(std::slice::from_ref(&last)).await;
    let reports = [stage.report().await.job, stage.report().await.job];
    assert_eq!((reports, runs.load(Ordering::SeqCst)), ([job.id, last.id], 1));
    drop(pact);
    stage.drain().await;
}

pub async fn an_at_most_once_job_of_a_lost_consumer_is_lost_and_runs_no_second_time<F: Fixture>() {
    let once = || ConsumerSettings { kinds: vec![KindSettings { at_most_once: true, ..every_kind() }], ..settings(1) };
    let turnstile = Turnstile::default();
    let (mut fixture, pact, stage) = open::<F>(once(), turnstile.cast()).await;
    let mut lost = job("turn");
    lost.unique = Some(Unique { key: "k".to_owned(), until_end: true });
    assert_eq!(taken(&pact, lost.id).await, KeyTaken::Mine);
    let waiting = job("turn");
    stage.publish(&[lost.clone()]).await;
    turnstile.holds(1).await;
    stage.publish(std::slice::from_ref(&waiting)).await;
    let broker = fixture.lose().await;
    let two = ConsumerSettings { slots: 2, ..once() };
    let mut second = Stage::agreeing(broker.clone(), two, turnstile.cast(), None, pact.agreed(&broker)).await;
    let report = second.report().await;
    assert_eq!((report.job, report.state, report.execution), (lost.id, JobState::Lost, Uuid::nil()));
    assert!(report.failure.is_some_and(|failure| failure.message.contains("may have run")));
    // Its neighbour had not started, and runs.
    turnstile.let_go();
    turnstile.let_go();
    let report = second.report().await;
    assert_eq!((report.job, report.state), (waiting.id, JobState::Succeeded));
    key_is_free(&pact).await;
    second.drain().await;
}

pub async fn an_at_most_once_job_that_was_given_up_as_lost_stays_lost_when_it_ends_after_all<F: Fixture>() {
    let once = ConsumerSettings { kinds: vec![KindSettings { at_most_once: true, ..every_kind() }], ..settings(2) };
    let turnstile = Turnstile::default();
    let (_fixture, _pact, mut stage) = open::<F>(once, turnstile.cast().noop()).await;
    let slow = job("turn");
    stage.publish(std::slice::from_ref(&slow)).await;
    turnstile.holds(1).await;
    // What the broker hands out again when a link is lost behind a job that runs on.
    let mut copy = message::encode(&slow, true);
    copy.properties.headers.insert(header::AGAIN.to_owned(), HeaderValue::Bool(true));
    stage.broker.publish(vec![must(work(QUEUE), copy)]).await.remove(0).expect("published");
    let report = stage.report().await;
    assert_eq!((report.job, report.state), (slow.id, JobState::Lost));
    turnstile.let_go();
    for after in [job("noop"), job("noop")] {
        stage.publish(std::slice::from_ref(&after)).await;
        assert_eq!(stage.report().await.job, after.id, "nobody reports a second end");
    }
    stage.drain().await;
}

pub async fn an_at_most_once_job_answers_though_its_claim_was_forgotten<F: Fixture>() {
    let once = ConsumerSettings { kinds: vec![KindSettings { at_most_once: true, ..every_kind() }], ..settings(1) };
    let turnstile = Turnstile::default();
    let (_fixture, pact, mut stage) = open::<F>(once, turnstile.cast()).await;
    let long = job("turn");
    stage.publish(std::slice::from_ref(&long)).await;
    turnstile.holds(1).await;
    let mut store = SqliteConnectOptions::new().filename(&pact.file).connect().await.expect("the store");
    let gone = store.execute("DELETE FROM state_claims").await.expect("deleted");
    assert_eq!(gone.rows_affected(), 1);
    turnstile.let_go();
    let report = stage.report().await;
    assert_eq!((report.job, report.state), (long.id, JobState::Succeeded));
    stage.drain().await;
}

pub async fn an_at_most_once_job_that_comes_back_while_state_is_away_is_lost_and_not_forgotten<F: Fixture>() {
    let pattern = KindPattern::new("turn").expect("a pattern");
    let kind = KindSettings { pattern, at_most_once: true, ..every_kind() };
    let once = || ConsumerSettings { kinds: vec![kind.clone()], ..settings(1) };
    let turnstile = Turnstile::default();
    let (mut fixture, pact, stage) = open::<F>(once(), turnstile.cast()).await;
    let lost = job("turn");
    stage.publish(std::slice::from_ref(&lost)).await;
    turnstile.holds(1).await;
    let broker = fixture.lose().await;
    // This one has no State: it puts the job off, and what the broker then has is another message.
    let mut second = Stage::on(broker.clone(), once(), turnstile.cast().noop(), None).await;
    let after = job("noop");
    second.publish(std::slice::from_ref(&after)).await;
    assert_eq!(second.report().await.job, after.id);
    second.drain().await;
    let mut third = Stage::agreeing(broker.clone(), once(), turnstile.cast(), None, pact.agreed(&broker)).await;
    let report = third.report().await;
    assert_eq!((report.job, report.state), (lost.id, JobState::Lost));
    third.drain().await;
}

async fn taken(pact: &Pact, job: Uuid) -> KeyTaken {
    pact.state.take_key("k", job, Duration::from_secs(600), OnTaken::Keep).await.expect("asked")
}

async fn key_is_free(pact: &Pact) {
    eventually("the key to be free", PATIENCE, async || {
        pact.state.keys(&KeyFilter::default()).await.expect("keys").is_empty()
    })
    .await;
}

pub async fn a_unique_key_is_free_when_its_job_has_ended<F: Fixture>() {
    let (_fixture, pact, mut stage) = open::<F>(settings(1), Cast::default().noop()).await;
    let mut unique = job("noop");
    unique.unique = Some(Unique { key: "k".to_owned(), until_end: true });
    assert_eq!(taken(&pact, unique.id).await, KeyTaken::Mine);
    stage.publish(&[unique.clone()]).await;
    assert_eq!(stage.report().await.job, unique.id);
    key_is_free(&pact).await;
    // One that is kept for its time is not given back.
    let mut kept = job("noop");
    kept.unique = Some(Unique { key: "k".to_owned(), until_end: false });
    assert_eq!(taken(&pact, kept.id).await, KeyTaken::Mine);
    stage.publish(&[kept.clone()]).await;
    assert_eq!(stage.report().await.job, kept.id);
    let other = taken(&pact, Uuid::now_v7()).await;
    assert!(matches!(other, KeyTaken::By { job, .. } if job == kept.id), "{other:?}");
    stage.drain().await;
}

pub async fn without_state_jobs_that_need_it_wait_and_others_go_on<F: Fixture>() {
    let bound = Bound { at_once: Some(1), rate_ms: None };
    let (_fixture, mut stage) = Stage::open::<F>(with_limit(2, "api", bound), Cast::default().noop()).await;
    let mut needs = job("noop");
    needs.limits = vec!["api".to_owned()];
    let others = [job("noop"), job("noop"), job("noop")];
    stage.publish(&[needs.clone()]).await;
    stage.publish(&others).await;
    let mut ended: Vec<Uuid> = Vec::new();
    for _ in 0..3 {
        ended.push(stage.report().await.job);
    }
    assert!(!ended.contains(&needs.id), "it waits");
    stage.drain().await;
}

pub async fn a_consumer_says_what_it_runs_and_leaves<F: Fixture>() {
    let turnstile = Turnstile::default();
    let (_fixture, pact, mut stage) = open::<F>(settings(2), turnstile.cast()).await;
    let job = job("turn");
    stage.publish(std::slice::from_ref(&job)).await;
    turnstile.holds(1).await;
    eventually("the job in its beat", PATIENCE, async || {
        let alive = pact.state.consumers().await.expect("presence");
        alive.iter().any(|one| {
            let beat = &one.beat;
            let running = beat.running.iter().map(|running| (running.job, running.kind.as_str()));
            running.eq([(job.id, "turn")]) && (beat.slots, beat.intake.as_str()) == (2, "taking")
        })
    })
    .await;
    turnstile.let_go();
    assert_eq!(stage.report().await.state, JobState::Succeeded);
    stage.drain().await;
    assert!(pact.state.consumers().await.expect("presence").is_empty());
}
