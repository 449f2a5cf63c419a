//! The real processes, killed in the middle of a run, and without a recorder.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

use crate::support::{
    eventually,
    process::{Process, Spinor},
    site::Site,
};

const PATIENCE: Duration = Duration::from_secs(90);
/// Members of the run that is disturbed.
const MEMBERS: usize = 50;

/// An installation, with what it runs in.
struct Stage {
    spinor: Spinor,
    site: Option<Site>,
    processes: BTreeMap<&'static str, Process>,
}

impl Stage {
    /// Of these parts, each in a process of its own; embedded there is one with all.
    async fn new(site: Option<Site>, parts: &[&'static str]) -> Self {
        let lines = site.as_ref().map(Site::toml).unwrap_or_default();
        let spinor = Spinor::new(&format!(
            "{lines}data = 'data'\n[log]\nlevel = 'warn'\n[consumer]\nslots = 4\nqueues = ['one']\nkinds = ['command']\n"
        ));
        std::fs::write(spinor.join("ledger"), "").expect("a ledger");
        let mut stage = Self { spinor, site, processes: BTreeMap::new() };
        for part in parts {
            stage.start(part).await;
        }
        stage
    }

    async fn start(&mut self, part: &'static str) {
        let process = match (part, self.site.is_some()) {
            ("all", _) => self.spinor.start(&["up"]),
            ("api", _) => self.spinor.start(&["up", "--only", "api"]),
            _ => self.spinor.start(&["up", "--only", part, "--data", part]),
        };
        process.says("spinor is up", PATIENCE).await;
        self.processes.insert(part, process);
    }

    async fn kill_and_restart(&mut self, part: &'static str) {
        let mut process = self.processes.remove(part).expect("it runs");
        process.kill9();
        process.wait(PATIENCE).await;
        self.start(part).await;
    }

    async fn ask(&self, command: &[&str]) -> Value {
        let done = self.spinor.run(&[command, &["--json"]].concat()).await.expect_success();
        serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {}", done.stdout))
    }

    /// Members in the ledger, with how often each was executed.
    fn executed(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for line in std::fs::read_to_string(self.spinor.join("ledger")).expect("the ledger").lines() {
            *counts.entry(line.to_owned()).or_default() += 1;
        }
        counts
    }

    async fn executions(&self, count: usize) {
        eventually("the members to be executed", PATIENCE, async || self.executed().len() >= count).await;
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

/// A member that writes its name down, and then fails or not.
fn job(name: &str, needs: &[String], then: &str) -> Value {
    let shell = format!("echo {name} >> ledger; sleep 0.02; {then}");
    json!({"name": name, "kind": "command", "queue": "one", "needs": needs, "args": {"shell": shell}})
}

/// Five layers of ten; two of the second fail, and with them all that needs them.
fn dag(on_failure: &str) -> Value {
    let name = |place: usize| format!("m{place:02}");
    let members: Vec<Value> = (0..MEMBERS)
        .map(|place| {
            let needs = if place < 10 { vec![] } else { vec![name(place - 10)] };
            job(&name(place), &needs, if place == 13 || place == 17 { "exit 3" } else { "exit 0" })
        })
        .collect();
    let mut last = job("finally", &[], "exit 0");
    let fields = last.as_object_mut().expect("an object");
    fields.remove("name");
    fields.remove("needs");
    json!({"name": "disturbed", "on_failure": on_failure, "members": members, "finally": last})
}

async fn publish(stage: &Stage, run: &Value) -> String {
    std::fs::write(stage.spinor.join("run.json"), run.to_string()).expect("a file");
    stage.ask(&["runs", "publish", "run.json"]).await["run"].as_str().expect("an id").to_owned()
}

/// Awaits the run's end on record and looks at each member.
async fn assert_went_on(stage: &Stage, run: &str) {
    let mut shown = Value::Null;
    eventually("the run to be on record with its end", PATIENCE, async || {
        let done = stage.spinor.run(&["runs", "show", run, "--json"]).await;
        shown = serde_json::from_str(&done.stdout).unwrap_or_default();
        shown["ended"].is_string()
    })
    .await;
    assert_eq!(shown["succeeded"], json!(false), "{shown}");
    let members = shown["member_list"].as_array().expect("members");
    assert_eq!(members.len(), MEMBERS + 1);
    let executed = stage.executed();
    for (place, member) in members.iter().enumerate() {
        let name = member["name"].as_str().expect("a name");
        let expected = match place {
            13 | 17 => "failed",
            23 | 27 | 33 | 37 | 43 | 47 => "skipped",
            _ => "succeeded",
        };
        assert_eq!((name, &member["state"]), (name, &json!(expected)), "{shown}");
        assert_eq!(executed.contains_key(name), expected != "skipped", "{name}");
    }
    // A second execution is one whose consumer was killed under it, and says so; nothing was fired twice.
    for (name, count) in executed.iter().filter(|(_, count)| **count > 1) {
        let job = members.iter().find(|member| member["name"] == **name).expect("a member")["job"].as_str();
        let job = stage.ask(&["jobs", "show", job.expect("an id")]).await;
        let attempts = job["attempts"].as_array().expect("attempts");
        assert!(attempts.iter().any(|report| report["maybe_rerun"] == json!(true)), "{name} ran {count} times: {job}");
        assert_eq!(job["replay"], json!(0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_whose_one_process_is_killed_three_times_ends_as_it_should() {
    let mut stage = Stage::new(None, &["all"]).await;
    let run = publish(&stage, &dag("go_on")).await;
    for executions in [3, 14, 25] {
        stage.executions(executions).await;
        stage.kill_and_restart("all").await;
    }
    assert_went_on(&stage, &run).await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_whose_consumer_trigger_and_recorder_are_killed_ends_as_it_should_and_one_without_a_recorder_goes_on() {
    let mut stage = Stage::new(Some(Site::new().await), &["api", "trigger", "consumer"]).await;
    // From start to end without a recorder: only the ledger can tell.
    let run = publish(&stage, &dag("go_on")).await;
    eventually("the run to end without a recorder", PATIENCE, async || stage.executed().contains_key("finally")).await;
    stage.start("recorder").await;
    assert_went_on(&stage, &run).await;
    std::fs::write(stage.spinor.join("ledger"), "").expect("a ledger");
    let run = publish(&stage, &dag("go_on")).await;
    for (executions, part) in [(3, "trigger"), (12, "consumer"), (22, "recorder")] {
        stage.executions(executions).await;
        stage.kill_and_restart(part).await;
    }
    assert_went_on(&stage, &run).await;
    stage.end().await;
}
