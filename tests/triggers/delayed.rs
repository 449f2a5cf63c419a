//! Delayed jobs over real processes: each runs once and not early, whoever is killed; what people do to them.

use std::{collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{
    eventually, eventually_some,
    process::{Process, Spinor},
    site::Site,
    soak,
};

const PATIENCE: Duration = Duration::from_secs(180);

async fn ask(spinor: &Spinor, command: &[&str]) -> Value {
    let done = spinor.run(&[command, &["--json"]].concat()).await.expect_success();
    serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {}", done.stdout))
}

async fn refused(spinor: &Spinor, command: &[&str], code: i32, words: &str) {
    let done = spinor.run(command).await;
    assert_eq!(done.code(), code, "{command:?}: {done:?}");
    assert!(done.stderr.contains(words), "{command:?}: {}", done.stderr);
}

/// Many delayed jobs, each of which writes down itself when it runs.
struct Many {
    spinor: Spinor,
    due: BTreeMap<String, Timestamp>,
    _site: Option<Site>,
}

impl Many {
    fn new(site: Option<Site>, fault: Option<&str>) -> Self {
        let lines = site.as_ref().map(Site::toml).unwrap_or_default();
        let consumer = "[consumer]\nslots = 8\nqueues = ['one']\nkinds = ['command']\n";
        let mut spinor = Spinor::new(&format!("{lines}data = 'data'\n[log]\nlevel = 'info'\n{consumer}"));
        if let Some(fault) = fault {
            spinor.set("PLANTED_FAULT", fault);
        }
        Self { spinor, due: BTreeMap::new(), _site: site }
    }

    async fn up(&self, arguments: &[&str]) -> Process {
        let process = self.spinor.start(&[&["up"], arguments].concat());
        process.says("spinor is up", PATIENCE).await;
        process
    }

    /// Publishes so many, due at random moments of a span that begins in a second.
    async fn publish(&mut self, count: usize, span: i64) {
        let (ledger, from) = (self.spinor.join("ledger"), Timestamp::now() + SignedDuration::from_secs(1));
        let mut lines = String::new();
        for number in 0..count {
            let id = Uuid::now_v7();
            // The low bits of a fresh id are random.
            let wait = i64::try_from(id.as_u128() % 1_000_000).unwrap_or(0) * span;
            let due = from + SignedDuration::from_micros(wait);
            let shell = format!("echo {id} $(date +%s.%N) >> {}", ledger.display());
            let mut job = json!({"kind": "command", "queue": "one", "id": id, "args": {"shell": shell}});
            match number % 2 {
                0 => job["at"] = json!(due),
                _ => job["in"] = json!(format!("{}ms", due.duration_since(Timestamp::now()).as_millis() + 1)),
            }
            self.due.insert(id.to_string(), due);
            lines.push_str(&format!("{job}\n"));
        }
        let file = self.spinor.join("jobs.ndjson");
        std::fs::write(&file, lines).expect("a file of jobs");
        self.spinor.run(&["publish", "--batch", &file.display().to_string()]).await.expect_success();
    }

    /// What ran: the job, and when, in the order of the ends.
    fn ledger(&self) -> Vec<(String, f64)> {
        let text = std::fs::read_to_string(self.spinor.join("ledger")).unwrap_or_default();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let line = |line: &str| {
            let (id, ran) = line.split_once(' ').unwrap_or_else(|| panic!("{line}"));
            (id.to_owned(), ran.parse().unwrap_or_else(|error| panic!("{line}: {error}")))
        };
        whole.lines().map(line).collect()
    }

    async fn ran(&self, count: usize) {
        let mut seen = 0;
        eventually(&format!("{count} of {} jobs to run", self.due.len()), PATIENCE, async || {
            seen = self.ledger().iter().map(|(id, _)| id).collect::<std::collections::BTreeSet<_>>().len();
            seen >= count
        })
        .await;
    }

    /// All that is wrong: who did not run, ran early, or ran twice though no consumer died with it.
    async fn problems(&self) -> Vec<String> {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        let mut wrong = Vec::new();
        for (id, ran) in self.ledger() {
            match self.due.get(&id) {
                Some(due) if ran < due.as_microsecond() as f64 / 1e6 => {
                    wrong.push(format!("{id} ran at {ran}, before {due}"));
                }
                Some(_) => {}
                None => wrong.push(format!("{id} is no job of this test")),
            }
            *counts.entry(id).or_default() += 1;
        }
        wrong.extend(self.due.keys().filter(|id| !counts.contains_key(*id)).map(|id| format!("{id} did not run")));
        for (id, count) in counts.iter().filter(|(_, count)| **count > 1) {
            let job = ask(&self.spinor, &["jobs", "show", id]).await;
            let marked = job["attempts"].as_array().is_some_and(|all| all.iter().any(|one| one["maybe_rerun"] == true));
            if !marked {
                wrong.push(format!("{id} ran {count} times: {job}"));
            }
        }
        wrong
    }

    /// Publishes, kills every process in the middle, starts them again, and judges.
    async fn killed_in_the_middle(mut self, parts: &[&[&str]]) {
        let (count, span) = (soak::or(1000, 10_000), soak::or(10, 60));
        let start = async |many: &Self| {
            let mut processes = Vec::new();
            for part in parts {
                processes.push(many.up(part).await);
            }
            processes
        };
        let mut processes = start(&self).await;
        self.publish(count, span).await;
        self.ran(count / 4).await;
        for process in &mut processes {
            process.kill9();
        }
        for process in &mut processes {
            process.wait(PATIENCE).await;
        }
        processes = start(&self).await;
        self.ran(count).await;
        eventually("every job to be recorded as succeeded, and none to be kept", PATIENCE, async || {
            let left = ask(&self.spinor, &["jobs", "ls", "--state", "delayed"]).await;
            let queued = ask(&self.spinor, &["jobs", "ls", "--state", "queued"]).await;
            left["rows"] == json!([]) && queued["rows"] == json!([])
        })
        .await;
        let problems = self.problems().await;
        assert!(problems.is_empty(), "{} of {}: {:#?}", problems.len(), count, &problems[..problems.len().min(20)]);
        drop(processes);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delayed_jobs_of_the_one_embedded_process_that_is_killed_in_the_middle_run_once_and_none_early() {
    Many::new(None, None).killed_in_the_middle(&[&[]]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delayed_jobs_on_servers_whose_processes_are_all_killed_in_the_middle_run_once_and_none_early() {
    let parts: [&[&str]; 2] = [&[], &["--data", "two", "--only", "trigger"]];
    Many::new(Some(Site::new().await), None).killed_in_the_middle(&parts).await;
}

/// A check that cannot fail proves nothing: it names those that were struck, and no other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delayed_job_that_is_published_twice_and_one_that_is_lost_are_found() {
    for (fault, runs) in [("double-tick", 2), ("lost-tick", 0)] {
        let mut many = Many::new(None, Some(fault));
        let _process = many.up(&[]).await;
        many.publish(30, 1).await;
        let struck = |id: &String| id.parse::<Uuid>().expect("an id").as_u128().is_multiple_of(3);
        eventually("those that were struck to run as the fault has it, the others once", PATIENCE, async || {
            let ledger = many.ledger();
            let ran = |id: &String| ledger.iter().filter(|(other, _)| other == id).count();
            many.due.keys().all(|id| ran(id) == if struck(id) { runs } else { 1 })
        })
        .await;
        let told = if runs == 0 { "did not run".to_owned() } else { format!("ran {runs} times") };
        let problems = many.problems().await;
        let expected: Vec<String> = many.due.keys().filter(|id| struck(id)).map(|id| format!("{id} {told}")).collect();
        assert!(!expected.is_empty() && problems.len() == expected.len(), "{expected:?} {problems:#?}");
        for (problem, start) in problems.iter().zip(&expected) {
            assert!(problem.starts_with(start), "{start}: {problems:#?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_list_edit_and_cancel_delayed_jobs_and_the_record_says_what_became_of_them() {
    let spinor = Spinor::new("data = 'data'\n");
    let process = spinor.start(&["up"]);
    process.says("spinor is up", PATIENCE).await;
    let id = |published: Value| published["id"].as_str().expect("an id").to_owned();

    let far = id(ask(&spinor, &["publish", "noop", "--at", "2099-01-01T00:00:00Z", "--args", "{\"n\": 1}"]).await);
    let near = id(ask(&spinor, &["publish", "noop", "--in", "3d", "--unique", "k", "--priority", "8"]).await);
    // A delay that no tier carries alone waits here, too.
    let long = id(ask(&spinor, &["publish", "noop", "--delay", "1h"]).await);
    let short = id(ask(&spinor, &["publish", "noop", "--delay", "10m"]).await);
    let listed = ask(&spinor, &["jobs", "ls", "--state", "delayed"]).await;
    let ids: Vec<_> = listed["rows"].as_array().expect("rows").iter().map(|row| row["id"].clone()).collect();
    assert_eq!(ids, [json!(long), json!(near), json!(far)], "{listed} without {short}");
    let page = ask(&spinor, &["jobs", "ls", "--state", "delayed", "--limit", "2"]).await;
    let cursor = page["next"].as_str().expect("a next page").to_owned();
    let rest = ask(&spinor, &["jobs", "ls", "--state", "delayed", "--cursor", &cursor]).await;
    assert_eq!(rest["rows"][0]["id"], json!(far));
    let shown = ask(&spinor, &["jobs", "show", &far]).await;
    assert_eq!((&shown["state"], &shown["retry_at"]), (&json!("queued"), &json!("2099-01-01T00:00:00Z")));
    let why = ask(&spinor, &["jobs", "why", &far]).await;
    assert_eq!(why["reason"], "delayed");
    let detail = why["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("until 2099-01-01T00:00:00Z") && !detail.contains("nobody"), "{why}");

    // What it is now is shown, also before it is published and after.
    let later = ["jobs", "edit", &far, "--at", "2098-01-01T00:00:00Z", "--args", "{\"n\": 2}", "--priority", "9"];
    assert_eq!(ask(&spinor, &later).await["revision"], 1);
    let shown = ask(&spinor, &["jobs", "show", &far]).await;
    assert_eq!((&shown["retry_at"], &shown["job"]["args"]["n"]), (&json!("2098-01-01T00:00:00Z"), &json!(2)));
    ask(&spinor, &["jobs", "edit", &far, "--in", "0s"]).await;
    let done = ask(&spinor, &["jobs", "wait", &far]).await;
    assert_eq!(done["state"], "succeeded", "{done}");
    eventually("the record to show the job as it ran", PATIENCE, async || {
        let shown = ask(&spinor, &["jobs", "show", &far]).await;
        shown["job"]["args"]["n"] == 2 && shown["job"]["priority"] == 9
    })
    .await;
    refused(&spinor, &["jobs", "edit", &far, "--in", "1h"], 1, "none that waits for its time").await;

    refused(&spinor, &["publish", "noop", "--unique", "k"], 1, "belongs to job").await;
    refused(&spinor, &["jobs", "edit", &near, "--in", "4d"], 2, "unique key").await;
    ask(&spinor, &["jobs", "cancel", &near, "--why", "not wanted", "--wait"]).await;
    let shown = ask(&spinor, &["jobs", "show", &near]).await;
    assert_eq!(shown["state"], "cancelled");
    assert!(shown["error"].as_str().is_some_and(|why| why.contains("(not wanted)")), "{shown}");
    ask(&spinor, &["publish", "noop", "--unique", "k", "--wait"]).await;
    // By somebody who wants its key.
    let old = id(ask(&spinor, &["publish", "noop", "--in", "2h", "--unique", "r"]).await);
    ask(&spinor, &["publish", "noop", "--unique", "r", "--on-conflict", "replace", "--wait"]).await;
    eventually_some("the one that was replaced to be cancelled", PATIENCE, async || {
        (ask(&spinor, &["jobs", "show", &old]).await["state"] == "cancelled").then_some(())
    })
    .await;

    refused(&spinor, &["publish", "noop", "--in", "1h", "--queue", "nowhere"], 2, "no queue takes").await;
    refused(&spinor, &["publish", "noop", "--at", "tomorrow"], 2, "expected a moment").await;
    let left = ask(&spinor, &["jobs", "ls", "--state", "delayed"]).await;
    assert_eq!(left["rows"].as_array().map(Vec::len), Some(1), "{left}");
    // The same id again is the same job, and one whose time is over is published at once.
    let past = ["publish", "noop", "--at", "2020-01-01T00:00:00Z", "--wait"];
    ask(&spinor, &past).await;
}
