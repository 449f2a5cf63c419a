//! Fan-out: a job for each item of a list, in one run, whose end is that of the instant.

use std::time::Duration;

use serde_json::{Value, json};
use spinor_consumers::next::job_id;

use super::steering::{ask, refused};
use crate::support::{eventually_some, process::Spinor};

const PATIENCE: Duration = Duration::from_secs(90);

/// Awaits the end of the latest instant.
async fn ended(spinor: &Spinor, name: &str) -> Value {
    eventually_some("the run of the instant to have ended", PATIENCE, async || {
        let shown = ask(spinor, &["triggers", "show", name]).await;
        shown["ticks"][0]["ended"].is_string().then_some(shown)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_item_of_a_list_has_a_job_of_its_own_and_the_instant_ends_with_the_last_of_them() {
    let each = "each = ['north', { site = 'south', n = [1, 2.5] }, 'north']";
    let job = "{ kind = 'noop', args = { all = { '$item' = '.' }, site = { '$item' = 'site' }, of = { '$trigger' = 'name' } } }";
    let spinor = Spinor::new(&format!(
        "data = 'data'\n[consumer]\nslots = 2\n[triggers.sites]\ncron = '0 0 1 1 *'\n{each}\njob = {job}\n"
    ));
    let process = spinor.start(&["up"]);
    process.says("spinor is up", PATIENCE).await;
    let run = ask(&spinor, &["triggers", "fire", "sites"]).await["job"].as_str().expect("an id").to_owned();
    let shown = ended(&spinor, "sites").await;
    assert_eq!((&shown["ticks"][0]["state"], &shown["ticks"][0]["job"]), (&json!("succeeded"), &json!(run)), "{shown}");
    assert_eq!((&shown["trigger"]["busy"], &shown["trigger"]["fired"]), (&Value::Null, &json!(1)));
    let mut found = Vec::new();
    for name in ["north", "north#2"] {
        let job = job_id(run.parse().expect("a UUID"), name).to_string();
        let record = eventually_some("the job of an item to be recorded", PATIENCE, async || {
            let done = spinor.run(&["jobs", "show", &job, "--json"]).await;
            let record: Value = serde_json::from_str(&done.stdout).ok()?;
            (record["state"] == "succeeded").then_some(record)
        })
        .await;
        found.push(record["job"]["args"].clone());
    }
    let north = json!({"all": "north", "site": null, "of": "sites"});
    assert_eq!(found, [north.clone(), north]);
    let listed = ask(&spinor, &["jobs", "ls", "--run", &run]).await;
    let ids: Vec<&str> = listed["rows"].as_array().expect("jobs").iter().filter_map(|row| row["id"].as_str()).collect();
    let mut sites = Vec::new();
    for id in &ids {
        sites.push(ask(&spinor, &["jobs", "show", id]).await["job"]["args"]["all"].clone());
    }
    sites.sort_by_key(ToString::to_string);
    assert_eq!(sites, [json!("north"), json!("north"), json!({"site": "south", "n": [1, 2.5]})], "{listed}");

    // One that fails is the end of its instant, and while they run the next one waits for its turn.
    let args = r#"{"shell": {"$item": "do"}}"#;
    let list = r#"[{"do": "true"}, {"do": "sleep 2; exit 3"}]"#;
    let add = ["triggers", "add", "some", "--every", "9h", "--kind", "command", "--args", args, "--each", list];
    ask(&spinor, &add).await;
    ask(&spinor, &["triggers", "fire", "some"]).await;
    refused(&spinor, &["triggers", "fire", "some"], 1, "of an earlier instant has not ended").await;
    let shown = ended(&spinor, "some").await;
    assert_eq!(shown["ticks"][0]["state"], "failed", "{shown}");
    let wrong = ["triggers", "add", "none", "--every", "9h", "--kind", "noop", "--args", args];
    refused(&spinor, &wrong, 2, "is for a trigger with `each`").await;
}
