//! What is sent again: under a key it is answered as before, and a job that has ended is not run again.

use std::time::Duration;

use serde_json::{Value, json};
use spinor::api::new_job::NewJob;
use spinor_executors::{Json, Outcome, State};
use sqlx::{ConnectOptions as _, Executor as _, sqlite::SqliteConnectOptions};
use tokio::net::UnixStream;
use uuid::Uuid;

use super::{Stage, exchange};
use crate::support::eventually;

const SOON: Duration = Duration::from_secs(20);

impl Stage {
    async fn keyed(&self, key: &str, path: &str, body: &Value) -> (u16, Value) {
        let (stream, body) =
            (UnixStream::connect(self.scratch.join("data/spinor.sock")).await.unwrap(), body.to_string());
        let size = body.len();
        let request = format!(
            "POST /api/v1{path} HTTP/1.1\r\nHost: localhost\r\nIdempotency-Key: {key}\r\nContent-Length: {size}\r\n\
             Connection: close\r\n\r\n{body}"
        );
        exchange(stream, request.as_bytes()).await
    }

    async fn ready(&self) -> u64 {
        let rows = self.client.queues().await.unwrap();
        rows.into_iter().find(|row| row.stats.name == "default").unwrap().stats.ready
    }

    /// As if the process that works on what is kept under keys had died in the middle of it.
    async fn forgets_its_answers(&self) {
        let options = SqliteConnectOptions::new().filename(self.scratch.join("data/results.db"));
        let mut connection = options.connect().await.unwrap();
        connection.execute("UPDATE answers SET status = 0, until = 1").await.unwrap();
    }
}

async fn work(stage: &Stage) -> Uuid {
    let job = stage.work("default", Outcome::Succeeded(Json::null())).await.job;
    let waited = stage.client.wait(job, SOON, true).await.unwrap();
    assert!(waited.ended);
    job
}

#[tokio::test]
async fn what_is_sent_again_under_its_key_is_done_once_and_answered_alike() {
    let stage = Stage::new().await;
    let job = json!({"kind": "noop", "args": [1]});
    let first = stage.keyed("a key", "/jobs", &job).await;
    assert_eq!((first.0, stage.ready().await), (201, 1));
    assert_eq!(stage.keyed("a key", "/jobs", &job).await, first);
    let batch = json!([{"kind": "noop"}, {"kind": "noop", "queue": "nowhere"}, {"kind": "noop"}]);
    let (together, more) = tokio::join!(stage.keyed("b", "/jobs", &batch), stage.keyed("b", "/jobs", &batch));
    let many = stage.keyed("b", "/jobs", &batch).await;
    assert_eq!((many.0, stage.ready().await), (207, 3));
    for answer in [together, more] {
        assert!(answer == many || (answer.0, &answer.1["field"]) == (409, &json!("Idempotency-Key")), "{answer:?}");
    }
    for (key, body) in [("a key", json!({"kind": "noop"})), ("a key", batch), ("", job.clone())] {
        let (status, problem) = stage.keyed(key, "/jobs", &body).await;
        assert_eq!((status, &problem["field"]), (422, &json!("Idempotency-Key")), "{problem}");
    }
    assert_eq!(stage.keyed("c", "/jobs", &json!({"kind": 7})).await.1["field"], "kind");
    assert_eq!(stage.keyed("c", "/jobs", &job).await.0, 201, "what was refused may be asked better");
    assert_eq!(stage.ready().await, 4);
    stage.end().await;
}

#[tokio::test]
async fn a_publish_whose_process_died_is_the_same_job_again_and_a_replay_is_not_done_in_the_dark() {
    let stage = Stage::new().await;
    let job = json!([{"kind": "noop"}, {"kind": "noop"}]);
    let (_, first) = stage.keyed("k", "/jobs", &job).await;
    stage.forgets_its_answers().await;
    let (status, again) = stage.keyed("k", "/jobs", &job).await;
    assert_eq!((status, &again), (201, &first), "the same ids");
    let ended = work(&stage).await;
    stage.forgets_its_answers().await;
    // Each of the two was published twice, and one of the four was taken.
    let ready = 3;
    eventually("the others to be ready again", SOON, async || stage.ready().await == ready).await;
    let (_, again) = stage.keyed("k", "/jobs", &job).await;
    assert_eq!(
        (again["jobs"][0]["id"].as_str(), &again["jobs"][0]["existing"]),
        (Some(&*ended.to_string()), &json!(true))
    );
    assert_eq!((&again["jobs"][1], stage.ready().await), (&first["jobs"][1], ready + 1));
    let replay = format!("/jobs/{ended}/replay");
    let replayed = stage.keyed("r", &replay, &json!({})).await;
    assert_eq!((replayed.0, stage.ready().await), (201, ready + 2), "{replayed:?}");
    assert_eq!(stage.keyed("r", &replay, &json!({})).await, replayed);
    stage.forgets_its_answers().await;
    let (status, problem) = stage.keyed("r", &replay, &json!({})).await;
    assert_eq!((status, &problem["field"]), (409, &json!("Idempotency-Key")), "{problem}");
    assert_eq!(stage.ready().await, ready + 2);
    stage.end().await;
}

#[tokio::test]
async fn a_job_that_has_ended_is_not_run_again_when_it_is_published_again() {
    let stage = Stage::new().await;
    let job = NewJob { id: Some(Uuid::now_v7()), ..NewJob::new("noop") };
    let first = stage.client.publish(&job).await.unwrap();
    assert_eq!(work(&stage).await, first.id);
    let again = stage.client.publish(&job).await.unwrap();
    assert_eq!((again.id, again.existing, stage.ready().await), (first.id, true, 0));
    let batch = stage.client.publish_batch(&[NewJob::new("noop"), job.clone(), NewJob::new("noop")]).await.unwrap();
    let existing: Vec<bool> = batch.jobs.iter().map(|job| job.existing).collect();
    assert_eq!((existing, batch.jobs[1].id, stage.ready().await), (vec![false, true, false], first.id, 2));
    let other = json!({"id": first.id, "kind": "sleep"});
    let (status, problem) = stage.local("POST", "/api/v1/jobs", other.to_string().as_bytes()).await;
    assert_eq!((status, &problem["field"], &problem["job"]), (409, &json!("id"), &json!(first.id)));
    assert_eq!(stage.client.job(first.id).await.unwrap().row.state, State::Succeeded);
    stage.end().await;
}
