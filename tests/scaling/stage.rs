//! One installation whose group is scaled, the wish, and the jobs' ledger.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::json;
use spinor::{
    api::new_job::NewJob,
    client::Client,
    scaling::{GroupState, ReplicaPhase},
};
use spinor_consumers::state::{State, StateTarget, Subject};
use spinor_executors::Json;
use sqlx::{ConnectOptions as _, sqlite::SqliteConnectOptions};
use uuid::Uuid;

use crate::support::{
    eventually, eventually_some,
    process::{Process, Spinor},
    site::Site,
    witness::{self, Child},
};

/// A bound against hanging, no measure.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Published at a time.
pub const MORE: usize = 200;

/// So many jobs runs each replica at once.
pub const SLOTS: usize = 2;

/// An installation, its `up`, and what was asked of it.
pub struct Stage {
    pub spinor: Spinor,
    pub site: Option<Site>,
    pub up: Process,
    pub accepted: Vec<Uuid>,
    flags: Vec<String>,
}

/// One line of the ledger: a job, the life of the process that ran it, the execution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub job: Uuid,
    pub boot: Uuid,
}

impl Stage {
    /// On RabbitMQ, with more lines of configuration.
    pub async fn rabbitmq(more: &str) -> Self {
        Self::start(Some(Site::new().await), more, &[]).await
    }

    /// In one process.
    pub async fn embedded() -> Self {
        Self::start(None, "", &[]).await
    }

    pub async fn start(site: Option<Site>, more: &str, flags: &[&str]) -> Self {
        Self::start_in(installation(site.as_ref(), more), site, flags).await
    }

    /// In an installation that something was added to.
    pub async fn start_in(spinor: Spinor, site: Option<Site>, flags: &[&str]) -> Self {
        let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let up = start(&spinor, &flags).await;
        Self { spinor, site, up, accepted: Vec::new(), flags }
    }

    /// Starts `up` again, after its end.
    pub async fn start_again(&mut self) {
        self.up = start(&self.spinor, &self.flags).await;
    }

    pub fn client(&self) -> Client {
        Client::unix(self.spinor.join("data/spinor.sock")).expect("a client")
    }

    /// State, beside the product.
    pub async fn state(&self) -> State {
        let target = match &self.site {
            Some(site) => StateTarget::MySql(site.results.clone()),
            None => StateTarget::Sqlite(self.spinor.join("data/state.db")),
        };
        State::open(&target).await.expect("state opens")
    }

    /// Wants so many.
    pub async fn want(&self, replicas: u32) {
        let subject = Subject::Replicas("default".to_owned());
        let state = self.state().await;
        state.set_mark(&subject, json!(replicas), "ann", Some("a test")).await.expect("a mark");
        state.close().await;
    }

    /// Says the same as people do.
    pub async fn scale(&self, replicas: u32) {
        let number = replicas.to_string();
        let command = ["consumers", "scale", "default", "--replicas", &number, "--why", "a test"];
        self.spinor.run(&command).await.expect_success();
    }

    /// Tells one consumer to drain.
    pub async fn drain(&self, consumer: &str) {
        let state = self.state().await;
        let subject = Subject::Drain(consumer.to_owned());
        state.set_mark(&subject, json!(true), "ann", None).await.expect("a mark");
        state.close().await;
    }

    /// What the supervisor knows.
    pub async fn group(&self) -> Option<GroupState> {
        self.client().status().await.ok()?.groups.into_iter().next()
    }

    /// Awaits a look of the group.
    pub async fn group_with(&self, what: &str, look: impl Fn(&GroupState) -> bool) -> GroupState {
        eventually_some(what, PATIENCE, async || self.group().await.filter(|group| look(group))).await
    }

    /// Awaits that so many run, and nothing else is there.
    pub async fn replicas(&self, count: u32) -> GroupState {
        self.group_with(&format!("{count} replicas"), |group| {
            group.running == count && group.replicas.len() == count as usize
        })
        .await
    }

    /// Awaits that so many run, and publishes as long as more do: there is always work left.
    pub async fn scaled_under_load(&mut self, count: u32) -> GroupState {
        loop {
            self.publish(MORE).await;
            if let Some(group) = self.group().await.filter(|group| group.replicas.len() == count as usize) {
                return group;
            }
            // Not faster than they run: what waits stays a few hundred.
            let rest = self.accepted.len() - MORE;
            eventually("jobs to run", PATIENCE, async || self.lines().len() >= rest).await;
        }
    }

    /// The processes that `up` started as replicas.
    pub fn children(&self) -> BTreeSet<Child> {
        let is_replica = |(pid, _): &Child| {
            std::fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.split(|byte| *byte == 0).any(|word| word == b"--replica"))
        };
        witness::children(self.up.id()).into_iter().filter(is_replica).collect()
    }

    /// Publishes jobs that write a line and end.
    pub async fn publish(&mut self, count: usize) {
        self.publish_script("true", count).await;
    }

    /// Publishes jobs that write a line and end when the file `release` is there.
    pub async fn publish_held(&mut self, count: usize) {
        self.publish_script("while ! test -e release; do sleep 0.05; done", count).await;
    }

    async fn publish_script(&mut self, script: &str, count: usize) {
        let jobs: Vec<NewJob> = (0..count).map(|_| job(script)).collect();
        for batch in jobs.chunks(500) {
            let answer = self.client().publish_batch(batch).await.expect("the batch is answered");
            for item in answer.jobs {
                assert!(item.problem.is_none(), "{:?}", item.problem);
                self.accepted.push(item.id);
            }
        }
    }

    /// Lets the held jobs end.
    pub fn release(&self) {
        std::fs::write(self.spinor.join("release"), "").expect("a file");
    }

    /// The whole lines of the ledger.
    pub fn lines(&self) -> Vec<Line> {
        let text = std::fs::read_to_string(self.spinor.join("ledger")).expect("the ledger");
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let read = |line: &str| {
            let (job, run) = line.split_once(' ').expect("two words");
            let (boot, _) = run.split_once('/').expect("a boot and an execution");
            Line { job: job.parse().expect("an id"), boot: boot.parse().expect("an id") }
        };
        whole.lines().map(read).collect()
    }

    /// How often each job wrote its line.
    pub fn executions(&self) -> BTreeMap<Uuid, usize> {
        let mut count = BTreeMap::new();
        self.lines().into_iter().for_each(|line| *count.entry(line.job).or_default() += 1);
        count
    }

    /// The lives that have written.
    pub fn boots(&self) -> BTreeSet<Uuid> {
        self.lines().into_iter().map(|line| line.boot).collect()
    }

    /// Awaits the end of all jobs in the record.
    pub async fn settled(&self) {
        let wanted = self.accepted.len();
        eventually(&format!("{wanted} jobs to be recorded"), PATIENCE, async || {
            self.rows("SELECT id FROM jobs WHERE state = 'succeeded'").await.len() >= wanted
        })
        .await;
    }

    /// The record, where it is a file.
    pub async fn sqlite(&self) -> sqlx::SqliteConnection {
        let options = SqliteConnectOptions::new().filename(self.spinor.join("data/results.db")).read_only(true);
        options.connect().await.expect("the record")
    }

    /// The ids that a question finds in the record.
    pub async fn rows(&self, sql: &'static str) -> Vec<Uuid> {
        let rows: Vec<Vec<u8>> = match &self.site {
            Some(site) => sqlx::query_scalar(sql).fetch_all(&mut site.sql().await).await.expect("the record"),
            None => sqlx::query_scalar(sql).fetch_all(&mut self.sqlite().await).await.expect("the record"),
        };
        rows.iter().map(|id| Uuid::from_slice(id).expect("16 bytes")).collect()
    }

    /// Nothing lost, nothing twice: by the jobs' own ledger, and by the record.
    pub async fn assert_each_ran_once(&self) {
        self.settled().await;
        let executions = self.executions();
        let lost = self.accepted.iter().filter(|job| !executions.contains_key(job)).count();
        let twice = executions.values().filter(|count| **count > 1).count();
        assert_eq!((lost, twice), (0, 0), "of {}: lost and run twice", self.accepted.len());
        assert_eq!(self.rows("SELECT job FROM attempts").await.len(), self.accepted.len(), "executions in the record");
    }

    /// Ends `up` in good order: its replicas with it.
    pub async fn drained(&mut self) {
        let children = self.children();
        self.up.terminate();
        assert_eq!(self.up.wait(PATIENCE).await.code(), Some(0), "{}", self.up.stderr());
        assert_eq!(witness::alive(&children), BTreeSet::new(), "it waits for its replicas");
    }
}

/// How many of the replicas are in this phase.
pub fn count(group: &GroupState, phase: ReplicaPhase) -> usize {
    group.replicas.iter().filter(|replica| replica.phase == phase).count()
}

/// Nothing runs yet; `more` is configuration.
pub fn installation(site: Option<&Site>, more: &str) -> Spinor {
    let lines = site.map(Site::toml).unwrap_or_default();
    let spinor = Spinor::new(&format!(
        "{lines}data = 'data'\n{more}\n[consumer]\nslots = {SLOTS}\nqueues = ['one']\nkinds = ['command']\ngrace = '30s'\n"
    ));
    std::fs::write(spinor.join("ledger"), "").expect("a ledger");
    spinor
}

async fn start(spinor: &Spinor, flags: &[String]) -> Process {
    let flags: Vec<&str> = ["up"].into_iter().chain(flags.iter().map(String::as_str)).collect();
    let up = spinor.start(&flags);
    up.says("spinor is up", PATIENCE).await;
    up
}

fn job(script: &str) -> NewJob {
    let id = Uuid::now_v7();
    let mut job = NewJob::new("command");
    job.queue = Some("one".to_owned());
    job.id = Some(id);
    let script = format!("echo \"$JOB $SPINOR_RUN\" >> ledger; {script}");
    job.args = Some(Json::of(&json!({"shell": script, "env": {"JOB": id.to_string()}})).expect("JSON"));
    job
}
