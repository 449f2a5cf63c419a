//! The one reason why a job is not running.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use spinor::api::{NewLimit, new_job::NewJob};
use spinor_consumers::{
    broker::{Address, Broker},
    state::{Beat, Limit, RunningJob, WaitingJob},
};
use uuid::Uuid;

use super::{consumers::beat, stage::Stage};

/// The reason is this one, and its text has all of these in it.
async fn says(stage: &Stage, id: Uuid, reason: &str, parts: &[&str]) {
    let why = stage.client.why(id).await.unwrap();
    assert_eq!(why.reason, reason, "{}", why.detail);
    for part in parts {
        assert!(why.detail.contains(part), "{part:?} not in {:?}", why.detail);
    }
}

#[tokio::test]
async fn why_says_that_a_job_runs_or_that_nobody_who_is_there_will_take_it() {
    let stage = Stage::new().await;
    let id = stage.queued(NewJob::new("noop")).await;
    // Somebody is on the queue, or the first reason would be that nobody is.
    let address = Address::Work("default".to_owned());
    let subscription = stage.broker.consume(&address, 0).await.unwrap();
    stage.state.beat(&Beat { draining: true, ..beat("g@h-1", "g", 0) }).await.unwrap();
    says(&stage, id, "draining", &[]).await;
    stage.state.beat(&beat("g@h-2", "g", 0)).await.unwrap();
    says(&stage, id, "backlog", &[]).await;
    for name in ["g@h-1", "g@h-2"] {
        stage.state.beat(&Beat { kinds: vec!["image.*".into(), "wait".into()], ..beat(name, "g", 0) }).await.unwrap();
    }
    let served = "`g@h-1` (image.*, wait), `g@h-2` (image.*, wait)";
    says(&stage, id, "kind", &["no consumer of `default` serves the kind `noop`", served]).await;
    let running = vec![RunningJob { job: id, kind: "noop".into(), since: Timestamp::now() }];
    stage.state.beat(&Beat { running, ..beat("g@h-2", "g", 0) }).await.unwrap();
    says(&stage, id, "running", &["g@h-2"]).await;
    drop(subscription);
    stage.end().await;
}

#[tokio::test]
async fn why_tells_until_when_a_job_waits_and_what_a_consumer_that_met_it_said() {
    let stage = Stage::new().await;
    let mut later = NewJob::new("noop");
    later.delay = Some("1h".to_owned());
    let delayed = stage.queued(later).await;
    let due = stage.client.job(delayed).await.unwrap().row.retry_at.expect("it is known when it is due");
    assert!(due > Timestamp::now() + SignedDuration::from_mins(59), "{due}");
    says(&stage, delayed, "delayed", &[&due.to_string()]).await;

    let id = stage.queued(NewJob::new("noop")).await;
    let until = Timestamp::now() + SignedDuration::from_secs(5);
    for (reason, word) in [("blobs", "blobs"), ("doubt", "doubt"), ("of a later version", "holder")] {
        let waiting = vec![WaitingJob { job: id, reason: reason.into(), why: "no answer".into(), until }];
        stage.state.beat(&Beat { waiting, ..beat("g@h-1", "g", 0) }).await.unwrap();
        says(&stage, id, word, &["no answer", "`g@h-1`", &until.to_string()]).await;
    }
    stage.end().await;
}

#[tokio::test]
async fn why_names_the_limit_its_key_who_has_its_places_and_when_the_job_looks_again() {
    for stage in [Stage::new().await, Stage::with_redis().await] {
        let bound = NewLimit { at_once: Some(1), by: Some("ann".to_owned()), ..NewLimit::default() };
        stage.client.set_limit("mail", &bound).await.unwrap();
        let mut job = NewJob::new("noop");
        job.limits = vec!["free".to_owned(), "mail:blue".to_owned()];
        let (first, second) = (stage.queued(job.clone()).await, stage.queued(job).await);
        let limit = Limit { key: "mail:blue".into(), at_once: Some(1), rate: None };
        stage.state.acquire(&[limit], first, Duration::from_secs(60)).await.unwrap();
        // The next beat names who runs it; that it has its place is known before.
        says(&stage, first, "running", &["`mail:blue`"]).await;
        let full = ["the limit `mail` is used up for the key `blue`", "1 at once", "by ann"];
        says(&stage, second, "limit", &full).await;
        says(&stage, second, "limit", &[&format!("by {first}; it looks again within 15 s")]).await;
        let until = Timestamp::now() + SignedDuration::from_secs(5);
        let waiting = vec![WaitingJob { job: second, reason: "limit".into(), why: "mail:blue".into(), until }];
        stage.state.beat(&Beat { waiting, ..beat("g@h-1", "g", 0) }).await.unwrap();
        says(&stage, second, "limit", &[&format!("by {first}; `g@h-1` sent it back, it looks again at {until}")]).await;
        stage.state.release(first).await.unwrap();
        says(&stage, second, "limit", &["was used up", &until.to_string()]).await;
        stage.end().await;
    }
}
