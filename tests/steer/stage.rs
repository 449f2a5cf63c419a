//! A Spinor without consumers: an API over its socket, the embedded broker, a record, and a store of state.

use std::time::Duration;

use serde_json::Value;
use spinor::{
    api::{Problem, new_job::NewJob},
    client::ClientError,
};
use spinor_consumers::{broker::Broker, state::StateTarget};
use spinor_executors::{Job, Outcome};
use uuid::Uuid;

use crate::support::{eventually, front::Front, scratch::Scratch, servers};

/// How long anything may take before a case fails: a bound against hanging, not a measure.
pub const SOON: Duration = Duration::from_secs(20);

/// Everything behind one API.
pub struct Stage(Front);

impl std::ops::Deref for Stage {
    type Target = Front;

    fn deref(&self) -> &Front {
        &self.0
    }
}

impl Stage {
    pub async fn new() -> Self {
        let scratch = Scratch::new("steer");
        let target = StateTarget::Sqlite(scratch.join("state.db"));
        Self::of(scratch, target).await
    }

    pub async fn with_redis() -> Self {
        let prefix = format!("t{}", Uuid::now_v7().simple());
        let target = StateTarget::Redis { url: servers::redis_url(), prefix, ca_file: None };
        Self::of(Scratch::new("steer"), target).await
    }

    async fn of(scratch: Scratch, target: StateTarget) -> Self {
        Self(Front::start(scratch, "[limits.mail]\nat_once = 3\nrate = '100/1m'\n", target).await)
    }

    /// A job that waits on the queue `default` and is recorded.
    pub async fn queued(&self, job: NewJob) -> Uuid {
        let id = self.client.publish(&job).await.unwrap().id;
        self.client.job(id).await.unwrap();
        id
    }

    /// Takes the next job of `default` and answers it, as a consumer would; returns once that is recorded.
    pub async fn work(&self, outcome: Outcome) -> Job {
        let (job, _) = self.0.work("default", outcome).await;
        eventually("the end to be recorded", SOON, async || !self.results.ended(&[job.id]).await.unwrap().is_empty())
            .await;
        job
    }

    /// A consumer's last beat was so many seconds earlier.
    pub async fn hush(&self, consumer: &str, seconds: i64) {
        use sqlx::Connection as _;
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(self.scratch.join("state.db"));
        let mut tables = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
        let update = sqlx::query("UPDATE state_presence SET at = at - ? WHERE consumer = ?");
        let done = update.bind(seconds * 1_000_000).bind(consumer.as_bytes()).execute(&mut tables).await.unwrap();
        assert_eq!(done.rows_affected(), 1);
        tables.close().await.unwrap();
    }

    /// A path in the data directory.
    pub fn data(&self, name: &str) -> std::path::PathBuf {
        self.scratch.join("data").join(name)
    }

    /// How many jobs wait on `default`.
    pub async fn ready(&self) -> u64 {
        self.broker.stats(&["default".to_owned()]).await.unwrap()[0].ready
    }

    /// A raw request: status and body.
    pub async fn raw(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        self.local(method, path, body.as_bytes()).await
    }

    /// Each request is answered with this status, and with this text in its detail or field.
    pub async fn refuses(&self, table: &[(&str, &str, &str, u16, &str)]) {
        for (method, path, body, expected, part) in table {
            let (status, problem) = self.raw(method, path, body).await;
            assert_eq!(status, *expected, "{method} {path} {body}: {problem}");
            assert!(problem.to_string().contains(part), "{method} {path} {body}: {part:?} not in {problem}");
        }
    }

    pub async fn end(self) {
        self.0.end().await;
    }
}

/// The problem a call was refused with.
pub fn refused<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> Problem {
    match answer {
        Err(ClientError::Refused(problem)) => *problem,
        other => panic!("not refused: {other:?}"),
    }
}
