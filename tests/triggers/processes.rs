//! The real processes, killed, frozen and thawed, with a trigger each second.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;

use super::ledger::{self, Line};
use crate::support::{
    eventually, eventually_some,
    process::{Process, Spinor},
    site::Site,
    soak,
};

const PATIENCE: Duration = Duration::from_secs(120);

/// An installation with a trigger, and the processes in it.
struct Stage {
    spinor: Spinor,
    processes: BTreeMap<String, Process>,
    _site: Option<Site>,
}

impl Stage {
    async fn new(site: Option<Site>, fault: Option<&str>) -> Self {
        let lines = site.as_ref().map(Site::toml).unwrap_or_default();
        let trigger = "[triggers.beat]\ncron = '* * * * * *'\nmisfire = 'all'\noverlap = 'allow'\n";
        let mut spinor = Spinor::new("");
        let job = ledger::JOB.replace("PATH", &spinor.join("ledger").display().to_string());
        let config = format!(
            "{lines}data = 'data'\n[log]\nlevel = 'info'\n[consumer]\nslots = 4\nqueues = ['one']\nkinds = ['command']\n{trigger}{job}\n"
        );
        std::fs::write(spinor.join("spinor.toml"), config).expect("a configuration");
        if let Some(fault) = fault {
            spinor.set("PLANTED_FAULT", fault);
        }
        Self { spinor, processes: BTreeMap::new(), _site: site }
    }

    async fn start(&mut self, name: &str, parts: &[&str]) {
        let process = self.spinor.start(&[&["up", "--data", name], parts].concat());
        process.says("spinor is up", PATIENCE).await;
        self.processes.insert(name.to_owned(), process);
    }

    async fn kill_and_restart(&mut self, name: &str, parts: &[&str]) {
        let mut process = self.processes.remove(name).expect("it runs");
        process.kill9();
        process.wait(PATIENCE).await;
        self.start(name, parts).await;
    }

    async fn ask(&self, command: &[&str]) -> Value {
        let done = self.spinor.run(&[command, &["--json"]].concat()).await.expect_success();
        serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {}", done.stdout))
    }

    /// Awaits more executions than there are.
    async fn goes_on(&self, more: usize) {
        let count = ledger::read(&self.spinor).len() + more;
        eventually("more jobs of the trigger to be executed", PATIENCE, async || {
            ledger::read(&self.spinor).len() >= count
        })
        .await;
    }

    /// Who leads in an epoch later than this, by the name of the process.
    async fn leader(&self, after: u64) -> (String, u64) {
        eventually_some("somebody else to fire the trigger", PATIENCE, async || {
            let leader = self.ask(&["triggers", "ls"]).await["leader"].clone();
            let epoch = leader["epoch"].as_u64().filter(|epoch| *epoch > after)?;
            let pid = leader["who"].as_str()?.rsplit(':').next()?.parse::<u32>().ok()?;
            let (name, _) = self.processes.iter().find(|(_, process)| process.id() == pid)?;
            Some((name.clone(), epoch))
        })
        .await
    }

    async fn ticks(&self) -> Vec<Value> {
        self.ask(&["triggers", "show", "beat", "--limit", "1000"]).await["ticks"].as_array().expect("ticks").clone()
    }

    /// Pauses the trigger, awaits the end of all it fired, and tells what is wrong.
    async fn settle(&self) -> Vec<String> {
        self.ask(&["triggers", "pause", "beat"]).await;
        let mut ticks = Vec::new();
        eventually("every instant to have ended", PATIENCE, async || {
            ticks = self.ticks().await;
            ticks.iter().all(|tick| tick["ended"].is_string())
        })
        .await;
        assert!(ticks.iter().all(|tick| tick["state"] == "succeeded"), "{ticks:#?}");
        let ledger: Vec<Line> = ledger::read(&self.spinor);
        let mut again = Vec::new();
        for line in &ledger {
            if ledger.iter().filter(|other| other.job == line.job).count() > 1 {
                let job = self.ask(&["jobs", "show", &line.job]).await;
                let marked =
                    job["attempts"].as_array().is_some_and(|all| all.iter().any(|one| one["maybe_rerun"] == true));
                again.extend(marked.then(|| line.job.clone()));
            }
        }
        // A leader that is killed takes its history with it only as far as it goes back.
        assert!(ticks.len() <= ledger.len(), "{} instants, {} executions", ticks.len(), ledger.len());
        ledger::problems(&ticks, &ledger, |job| again.iter().any(|again| again == job))
    }
}

const TRIGGER: [&str; 2] = ["--only", "trigger"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_three_trigger_processes_whose_leader_is_killed_and_frozen_each_instant_is_fired_once() {
    let mut stage = Stage::new(Some(Site::new().await), None).await;
    stage.start("data", &["--only", "api,consumer,recorder"]).await;
    for name in ["one", "two", "three"] {
        stage.start(name, &TRIGGER).await;
    }
    let (mut name, mut epoch) = stage.leader(0).await;
    stage.goes_on(2).await;
    for round in 0..soak::or(2, 15) {
        stage.kill_and_restart(&name, &TRIGGER).await;
        (name, epoch) = stage.leader(epoch).await;
        stage.goes_on(soak::or(2, 12)).await;
        if round == 0 || soak::is() {
            stage.processes[&name].freeze();
            let frozen = name.clone();
            (name, epoch) = stage.leader(epoch).await;
            stage.goes_on(1).await;
            stage.processes[&frozen].thaw();
            stage.goes_on(2).await;
        }
    }
    let problems = stage.settle().await;
    assert!(problems.is_empty(), "{problems:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_one_embedded_process_is_killed_and_restarted_and_each_instant_is_fired_once() {
    let mut stage = Stage::new(None, None).await;
    stage.start("data", &[]).await;
    stage.goes_on(1).await;
    for _ in 0..soak::or(2, 15) {
        stage.kill_and_restart("data", &[]).await;
        stage.goes_on(soak::or(2, 20)).await;
    }
    let problems = stage.settle().await;
    assert!(problems.is_empty(), "{problems:#?}");
}

/// A check that cannot fail proves nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instant_that_is_fired_twice_and_one_that_is_lost_are_found() {
    for (fault, told) in [("double-tick", "ran 2 times"), ("lost-tick", "executed were {}")] {
        let mut stage = Stage::new(None, Some(fault)).await;
        stage.start("data", &[]).await;
        // Every third second is struck.
        stage.goes_on(5).await;
        let (ticks, ledger) = (stage.ticks().await, ledger::read(&stage.spinor));
        let problems = ledger::problems(&ticks, &ledger, |_| false);
        assert!(problems.iter().any(|problem| problem.contains(told)), "{fault}: {problems:#?}");
    }
}
