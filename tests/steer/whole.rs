//! The command line against a real `spinor up`: what people say is obeyed by processes that run jobs.

use std::time::Duration;

use serde_json::Value;

use super::stage::SOON;
use crate::support::{
    eventually,
    process::{Process, Spinor},
};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// One Spinor with everything in one process.
pub struct Site {
    pub spinor: Spinor,
    up: Process,
}

impl Site {
    pub async fn new(config: &str) -> Self {
        let mut spinor = Spinor::new(&format!("data = 'data'\n{config}"));
        spinor.set("USER", "ann");
        let up = spinor.start(&["up"]);
        up.says("spinor is up", Duration::from_secs(30)).await;
        Self { spinor, up }
    }

    pub async fn restart(&mut self) {
        self.stop().await;
        self.up = self.spinor.start(&["up"]);
        self.up.says("spinor is up", Duration::from_secs(30)).await;
    }

    pub async fn stop(&mut self) {
        self.up.terminate();
        assert!(self.up.wait(Duration::from_secs(60)).await.success(), "{}", self.up.stderr());
    }

    /// The standard output of a command that does what it is asked for.
    pub async fn done(&self, command: &[&str]) -> String {
        self.spinor.run(command).await.expect_success().stdout
    }

    pub async fn told(&self, command: &[&str]) -> Value {
        json(&self.done(&[command, &["--json"]].concat()).await)
    }

    /// Publishes; the id.
    pub async fn publish(&self, arguments: &[&str]) -> String {
        self.done(&[&["publish"], arguments].concat()).await.trim().to_owned()
    }

    pub async fn state(&self, id: &str) -> String {
        self.told(&["jobs", "show", id]).await["state"].as_str().expect("a state").to_owned()
    }

    pub async fn reason(&self, id: &str) -> String {
        self.told(&["jobs", "why", id]).await["reason"].as_str().expect("a reason").to_owned()
    }

    /// Waits until a consumer says that it runs the job.
    pub async fn runs(&self, id: &str) {
        eventually("the job to run", SOON, async || self.reason(id).await == "running").await;
    }
}

/// Is there a process with this word among its arguments?
fn is_there(word: &str) -> bool {
    let processes = std::fs::read_dir("/proc").expect("processes are listed").flatten();
    processes
        .map(|entry| std::fs::read(entry.path().join("cmdline")).unwrap_or_default())
        .any(|arguments| arguments.split(|byte| *byte == 0).any(|argument| argument == word.as_bytes()))
}

#[tokio::test]
async fn a_running_job_is_cancelled_with_every_process_it_started_and_one_behind_it_without_running() {
    let mut site = Site::new("[consumer]\nslots = 1\n").await;
    // Words that nobody else sleeps for.
    let [first, second] = [1, 2].map(|at| format!("1{:05}.{at}", std::process::id()));
    let script = format!("setsid sleep {first} & sleep {second}");
    let running = site.publish(&["command", "--", "sh", "-c", &script]).await;
    eventually("its processes to run", SOON, async || is_there(&first) && is_there(&second)).await;
    let queued = site.publish(&["command", "--", "touch", "ran"]).await;
    let asked = site.done(&["jobs", "cancel", &queued, "--why", "too late"]).await;
    assert!(asked.starts_with(&format!("{queued} cancel requested by ann at ")), "{asked}");
    assert!(asked.ends_with("(too late)\n"), "{asked}");
    let shown = site.done(&["jobs", "show", &queued]).await;
    assert!(shown.contains("state    queued\ncancel   requested by ann at "), "{shown}");
    assert!(site.done(&["jobs", "ls"]).await.contains("queued, cancel"));

    let ended = site.done(&["jobs", "cancel", &running, "--wait", "--timeout", "30s"]).await;
    assert_eq!(ended, format!("{running} cancelled\n"));
    assert!(!is_there(&first) && !is_there(&second), "a process is left");
    let report = site.told(&["jobs", "show", &running]).await;
    assert_eq!(report["state"], "cancelled");
    assert!(report["error"].as_str().unwrap().contains("ann"), "{report}");
    eventually("the other to be met", SOON, async || site.state(&queued).await == "cancelled").await;
    assert!(!site.spinor.join("ran").exists(), "it was not run");
    let nobody = "0198f1d2-0000-7000-8000-000000000000";
    let again = site.spinor.run(&["jobs", "cancel", &running, nobody]).await;
    assert_eq!(again.code(), 1);
    let lines: Vec<&str> = again.stdout.lines().collect();
    assert!(lines[0].contains("has ended already: cancelled") && lines[1].starts_with("no job"), "{again:?}");
    site.stop().await;
}

#[tokio::test]
async fn a_job_on_a_delay_and_one_between_two_attempts_are_cancelled_when_they_are_due() {
    let mut site = Site::new("[kinds.command]\nretry = { max = 3, first = '1s' }\n").await;
    let delayed = site.publish(&["command", "--delay", "1s", "--", "touch", "ran"]).await;
    let retried = site.publish(&["command", "--", "sh", "-c", "echo x >> tries; exit 1"]).await;
    eventually("its first attempt to fail", SOON, async || site.state(&retried).await == "retrying").await;
    let ended = site.done(&["jobs", "cancel", &delayed, &retried, "--wait", "--timeout", "60s"]).await;
    assert_eq!(ended, format!("{delayed} cancelled\n{retried} cancelled\n"));
    assert!(!site.spinor.join("ran").exists());
    assert_eq!(site.told(&["jobs", "show", &retried]).await["state"], "cancelled");
    site.stop().await;
}

#[tokio::test]
async fn a_pause_holds_over_a_restart_until_somebody_resumes() {
    let mut site = Site::new("").await;
    let paused = site.done(&["queues", "pause", "default", "--why", "the disk is full"]).await;
    assert!(paused.contains("`default` is paused by ann at ") && paused.contains("(the disk is full)"), "{paused}");
    let id = site.publish(&["noop"]).await;
    assert_eq!(site.reason(&id).await, "paused");
    for priority in ["9", "0", "5"] {
        site.publish(&["noop", "--priority", priority]).await;
    }
    let stats = site.told(&["queues", "ls"]).await[0].clone();
    let lanes = ["high", "low"].map(|lane| stats["lanes"][lane].clone());
    assert_eq!((&stats["ready"], lanes), (&4.into(), [1.into(), 1.into()]), "{stats}");
    let wrong = site.spinor.run(&["publish", "noop", "--priority", "10"]).await;
    assert!(wrong.code() == 2 && wrong.stderr.contains("--priority"), "{wrong:?}");
    site.restart().await;
    assert_eq!((site.reason(&id).await.as_str(), site.state(&id).await.as_str()), ("paused", "queued"));
    assert!(site.done(&["queues", "ls"]).await.contains("by ann at"));
    assert_eq!(site.done(&["queues", "resume", "default"]).await, "`default` goes on\n");
    site.done(&["jobs", "wait", &id, "--timeout", "30s"]).await;
    assert_eq!(site.done(&["queues", "resume", "default"]).await, "`default` was not paused\n");
    let unknown = site.spinor.run(&["queues", "pause", "defualt"]).await;
    assert!(unknown.code() == 2 && unknown.stderr.contains("there are default"), "{unknown:?}");
    site.stop().await;
}

#[tokio::test]
async fn a_key_is_its_jobs_until_the_end_and_anybodys_then() {
    let mut site = Site::new("").await;
    let unique = ["--unique", "order-7", "--unique-for", "1h"];
    let first = site.publish(&[&["wait", "--args", r#"{"seconds": 600}"#], &unique[..]].concat()).await;
    let second = site.spinor.run(&[&["publish", "noop"], &unique[..]].concat()).await;
    assert_eq!(second.code(), 1);
    assert!(second.stderr.contains(&first) && second.stderr.contains("`order-7`"), "{second:?}");
    let same = site.spinor.run(&[&["publish", "noop", "--on-conflict", "return"], &unique[..]].concat()).await;
    assert_eq!(same.expect_success().stdout.trim(), first);
    assert!(site.done(&["locks", "ls"]).await.contains(&format!("order-7  {first}")));
    let third = site.publish(&[&["noop", "--on-conflict", "replace", "--wait", "--json"], &unique[..]].concat()).await;
    assert_eq!(json(&third)["report"]["state"], "succeeded");
    eventually("the first to end", SOON, async || site.state(&first).await == "cancelled").await;
    // The third has ended, too: whoever comes next need not wait for its key to be given back.
    site.publish(&[&["noop", "--wait"], &unique[..]].concat()).await;
    site.stop().await;
}

#[tokio::test]
async fn a_limit_that_is_said_while_jobs_run_holds_for_the_next_ones() {
    let mut site = Site::new("[consumer]\nslots = 4\n").await;
    site.done(&["locks", "limit", "mail", "--at-once", "1", "--why", "the server is slow"]).await;
    let first = site.publish(&["wait", "--args", r#"{"seconds": 600}"#, "--limit", "mail"]).await;
    site.runs(&first).await;
    let second = site.publish(&["noop", "--limit", "mail"]).await;
    let looks_again = async || {
        let why = site.told(&["jobs", "why", &second]).await["detail"].as_str().expect("a detail").to_owned();
        why.contains(&first) && why.contains("sent it back, it looks again at 2")
    };
    eventually("it to be told for whom the second waits, and until when", SOON, looks_again).await;
    // What does not count against it is not in its way.
    site.publish(&["noop", "--wait", "--timeout", "30s"]).await;
    let locks = site.told(&["locks", "ls"]).await;
    let mail = &locks["limits"][0];
    assert_eq!((&mail["name"], &mail["in_use"], &mail["full"]), (&"mail".into(), &1.into(), &true.into()), "{locks}");
    assert_eq!(mail["set"]["by"], "ann");
    site.done(&["jobs", "cancel", &first, "--wait", "--timeout", "30s"]).await;
    site.done(&["jobs", "wait", &second, "--timeout", "60s"]).await;
    let left = site.done(&["locks", "unlimit", "mail"]).await;
    assert!(left.contains("at once -"), "{left}");
    site.stop().await;
}

#[tokio::test]
async fn consumers_are_listed_take_another_number_of_slots_and_drain() {
    let mut site = Site::new("[consumer]\nslots = 3\ngroup = 'images'\n").await;
    let row = async || site.told(&["consumers", "ls"]).await[0].clone();
    eventually("the consumer to be heard", SOON, async || row().await["group"] == "images").await;
    let name = row().await["consumer"].as_str().unwrap().to_owned();
    let id = site.publish(&["wait", "--args", r#"{"seconds": 600}"#]).await;
    site.runs(&id).await;
    let shown = site.done(&["consumers", "show", &name]).await;
    assert!(shown.contains("busy     1/3") && shown.contains(&id), "{shown}");
    let kind = site.done(&["kinds", "show", "wait"]).await;
    assert!(kind.contains("served by") && kind.contains("\"seconds\""), "{kind}");
    let nosuch = site.spinor.run(&["consumers", "slots", "nosuch", "3"]).await;
    assert!(nosuch.code() == 1 && nosuch.stderr.contains("no such consumer"), "{nosuch:?}");
    site.done(&["consumers", "slots", "images", "7"]).await;
    eventually("the slots to follow", SOON, async || row().await["slots"] == 7).await;
    let groups = site.told(&["consumers", "groups"]).await;
    assert_eq!((&groups[0]["running"], &groups[0]["busy"]), (&1.into(), &1.into()), "{groups}");
    let scaled = site.done(&["consumers", "scale", "elsewhere", "--replicas", "2"]).await;
    assert_eq!(
        scaled,
        "elsewhere: 2 wanted, 0 running, 0 draining; no consumer of this group is known; the number is kept for when one starts\n"
    );
    let drains = site.done(&["consumers", "drain", "--group", "images", "--why", "new kernel"]).await;
    assert!(drains.starts_with(&format!("{name} drains\n")), "{drains}");
    assert!(drains.contains("is left then") && drains.contains("scale images --replicas 1"), "{drains}");
    assert_eq!(row().await["draining"], true);
    site.done(&["jobs", "cancel", &id, "--wait", "--timeout", "30s"]).await;
    eventually("it to leave", SOON, async || site.told(&["consumers", "ls"]).await == Value::Array(Vec::new())).await;
    let nobody = site.publish(&["noop"]).await;
    assert_eq!(site.reason(&nobody).await, "no_consumer");
    // As the drain said.
    site.done(&["consumers", "scale", "images", "--replicas", "1"]).await;
    site.done(&["jobs", "wait", &nobody, "--timeout", "30s"]).await;
    site.stop().await;
}
