//! Jobs that go as they should: ends, retries, replies, steps, many at once.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use spinor_consumers::broker::{Address, Broker};
use spinor_executors::{HeaderValue, Job, Json, Outcome, Output, RetryPolicy, State, StepReport, StepState};

use super::stage::{Cast, QUEUE, Stage, job, settings, with_policy};
use crate::conformance::fixture::{Fixture, acked, consume, take};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub async fn a_job_runs_and_its_report_arrives<F: Fixture>() {
    let cast = Cast::default().kind("double", |job, _| {
        Box::pin(async {
            let number: i64 = job.args.read().expect("a number");
            Outcome::Succeeded(Json::of(&(2 * number)).expect("JSON"))
        })
    });
    let (_fixture, mut stage) = Stage::open::<F>(settings(2), cast).await;
    let mut job = job("double");
    job.args = Json::new("21").expect("JSON");
    stage.publish(&[job.clone()]).await;
    let report = stage.report().await;
    assert_eq!((report.job, report.state, report.attempt), (job.id, State::Succeeded, 1));
    assert_eq!(report.value.expect("a value").text(), "42");
    assert_eq!((report.origin.group.as_str(), report.maybe_rerun, report.whole), ("stage", false, None));
    stage.drain().await;
}

pub async fn a_failed_job_is_retried_by_policy_and_then_failed<F: Fixture>() {
    let cast = Cast::default().kind("fails", |_, _| Box::pin(async { Outcome::failed("no such file") }));
    let policy = RetryPolicy::new(1, seconds(1), 1.0, 0.0).expect("a policy");
    let (_fixture, mut stage) = Stage::open::<F>(with_policy(2, Some(policy), None), cast).await;
    stage.publish(&[job("fails")]).await;
    let first = stage.report().await;
    assert_eq!((first.state, first.attempt), (State::Retrying, 1));
    let second = stage.report().await;
    assert_eq!((second.state, second.attempt, second.job), (State::Failed, 2, first.job));
    assert!(second.started >= first.retry_at.expect("when"), "never earlier than asked");
    assert_ne!(first.execution, second.execution);
    stage.drain().await;
}

pub async fn an_asked_retry_comes_back_and_keeps_unknown_headers<F: Fixture>() {
    let cast = Cast::default().kind("busy", |job, _| {
        Box::pin(async {
            assert_eq!(job.headers.get("x-tenant"), Some(&HeaderValue::Text("blue".into())));
            match job.attempt {
                1 => Outcome::Retry { after: Some(seconds(1)), reason: "busy".into() },
                _ => Outcome::Succeeded(Json::null()),
            }
        })
    });
    let (_fixture, mut stage) = Stage::open::<F>(settings(2), cast).await;
    let mut job = job("busy");
    job.headers.insert("x-tenant".into(), HeaderValue::Text("blue".into()));
    stage.publish(&[job]).await;
    assert_eq!(stage.report().await.state, State::Retrying);
    assert_eq!(stage.report().await.state, State::Succeeded);
    stage.drain().await;
}

pub async fn a_discarded_job_is_not_retried<F: Fixture>() {
    let cast = Cast::default().kind("old", |_, _| Box::pin(async { Outcome::Discard { reason: "superseded".into() } }));
    let policy = RetryPolicy::new(5, seconds(1), 1.0, 0.0).expect("a policy");
    let (_fixture, mut stage) = Stage::open::<F>(with_policy(2, Some(policy), None), cast).await;
    stage.publish(&[job("old")]).await;
    let report = stage.report().await;
    assert_eq!((report.state, report.failure.expect("why").message), (State::Discarded, "superseded".to_owned()));
    stage.drain().await;
}

pub async fn a_reply_reaches_the_one_who_asked<F: Fixture>() {
    let (_fixture, stage) = Stage::open::<F>(settings(2), Cast::default().noop()).await;
    // Reply queues have no prefix of the installation, and outlive a test for a while.
    let name = format!("answers-{}", uuid::Uuid::now_v7());
    let mut answers = consume(&stage.broker, Address::Reply(name.clone()), 1).await;
    let mut job = job("noop");
    job.reply_to = Some(name);
    job.correlation_id = Some("mine".into());
    stage.publish(&[job.clone()]).await;
    let reply = take(&mut answers).await;
    assert_eq!(reply.message.properties.correlation_id.as_deref(), Some("mine"));
    let report: serde_json::Value = serde_json::from_slice(&reply.message.body).expect("JSON");
    assert_eq!(
        (report["job"].as_str(), report["state"].as_str()),
        (Some(job.id.to_string().as_str()), Some("succeeded"))
    );
    acked(&stage.broker, reply).await;
    stage.drain().await;
}

pub async fn steps_arrive_before_the_report_of_their_job<F: Fixture>() {
    let cast = Cast::default().kind("steps", |job, context| {
        Box::pin(async {
            for step in 0..200 {
                context.steps(vec![step_report(job.id, step)]).await;
            }
            Outcome::Succeeded(Json::null())
        })
    });
    let (_fixture, mut stage) = Stage::open::<F>(settings(2), cast).await;
    stage.publish(&[job("steps")]).await;
    for step in 0..200 {
        assert_eq!(stage.step_or_report().await.expect("a step before the report").step, step);
    }
    assert_eq!(stage.step_or_report().await.expect_err("the report").state, State::Succeeded);
    stage.drain().await;
}

fn step_report(job: uuid::Uuid, step: u32) -> StepReport {
    StepReport {
        job,
        run: None,
        node: "n".into(),
        step,
        part: 0,
        item: step,
        name: String::new(),
        verb: "RUN".into(),
        state: StepState::Succeeded,
        failure: None,
        exit: None,
        stdout: Output::default(),
        stderr: Output::default(),
        started: Timestamp::now(),
        micros: 1,
    }
}

pub async fn long_jobs_are_each_delivered_once<F: Fixture>() {
    each_is_delivered_once::<F>(|_| None).await;
}

pub async fn long_jobs_in_three_lanes_are_each_delivered_once<F: Fixture>() {
    each_is_delivered_once::<F>(|number| [Some(9), None, Some(0)][number % 3]).await;
}

async fn each_is_delivered_once<F: Fixture>(priority: fn(usize) -> Option<u8>) {
    let starts = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&starts);
    let cast = Cast::default().kind("long", move |_, _| {
        counted.fetch_add(1, Ordering::SeqCst);
        Box::pin(async {
            tokio::time::sleep(seconds(2)).await;
            Outcome::Succeeded(Json::null())
        })
    });
    let (_fixture, mut stage) = Stage::open::<F>(settings(4), cast).await;
    let jobs: Vec<_> = (0..12).map(|number| Job { priority: priority(number), ..job("long") }).collect();
    stage.publish(&jobs).await;
    let mut ended = HashSet::new();
    for _ in 0..12 {
        let report = stage.report().await;
        assert!(!report.maybe_rerun, "nothing waited behind a long job and came again");
        assert!(ended.insert(report.job));
        let ready = stage.broker.stats(&[QUEUE.to_owned()]).await.expect("stats")[0].ready;
        // Credit is one a slot for jobs this long: what has not started stays on the queue.
        assert!(ready as usize + 4 + 4 + ended.len() >= 12, "{ready} ready after {} ended", ended.len());
    }
    assert_eq!(starts.load(Ordering::SeqCst), 12);
    stage.drain().await;
}

pub async fn thousands_of_short_jobs_run_once_each<F: Fixture>() {
    each_runs_once::<F>(|_| None).await;
}

pub async fn thousands_of_short_jobs_in_three_lanes_run_once_each<F: Fixture>() {
    each_runs_once::<F>(|number| u8::try_from(number % 10).ok()).await;
}

async fn each_runs_once<F: Fixture>(priority: fn(usize) -> Option<u8>) {
    let starts = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&starts);
    let cast = Cast::default().kind("short", move |_, _| {
        counted.fetch_add(1, Ordering::Relaxed);
        Box::pin(async { Outcome::Succeeded(Json::null()) })
    });
    let (_fixture, mut stage) = Stage::open::<F>(settings(4), cast).await;
    let jobs: Vec<_> = (0..3000).map(|number| Job { priority: priority(number), ..job("short") }).collect();
    for batch in jobs.chunks(500) {
        stage.publish(batch).await;
    }
    let mut wanted: HashSet<_> = jobs.iter().map(|job| job.id).collect();
    while !wanted.is_empty() {
        let report = stage.report().await;
        assert!(wanted.remove(&report.job), "reported once");
        assert_eq!(report.state, State::Succeeded);
    }
    assert_eq!(starts.load(Ordering::Relaxed), 3000);
    stage.drain().await;
}
