//! What is killed and what stays: an installation on each broker, and the jobs' own file.

use std::{collections::BTreeSet, time::Duration};

use serde_json::json;
use spinor::{api::new_job::NewJob, client::Client};
use spinor_executors::Json;
use sqlx::{ConnectOptions as _, sqlite::SqliteConnectOptions};
use uuid::Uuid;

use super::ledgers::{Ledgers, Line, Recorded};
use crate::support::{
    eventually,
    process::{Process, Spinor},
    site::Site,
    witness,
};

const PATIENCE: Duration = Duration::from_secs(120);
/// A guardian ends what its consumer left within this.
const SOON: Duration = Duration::from_secs(15);
/// More than cores, so that a kill meets jobs at every point of their lives.
const SLOTS: usize = 8;

/// One installation under test.
pub struct Stage {
    spinor: Spinor,
    site: Option<Site>,
    client: Client,
    /// What is killed.
    consumer: Process,
    /// Recorder and API, where they are not in the same process.
    other: Option<Process>,
    accepted: Vec<Uuid>,
    killed: Vec<Uuid>,
    hostages: Vec<Uuid>,
}

impl Stage {
    /// Everything in one process.
    pub async fn embedded() -> Self {
        Self::start(None).await
    }

    /// A consumer on RabbitMQ; recorder and API in another process, the record on MariaDB.
    pub async fn rabbitmq() -> Self {
        Self::start(Some(Site::new().await)).await
    }

    async fn start(site: Option<Site>) -> Self {
        let lines = site.as_ref().map(Site::toml).unwrap_or_default();
        let spinor = Spinor::new(&format!(
            "{lines}data = 'data'\n[log]\nlevel = 'warn'\n[consumer]\nslots = {SLOTS}\nqueues = ['one', 'two']\nkinds = ['command']\n"
        ));
        std::fs::write(spinor.join("ledger"), "").expect("a ledger");
        let other = site.is_some().then(|| spinor.start(&["up", "--only", "recorder,api"]));
        let consumer = start_consumer(&spinor, other.is_some());
        for process in other.iter().chain([&consumer]) {
            process.says("spinor is up", PATIENCE).await;
        }
        let client = Client::unix(spinor.join("data/spinor.sock")).expect("a client");
        let stage = Self { spinor, site, client, consumer, other, accepted: vec![], killed: vec![], hostages: vec![] };
        eventually("the queues to have their consumer", PATIENCE, async || {
            let queues = stage.client.queues().await.unwrap_or_default();
            queues.iter().filter(|queue| queue.stats.consumers > 0).count() >= 2
        })
        .await;
        stage
    }

    /// Publishes so many jobs, each of which writes a line to the ledger and waits until it is on disk.
    pub async fn publish(&mut self, count: usize) {
        let jobs: Vec<NewJob> = (0..count).map(|_| job("one", WRITE)).collect();
        for batch in jobs.chunks(1000) {
            let answer = self.client.publish_batch(batch).await.expect("the batch is answered");
            for item in answer.jobs {
                assert!(item.problem.is_none(), "{:?}", item.problem);
                self.accepted.push(item.id);
            }
        }
    }

    /// How many lines the jobs have written.
    pub fn executed(&self) -> usize {
        let length = std::fs::metadata(self.spinor.join("ledger")).expect("the ledger").len();
        usize::try_from(length).expect("it is small") / Line::LENGTH
    }

    /// Awaits so many of them.
    pub async fn executions(&self, count: usize) {
        eventually("the jobs to be executed", PATIENCE, async || self.executed() >= count).await;
    }

    /// Kills the consumer, with a job of long-lived children in its hands, sees that none of its
    /// children is left, and starts another.
    pub async fn kill_and_restart(&mut self) {
        self.take_hostage().await;
        let boot = self.lines().last().expect("a line").boot;
        assert!(!self.killed.contains(&boot), "the consumer that is killed has run a job");
        let mark = format!("SPINOR_RUN={boot}/");
        assert!(witness::marked(&mark).len() >= 2, "the hostage's two processes are there");
        let children = witness::children(self.consumer.id());
        self.consumer.kill9();
        self.consumer.wait(SOON).await;
        self.killed.push(boot);
        eventually("the killed consumer's jobs to be gone", SOON, async || witness::marked(&mark).is_empty()).await;
        eventually("its guardian to be gone", SOON, async || witness::alive(&children).is_empty()).await;
        self.consumer = start_consumer(&self.spinor, self.other.is_some());
        self.consumer.says("spinor is up", PATIENCE).await;
    }

    /// A job that holds two processes, one of them in a session of its own, until it is killed;
    /// run again it writes its line like the others.
    async fn take_hostage(&mut self) {
        let held = self.spinor.join(format!("held-{}", self.hostages.len()));
        let script =
            format!("if mkdir '{}' 2>/dev/null; then setsid sleep 600 & exec sleep 600; fi; {WRITE}", held.display());
        let accepted = self.client.publish(&job("two", &script)).await.expect("published");
        self.accepted.push(accepted.id);
        self.hostages.push(accepted.id);
        eventually("the hostage to be taken", PATIENCE, async || held.exists()).await;
        let mark = format!("SPINOR_RUN={}/", self.lines().last().expect("a line").boot);
        eventually("its two processes to run", PATIENCE, async || sleepers(&mark) == 2).await;
    }

    /// Awaits the end of all jobs in the record, and reads the ledgers.
    pub async fn settled(&mut self) -> Ledgers {
        let wanted = self.accepted.len();
        eventually("every job to be recorded", PATIENCE, async || {
            let ended = self.jobs().await.iter().filter(|(_, state)| state == "succeeded").count();
            ended >= wanted
        })
        .await;
        // What was delivered again may still run; the queues are empty when it has been answered.
        eventually("the queues to be empty", PATIENCE, async || {
            let queues = self.client.queues().await.unwrap_or_default();
            queues.iter().all(|queue| queue.stats.ready == 0 && queue.stats.unacked.unwrap_or(0) == 0)
        })
        .await;
        Ledgers {
            accepted: self.accepted.clone(),
            lines: self.lines(),
            jobs: self.jobs().await,
            attempts: self.attempts().await,
            killed: self.killed.clone(),
            hostages: self.hostages.clone(),
        }
    }

    /// Ends all in good order; nothing is left on a queue.
    pub async fn end(mut self) {
        self.consumer.terminate();
        assert_eq!(self.consumer.wait(PATIENCE).await.code(), Some(0));
        if let (Some(site), Some(other)) = (&self.site, &mut self.other) {
            eventually("the recorder to have it all", PATIENCE, async || site.ready("results").await == 0).await;
            other.terminate();
            assert_eq!(other.wait(PATIENCE).await.code(), Some(0));
            for queue in ["jobs.one", "jobs.two", "results", "dead"] {
                assert_eq!(site.ready(queue).await, 0, "{queue}");
            }
        }
    }

    /// The ledger, whole lines only.
    fn lines(&self) -> Vec<Line> {
        let text = std::fs::read_to_string(self.spinor.join("ledger")).expect("the ledger");
        let (whole, torn) = text.rsplit_once('\n').unwrap_or_default();
        assert_eq!(torn, "", "a line is torn");
        whole.lines().map(|line| Line::read(line).unwrap_or_else(|| panic!("no line: {line:?}"))).collect()
    }

    async fn jobs(&self) -> Vec<(Uuid, String)> {
        let sql = "SELECT id, state FROM jobs";
        let rows: Vec<(Vec<u8>, String)> = match &self.site {
            Some(site) => sqlx::query_as(sql).fetch_all(&mut site.sql().await).await.expect("the jobs"),
            None => sqlx::query_as(sql).fetch_all(&mut self.sqlite().await).await.expect("the jobs"),
        };
        rows.into_iter().map(|(job, state)| (id(&job), state)).collect()
    }

    async fn attempts(&self) -> Vec<Recorded> {
        let sql = "SELECT job, execution, state, report FROM attempts ORDER BY execution";
        let rows: Vec<(Vec<u8>, Vec<u8>, String, String)> = match &self.site {
            Some(site) => sqlx::query_as(sql).fetch_all(&mut site.sql().await).await.expect("the attempts"),
            None => sqlx::query_as(sql).fetch_all(&mut self.sqlite().await).await.expect("the attempts"),
        };
        let recorded = |(job, execution, state, report): (Vec<u8>, Vec<u8>, String, String)| {
            let report: serde_json::Value = serde_json::from_str(&report).expect("a report is JSON");
            let maybe_rerun = report["maybe_rerun"] == json!(true);
            Recorded { job: id(&job), execution: id(&execution), state, maybe_rerun }
        };
        rows.into_iter().map(recorded).collect()
    }

    async fn sqlite(&self) -> sqlx::SqliteConnection {
        let options = SqliteConnectOptions::new().filename(self.spinor.join("data/results.db")).read_only(true);
        options.connect().await.expect("the record")
    }
}

/// Appends job, consumer and execution to the ledger as one line, and waits until it is on disk.
const WRITE: &str = "echo \"$JOB $SPINOR_RUN\" >> ledger && exec sync -d ledger";

fn job(queue: &str, script: &str) -> NewJob {
    let id = Uuid::now_v7();
    let mut job = NewJob::new("command");
    job.queue = Some(queue.to_owned());
    job.id = Some(id);
    job.args = Some(Json::of(&json!({"shell": script, "env": {"JOB": id.to_string()}})).expect("JSON"));
    job
}

fn start_consumer(spinor: &Spinor, alone: bool) -> Process {
    if alone { spinor.start(&["up", "--only", "consumer", "--data", "consumer"]) } else { spinor.start(&["up"]) }
}

/// How many of the processes with this mark have come as far as to sleep.
fn sleepers(mark: &str) -> usize {
    let sleeps =
        |pid: &u32| std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"sleep\0"));
    witness::marked(mark).into_iter().filter(sleeps).collect::<BTreeSet<_>>().len()
}

fn id(bytes: &[u8]) -> Uuid {
    Uuid::from_slice(bytes).expect("16 bytes")
}
