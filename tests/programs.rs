//! Executor processes behind a real `spinor up`: a rude program harms nobody but its own jobs.

use std::time::Duration;

use serde_json::Value;

use crate::support::{
    eventually,
    process::{Finished, Process, Spinor},
    witness,
};

const SOON: Duration = Duration::from_secs(60);

fn config() -> String {
    let rude = concat!(env!("CARGO_MANIFEST_DIR"), "/executors/src/programs/tests/rude.py");
    format!(
        "data = 'data'\n\
         [consumer]\nslots = 2\n\
         [kinds.rude]\nrun = ['python3', '{rude}']\nenv = {{ FLAVOUR = 'Sweet' }}\n\
         retry = {{ max = 5, first = '10ms' }}\n\
         [kinds.'broken.*']\nrun = ['python3', '{rude}', 'broken']\n"
    )
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

struct Site {
    spinor: Spinor,
    up: Process,
}

impl Site {
    async fn new() -> Self {
        let spinor = Spinor::new(&config());
        let up = spinor.start(&["up"]);
        up.says("spinor is up", Duration::from_secs(30)).await;
        Self { spinor, up }
    }

    async fn publish(&self, kind: &str, args: &str) -> String {
        let finished: Finished = self.spinor.run(&["publish", kind, "--args", args]).await;
        finished.expect_success().stdout.trim().to_owned()
    }

    async fn job(&self, id: &str) -> Value {
        let shown = self.spinor.run(&["jobs", "show", id, "--json"]).await.expect_success().stdout;
        json(&shown)
    }

    /// The job once it has this state.
    async fn ends(&self, id: &str, state: &str) -> Value {
        eventually(&format!("{id} to be {state}"), SOON, async || self.job(id).await["state"] == state).await;
        self.job(id).await
    }
}

#[tokio::test]
async fn a_rude_program_harms_only_its_jobs_and_leaves_nothing_behind_when_the_consumer_is_killed() {
    let mut site = Site::new().await;
    let sweet = site.publish("rude", r#"{"do": "env", "name": "FLAVOUR"}"#).await;
    let sweet = site.ends(&sweet, "succeeded").await;
    assert_eq!(sweet["attempts"][0]["value"], "Sweet", "{sweet}");

    // What the program said of its kind is known to all, and args are held against it.
    let kinds = async || json(&site.spinor.run(&["kinds", "ls", "--json"]).await.expect_success().stdout);
    let row = async |kind: &str| {
        kinds().await.as_array().and_then(|rows| rows.iter().find(|row| row["kind"] == kind).cloned())
    };
    eventually("the schema to be told", SOON, async || row("rude").await.is_some_and(|row| row["schema"].is_object()))
        .await;
    let rude = row("rude").await.expect("it is told");
    assert_eq!(
        (&rude["program"], &rude["consumers"].as_array().map(Vec::len)),
        (&"rude 1.0".into(), &Some(1)),
        "{rude}"
    );
    assert_eq!(rude["limits"]["retry"]["max"], 5, "{rude}");
    let refused = site.spinor.run(&["publish", "rude", "--args", "{}"]).await;
    assert!(refused.code() == 2 && refused.stderr.contains("`args.do`: is missing"), "{refused:?}");
    let many = site.spinor.run(&["publish", "rude", "--args", "{}", "--count", "3"]).await;
    assert!(many.code() == 2 && many.stderr.contains("`args.do`: is missing"), "{many:?}");
    let jobs = "{\"kind\": \"noop\"}\n\n{\"kind\": \"rude\", \"args\": {\"do\": \"pid\"}}\n{\"kind\": \"rude\", \"args\": 7}\n";
    std::fs::write(site.spinor.join("jobs.ndjson"), jobs).expect("a file");
    let batch = site.spinor.run(&["publish", "--batch", "jobs.ndjson"]).await;
    assert!(batch.code() == 2 && batch.stderr.contains("jobs.ndjson:4: `args`: "), "{batch:?}");
    eventually("the broken one to be told", SOON, async || row("broken.*").await.is_some()).await;
    for command in [&["kinds", "show", "broken.*"][..], &["doctor"], &["status"]] {
        let told = site.spinor.run(command).await.stdout;
        assert!(told.contains("no module named images"), "{command:?}: {told}");
    }
    let nobody = site.spinor.run(&["kinds", "show", "nobody"]).await;
    assert!(nobody.code() == 2 && nobody.stderr.contains("`nobody`"), "{nobody:?}");

    // Two deaths under one job park it, its neighbour is untouched.
    let deadly = site.publish("rude", r#"{"do": "exit"}"#).await;
    let neighbour = site.publish("rude", r#"{"do": "print"}"#).await;
    let parked = site.ends(&deadly, "dead").await;
    let why = parked["attempts"].to_string();
    assert!(why.contains("2 times the process that ran it died") && why.contains("going down"), "{parked}");
    let letters = site.spinor.run(&["dead", "ls", "--json"]).await.expect_success().stdout;
    assert!(letters.contains(&deadly), "{letters}");
    assert_eq!(site.ends(&neighbour, "succeeded").await["attempts"].as_array().map(Vec::len), Some(1));

    // What a job publishes leaves with its success.
    let jobs = r#"[{"kind": "rude", "args": {"do": "pid"}, "delay": 0.01}]"#;
    let parent = site.publish("rude", &format!(r#"{{"do": "publish", "jobs": {jobs}}}"#)).await;
    let parent = site.ends(&parent, "succeeded").await;
    let child = parent["attempts"][0]["value"]["ids"][0].as_str().expect("an id").to_owned();
    site.ends(&child, "succeeded").await;

    // A program that does not start: its jobs wait, at their first attempt.
    let waits = site.publish("broken.one", "{}").await;
    site.up.says("no module named images", SOON).await;
    assert_eq!(site.job(&waits).await["state"], "queued");

    let left = site.publish("rude", r#"{"do": "fork"}"#).await;
    let left = site.ends(&left, "succeeded").await["attempts"][0]["value"].as_u64().expect("a number");
    let left = u32::try_from(left).expect("a process number");
    let children = witness::children(site.up.id());
    assert!(witness::runs(left) && children.len() >= 2, "the program and the guardian: {children:?}");
    site.up.kill9();
    site.up.wait(SOON).await;
    let gone = async || witness::alive(&children).is_empty() && !witness::runs(left);
    eventually("all its processes to be gone", SOON, gone).await;
}
