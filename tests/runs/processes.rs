//! The real processes, killed in the middle of runs at moments drawn from a seed, and without a recorder.
//!
//! `dag` says what must be true then. `make soak` goes through 30 seeds for each policy on each broker.

use std::{collections::BTreeMap, time::Duration};

use spinor::client::Client;
use spinor_consumers::{next::OnFailure, results::RunRecord};
use uuid::Uuid;

use super::dag::{self, Line, Seen};
use crate::{
    recorder::entries::Draw,
    support::{
        eventually, eventually_some,
        process::{Process, Spinor},
        site::Site,
        soak,
    },
};

const PATIENCE: Duration = Duration::from_secs(90);

/// An installation, with what it runs in.
struct Stage {
    spinor: Spinor,
    client: Client,
    site: Option<Site>,
    processes: BTreeMap<&'static str, Process>,
}

impl Stage {
    /// Of these parts, each in a process of its own; embedded there is one with all.
    async fn new(site: Option<Site>, parts: &[&'static str]) -> Self {
        let lines = site.as_ref().map(Site::toml).unwrap_or_default();
        let spinor = Spinor::new("");
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/runs/member.py");
        let config = format!(
            "{lines}data = 'data'\n[log]\nlevel = 'warn'\n[consumer]\nslots = 4\nqueues = ['one']\nkinds = ['*']\n\
             [kinds.'*']\nrun = ['python3', '{program}', {:?}]\n",
            spinor.join("ledger")
        );
        std::fs::write(spinor.join("spinor.toml"), config).expect("a configuration");
        for file in ["ledger", "ledger.broken"] {
            std::fs::write(spinor.join(file), "").expect("a file");
        }
        let client = Client::unix(spinor.join("data/spinor.sock")).expect("a client");
        let mut stage = Self { spinor, client, site, processes: BTreeMap::new() };
        for part in parts {
            stage.launch(part);
        }
        stage.all_up().await;
        stage
    }

    fn launch(&mut self, part: &'static str) {
        let process = match part {
            "all" => self.spinor.start(&["up"]),
            "api" => self.spinor.start(&["up", "--only", "api"]),
            _ => self.spinor.start(&["up", "--only", part, "--data", part]),
        };
        self.processes.insert(part, process);
    }

    async fn all_up(&self) {
        for process in self.processes.values() {
            process.says("spinor is up", PATIENCE).await;
        }
    }

    /// Kills it and starts another, which need not be up before the next one is killed.
    async fn kill(&mut self, part: &'static str) {
        let mut process = self.processes.remove(part).expect("it runs");
        process.kill9();
        process.wait(PATIENCE).await;
        self.launch(part);
    }

    /// What the members of this run wrote, whole lines only.
    fn ledger(&self, run: Uuid) -> Vec<Line> {
        let text = std::fs::read_to_string(self.spinor.join("ledger")).expect("the ledger");
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(Line::read).filter(|line| line.run == run).collect()
    }

    async fn starts(&self, run: Uuid, count: usize) {
        let starts = || self.ledger(run).iter().filter(|line| line.starts()).count();
        eventually("the members to be executed", PATIENCE, async || starts() >= count).await;
    }

    async fn publish(&self, on_failure: OnFailure) -> Uuid {
        self.client.publish_run(&dag::run(on_failure)).await.expect("published").run
    }

    /// Kills each of these once, in a drawn order at drawn moments of the run's life.
    async fn disturb(&mut self, run: Uuid, parts: &[&'static str], on_failure: OnFailure, draw: &mut Draw) {
        let mut parts = parts.to_vec();
        draw.shuffle(&mut parts);
        let mut moments: Vec<usize> = parts.iter().map(|_| 1 + draw.below(dag::least_starts(on_failure))).collect();
        moments.sort_unstable();
        for (part, moment) in parts.into_iter().zip(moments) {
            self.starts(run, moment).await;
            // A member takes 40 ms: anywhere in its life, and in what follows it.
            tokio::time::sleep(Duration::from_micros(draw.below(50_000) as u64)).await;
            self.kill(part).await;
        }
        self.all_up().await;
    }

    /// The run once its end is on record, and nothing of it is on its way any more.
    async fn ended(&self, run: Uuid, replay: u32) -> RunRecord {
        let record = eventually_some("the run to be on record with its end", PATIENCE, async || {
            let record = self.client.run(run).await.ok()?;
            (record.row.ended.is_some() && record.row.replay == replay).then_some(record)
        })
        .await;
        eventually("the queues to be empty", PATIENCE, async || {
            let queues = self.client.queues().await.unwrap_or_default();
            let is_empty = queues.iter().all(|queue| queue.stats.ready == 0 && queue.stats.unacked.unwrap_or(0) == 0);
            let ready = match &self.site {
                Some(site) => site.ready("next").await + site.ready("results").await,
                None => 0,
            };
            !queues.is_empty() && is_empty && ready == 0
        })
        .await;
        record
    }

    /// Compares ledger and record.
    async fn judge(&self, seed: u64, policy: OnFailure, run: Uuid) {
        let record = self.ended(run, 0).await;
        let mut seen = Seen { policy, lines: self.ledger(run), record: &record, marked: [].into() };
        for row in seen.executed_again() {
            let job = self.client.job(row.job).await.expect("a member that ran is on record");
            if job.attempts.iter().any(|attempt| attempt.report.maybe_rerun) {
                seen.marked.insert(row.job);
            }
        }
        let problems = seen.problems();
        assert!(problems.is_empty(), "seed {seed:#x}, {policy:?}: {problems:#?}");
        for (fault, word) in seen.faults() {
            let problems = fault.problems();
            assert!(problems.iter().any(|problem| problem.contains(word)), "{word:?} was not found: {problems:?}");
        }
        let again = seen.executed_again().len();
        println!("seed {seed:#x}, {policy:?}: {} lines, {again} members executed again", seen.lines.len());
    }

    /// Both who tell how it is tell this.
    async fn says(&self, what: &str) {
        for command in ["status", "doctor"] {
            let told = self.spinor.run(&[command]).await.expect_success().stdout;
            assert!(told.contains(what), "{command}: {told}");
        }
    }

    async fn end(mut self) {
        for process in self.processes.values() {
            process.terminate();
        }
        for (part, process) in &mut self.processes {
            assert_eq!(process.wait(PATIENCE).await.code(), Some(0), "{part}: {}", process.stderr());
        }
    }
}

const POLICIES: [OnFailure; 3] = [OnFailure::Stop, OnFailure::GoOn, OnFailure::Compensate];

/// Each policy with each seed.
async fn disturbed(stage: &mut Stage, parts: &[&'static str], first: u64) {
    for seed in (0..soak::or(1, 30)).map(|seed| first + seed * 0x1_0000) {
        for policy in POLICIES {
            let mut draw = Draw::new(seed ^ (policy as u64) << 8);
            let run = stage.publish(policy).await;
            stage.disturb(run, parts, policy, &mut draw).await;
            stage.judge(seed, policy, run).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_whose_one_process_is_killed_ends_as_its_policy_says_and_fires_nothing_twice() {
    let mut stage = Stage::new(None, &["all"]).await;
    disturbed(&mut stage, &["all", "all"], 0xDA60_0001).await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_whose_consumer_trigger_and_recorder_are_killed_ends_as_its_policy_says_and_fires_nothing_twice() {
    let mut stage = Stage::new(Some(Site::new().await), &["api", "trigger", "consumer", "recorder"]).await;
    disturbed(&mut stage, &["consumer", "trigger", "recorder"], 0xDA60_0002).await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_without_a_recorder_goes_on_to_its_end_and_ten_retries_of_a_fan_in_fire_its_completion_once() {
    let mut stage = Stage::new(Some(Site::new().await), &["api", "consumer"]).await;
    let run = stage.publish(OnFailure::Compensate).await;
    stage.says("no trigger is alive: runs do not go on, and 1 message waits").await;
    stage.launch("trigger");
    // Only the ledger can tell.
    let ended = || stage.ledger(run).iter().any(|line| line.is_end_of("finally"));
    eventually("the run to end without a recorder", PATIENCE, async || ended()).await;
    stage.says("no recorder is alive: nothing is recorded").await;
    stage.launch("recorder");
    stage.judge(0, OnFailure::Compensate, run).await;

    // What failed does not fail any more, and the run goes on; then one that fans in is started anew by hand.
    std::fs::remove_file(stage.spinor.join("ledger.broken")).expect("it is mended");
    let before = stage.ledger(run).len();
    stage.client.retry_run(run, &Default::default()).await.expect("it is retried");
    let record = stage.ended(run, 1).await;
    assert_eq!(record.row.succeeded, Some(true), "{record:?}");
    assert!(record.member_list.iter().all(|row| row.state == "succeeded" || row.name.starts_with("compensate")));
    let fan_in = record.member_list.iter().find(|row| row.name == "m23").expect("a member").job;
    for _ in 0..10 {
        // The record may hear of its end after the run has.
        let mut replayed = stage.client.replay(fan_in, &Default::default()).await;
        eventually("it to be started anew", PATIENCE, async || {
            if replayed.is_err() {
                replayed = stage.client.replay(fan_in, &Default::default()).await;
            }
            replayed.is_ok()
        })
        .await;
        let replayed = replayed.expect("it is started anew");
        eventually("the replay to be a member's", PATIENCE, async || {
            let record = stage.client.run(run).await.expect("on record");
            record.member_list.iter().any(|row| row.job == fan_in && row.replay == replayed.replay)
        })
        .await;
    }
    stage.ended(run, 1).await;
    let lines = stage.ledger(run).split_off(before);
    let count = |name: &str| lines.iter().filter(|line| line.is_end_of(name)).count();
    let names = ["m23", "m33", "m30", "m49", "then", "finally"];
    assert_eq!(names.map(count), [11, 1, 1, 1, 1, 1], "those that need it, and what follows all");
    stage.end().await;
}
