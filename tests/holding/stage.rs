//! An installation whose consumers are killed, frozen and outlived by their jobs, on each broker,
//! and the file that the jobs themselves write.

use std::{collections::BTreeMap, time::Duration};

use serde_json::json;
use spinor::{api::new_job::NewJob, client::Client};
use spinor_executors::Json;
use sqlx::{ConnectOptions as _, sqlite::SqliteConnectOptions};
use uuid::Uuid;

use crate::support::{
    eventually,
    process::{Process, Spinor},
    site::Site,
};

/// A bound against hanging, no measure.
pub const PATIENCE: Duration = Duration::from_secs(150);

/// Writes a line: the job, and the execution's mark.
pub const WRITE: &str = "echo \"$JOB $SPINOR_RUN\" >> ledger";

/// What the record says of a job's executions.
#[derive(Debug)]
pub struct Row {
    /// The job.
    pub job: Uuid,
    /// `succeeded`, ...
    pub state: String,
    /// Does it say that it may be a second execution?
    pub maybe_rerun: bool,
}

/// The installation.
pub struct Stage {
    /// Its directory.
    pub spinor: Spinor,
    site: Option<Site>,
    client: Client,
    /// Recorder and API, where they are not in the consumer's process.
    other: Option<Process>,
}

impl Stage {
    /// Broker and record in the consumer's own process.
    pub fn embedded(consumer: &str) -> Self {
        Self::new(None, consumer)
    }

    /// On RabbitMQ, the record on MariaDB, recorder and API in a process of their own.
    pub async fn rabbitmq(site: Site, consumer: &str) -> Self {
        let stage = Self::new(Some(site), consumer);
        stage.other.as_ref().expect("another process").says("spinor is up", PATIENCE).await;
        stage
    }

    fn new(site: Option<Site>, consumer: &str) -> Self {
        let lines = site.as_ref().map(Site::toml).unwrap_or_default();
        let spinor = Spinor::new(&format!(
            "{lines}data = 'data'\n[log]\nlevel = 'debug'\n[consumer]\nqueues = ['one']\nkinds = ['command']\n{consumer}\n"
        ));
        std::fs::write(spinor.join("ledger"), "").expect("a ledger");
        let other = site.is_some().then(|| spinor.start(&["up", "--only", "recorder,api"]));
        let client = Client::unix(spinor.join("data/spinor.sock")).expect("a client");
        Self { spinor, site, client, other }
    }

    /// Starts a consumer; on RabbitMQ one of several, by its own directory.
    pub async fn consumer(&self, name: &str) -> Process {
        let process = match self.other {
            Some(_) => self.spinor.start(&["up", "--only", "consumer", "--data", name]),
            None => self.spinor.start(&["up"]),
        };
        process.says("spinor is up", PATIENCE).await;
        process
    }

    /// Publishes jobs that run this script.
    pub async fn publish(&self, count: usize, script: &str) -> Vec<Uuid> {
        let jobs: Vec<NewJob> = (0..count).map(|_| job(script)).collect();
        let answer = self.client.publish_batch(&jobs).await.expect("the batch is answered");
        assert!(answer.jobs.iter().all(|item| item.problem.is_none()), "{:?}", answer.jobs);
        answer.jobs.iter().map(|item| item.id).collect()
    }

    /// The boot of each execution that wrote its line, by job, in order.
    pub fn executions(&self) -> BTreeMap<Uuid, Vec<Uuid>> {
        let text = std::fs::read_to_string(self.spinor.join("ledger")).expect("the ledger");
        let mut all: BTreeMap<Uuid, Vec<Uuid>> = BTreeMap::new();
        for line in text.lines() {
            let (job, mark) = line.split_once(' ').expect("a job and a mark");
            let boot = mark.split('/').next().expect("a boot id");
            all.entry(job.parse().expect("an id")).or_default().push(boot.parse().expect("a boot id"));
        }
        all
    }

    /// How many executions wrote a line for these jobs.
    pub fn executed(&self, jobs: &[Uuid]) -> usize {
        let all = self.executions();
        jobs.iter().map(|job| all.get(job).map_or(0, Vec::len)).sum()
    }

    /// Awaits so many executions of these jobs.
    pub async fn wait_executed(&self, jobs: &[Uuid], count: usize, within: Duration) {
        let what = format!("{count} executions of {} jobs", jobs.len());
        eventually(&what, within, async || self.executed(jobs) >= count).await;
    }

    /// Awaits that so many jobs are in this state in the record.
    pub async fn wait_recorded(&self, state: &str, count: usize) {
        let what = format!("{count} jobs to be {state}");
        eventually(&what, PATIENCE, async || self.states().await.values().filter(|one| *one == state).count() >= count)
            .await;
    }

    /// The jobs of the record with their states.
    pub async fn states(&self) -> BTreeMap<Uuid, String> {
        let rows: Vec<(Vec<u8>, String)> = match &self.site {
            Some(site) => sqlx::query_as("SELECT id, state FROM jobs").fetch_all(&mut site.sql().await).await,
            None => sqlx::query_as("SELECT id, state FROM jobs").fetch_all(&mut self.sqlite().await).await,
        }
        .expect("the jobs");
        rows.into_iter().map(|(id, state)| (Uuid::from_slice(&id).expect("an id"), state)).collect()
    }

    /// The executions of the record.
    pub async fn rows(&self) -> Vec<Row> {
        let sql = "SELECT job, state, report FROM attempts";
        let rows: Vec<(Vec<u8>, String, String)> = match &self.site {
            Some(site) => sqlx::query_as(sql).fetch_all(&mut site.sql().await).await,
            None => sqlx::query_as(sql).fetch_all(&mut self.sqlite().await).await,
        }
        .expect("the attempts");
        let row = |(job, state, report): (Vec<u8>, String, String)| {
            let report: serde_json::Value = serde_json::from_str(&report).expect("a report is JSON");
            Row {
                job: Uuid::from_slice(&job).expect("an id"),
                state,
                maybe_rerun: report["maybe_rerun"] == json!(true),
            }
        };
        rows.into_iter().map(row).collect()
    }

    /// Awaits the one dead letter: its reason.
    pub async fn dead_letter(&self) -> String {
        let sql = "SELECT reason FROM dead";
        let mut reasons: Vec<String> = Vec::new();
        eventually("a dead letter", PATIENCE, async || {
            reasons = match &self.site {
                Some(site) => sqlx::query_scalar(sql).fetch_all(&mut site.sql().await).await,
                None => sqlx::query_scalar(sql).fetch_all(&mut self.sqlite().await).await,
            }
            .expect("the letters");
            !reasons.is_empty()
        })
        .await;
        assert_eq!(reasons.len(), 1, "{reasons:?}");
        reasons.remove(0)
    }

    async fn sqlite(&self) -> sqlx::SqliteConnection {
        let options = SqliteConnectOptions::new().filename(self.spinor.join("data/results.db")).read_only(true);
        options.connect().await.expect("the record")
    }
}

/// Awaits that a consumer has held running jobs so many times.
pub async fn wait_held(process: &Process, count: usize) {
    let what = format!("{count} holds");
    let held = || process.stderr().matches("A running job is held anew").count();
    eventually(&what, PATIENCE, async || held() >= count).await;
}

fn job(script: &str) -> NewJob {
    let id = Uuid::now_v7();
    let mut job = NewJob::new("command");
    job.queue = Some("one".to_owned());
    job.id = Some(id);
    job.args = Some(Json::of(&json!({"shell": script, "env": {"JOB": id.to_string()}})).expect("JSON"));
    job
}
