//! The real processes, killed, frozen and thawed, with a trigger each second.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
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
    /// Whose clock is ahead, and what puts it there.
    ahead: Option<(String, PathBuf)>,
    _site: Option<Site>,
}

impl Stage {
    async fn new(site: Option<Site>, fault: Option<&str>) -> Self {
        Self::with(site, fault, "cron = '* * * * * *'\nmisfire = 'all'\noverlap = 'allow'").await
    }

    /// With a trigger `beat` of these lines.
    async fn with(site: Option<Site>, fault: Option<&str>, when: &str) -> Self {
        let lines = site.as_ref().map(Site::toml).unwrap_or_default();
        let trigger = format!("[triggers.beat]\n{when}\n");
        let mut spinor = Spinor::new("");
        let job = ledger::JOB.replace("PATH", &spinor.join("ledger").display().to_string());
        let config = format!(
            "{lines}data = 'data'\n[log]\nlevel = 'info'\n[consumer]\nslots = 4\nqueues = ['one']\nkinds = ['command']\n{trigger}{job}\n"
        );
        std::fs::write(spinor.join("spinor.toml"), config).expect("a configuration");
        if let Some(fault) = fault {
            spinor.set("PLANTED_FAULT", fault);
        }
        Self { spinor, processes: BTreeMap::new(), ahead: None, _site: site }
    }

    async fn start(&mut self, name: &str, parts: &[&str]) {
        let up = [&["up", "--data", name], parts].concat();
        let process = match self.ahead.as_ref().filter(|(of, _)| of == name) {
            None => self.spinor.start(&up),
            Some((_, library)) => {
                let preload = format!("LD_PRELOAD={}", library.display());
                self.spinor.start_program("env", &[&[preload.as_str(), env!("CARGO_BIN_EXE_spinor")], &up[..]].concat())
            }
        };
        process.says("spinor is up", PATIENCE).await;
        self.processes.insert(name.to_owned(), process);
    }

    /// The clock of this process is two minutes ahead, from its next start on.
    fn put_ahead(&mut self, name: &str) {
        let library = self.spinor.join("ahead.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/triggers/ahead.c");
        let mut compiler = std::process::Command::new("cc");
        let done = compiler.args(["-shared", "-fPIC", "-o"]).args([&library, &source]).args(["-ldl"]).status();
        assert!(done.expect("a C compiler").success());
        self.ahead = Some((name.to_owned(), library));
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
async fn of_three_trigger_processes_whose_leader_is_killed_frozen_and_two_minutes_ahead_each_instant_is_fired_once() {
    let mut stage = Stage::new(Some(Site::new().await), None).await;
    stage.start("data", &["--only", "api,consumer,recorder"]).await;
    stage.put_ahead("one");
    stage.start("one", &TRIGGER).await;
    let (mut name, mut epoch) = stage.leader(0).await;
    let log = format!("{}{}", stage.processes["one"].stdout(), stage.processes["one"].stderr());
    let said = log.split(['"', ' ']).find_map(|word| word.parse::<Timestamp>().ok()).expect("a time in its log");
    assert!(said > Timestamp::now() + SignedDuration::from_secs(60), "its clock is not ahead: {log}");
    for name in ["two", "three"] {
        stage.start(name, &TRIGGER).await;
    }
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interval_from_the_last_end_goes_on_with_no_recorder_when_its_consumer_and_its_trigger_are_killed() {
    const CONSUMER: [&str; 2] = ["--only", "api,consumer"];
    let mut stage = Stage::with(Some(Site::new().await), None, "every = '1s'\nfrom = 'last-end'").await;
    stage.start("data", &CONSUMER).await;
    stage.start("one", &TRIGGER).await;
    stage.goes_on(1).await;
    stage.kill_and_restart("data", &CONSUMER).await;
    stage.kill_and_restart("one", &TRIGGER).await;
    stage.goes_on(2).await;
    stage.ask(&["triggers", "pause", "beat"]).await;
    let mut ticks = Vec::new();
    eventually("every instant to have ended", PATIENCE, async || {
        ticks = stage.ticks().await;
        ticks.iter().all(|tick| tick["ended"].is_string())
    })
    .await;
    let moment = |text: &Value| text.as_str().map(|text| text.parse::<Timestamp>().expect("a moment"));
    // The newest first.
    for pair in ticks.windows(2) {
        let (next, ended) = (moment(&pair[0]["instant"]), moment(&pair[1]["ended"]));
        let counted = next.zip(ended).map(|(next, ended)| next.duration_since(ended));
        assert!(counted.is_some_and(|counted| counted >= SignedDuration::from_millis(999)), "{ticks:#?}");
    }
    let mut ran: BTreeMap<String, usize> = BTreeMap::new();
    for line in ledger::read(&stage.spinor) {
        *ran.entry(line.job).or_default() += 1;
    }
    let fired: BTreeSet<&str> = ticks.iter().filter_map(|tick| tick["job"].as_str()).collect();
    assert!(fired.len() == ticks.len() && ran.keys().all(|job| fired.contains(job.as_str())), "{ticks:#?} {ran:?}");
    assert_eq!(ran.len(), fired.len(), "some were fired and did not run: {ticks:#?} {ran:?}");
    // What was in hand when the one consumer was killed runs again, and nothing else does.
    let again: Vec<_> = ran.iter().filter(|(_, count)| **count > 1).collect();
    assert!(again.len() <= 1 && again.iter().all(|(_, count)| **count == 2), "{again:?}");
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
