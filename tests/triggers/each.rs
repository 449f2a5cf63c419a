//! Fan-out: a job for each item of a list, of a question or of a command, in one run, whose end is that of the instant.

use std::time::Duration;

use serde_json::{Value, json};
use spinor_consumers::next::job_id;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, MySqlConnection};
use uuid::Uuid;

use super::steering::{ask, refused};
use crate::support::{
    eventually, eventually_some,
    process::{Process, Spinor},
    servers::mysql_url,
};

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
    assert_eq!(shown["trigger"]["previous"]["value"], json!({"succeeded": 3}), "{shown}");
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
    assert_eq!(shown["trigger"]["previous"]["value"], json!({"failed": 1, "succeeded": 1}), "{shown}");
    let wrong = ["triggers", "add", "none", "--every", "9h", "--kind", "noop", "--args", args];
    refused(&spinor, &wrong, 2, "is for a trigger with `each`").await;
}

/// The args of all jobs of a run, as they were recorded.
async fn args_of(spinor: &Spinor, run: &str, count: usize) -> Vec<Value> {
    let listed = eventually_some("the jobs of the run to be recorded", PATIENCE, async || {
        let listed = ask(spinor, &["jobs", "ls", "--run", run]).await;
        let rows = listed["rows"].as_array()?;
        (rows.len() >= count && rows.iter().all(|row| row["state"] == "succeeded")).then_some(listed)
    })
    .await;
    assert_eq!(listed["rows"].as_array().map(Vec::len), Some(count), "{listed}");
    let mut all = Vec::new();
    for row in listed["rows"].as_array().expect("jobs") {
        let job = ask(spinor, &["jobs", "show", row["id"].as_str().expect("an id")]).await;
        assert_eq!((&job["state"], job["attempts"].as_array().map(Vec::len)), (&json!("succeeded"), Some(1)), "{job}");
        all.push(job["job"]["args"].clone());
    }
    all.sort_by_key(ToString::to_string);
    all
}

async fn fire(spinor: &Spinor, name: &str) -> String {
    ask(spinor, &["triggers", "fire", name]).await["job"].as_str().expect("an id").to_owned()
}

async fn up(spinor: &Spinor) -> Process {
    let process = spinor.start(&["up"]);
    process.says("spinor is up", PATIENCE).await;
    process
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn items_come_from_a_question_or_a_command_once_though_who_asks_is_killed_and_what_is_cut_is_told() {
    let (table, url) = (format!("sites_{}", Uuid::now_v7().simple()), mysql_url());
    let mut server = MySqlConnection::connect(&url).await.expect("the server");
    let run = async |server: &mut MySqlConnection, sql: String| {
        server.execute(AssertSqlSafe(sql)).await.expect("it is done");
    };
    run(&mut server, format!("CREATE TABLE {table} (id INT, name VARCHAR(20), share DECIMAL(5,2), since DATE)")).await;
    let rows = "(1, 'north', 1.50, '2026-01-02'), (2, 'süd \"s\"', NULL, NULL), (3, 'east', 0, NULL)";
    run(&mut server, format!("INSERT INTO {table} VALUES {rows}")).await;
    let when = "cron = '0 0 1 1 *'\njob = { kind = 'noop', args = { it = { '$item' = '.' }, before = { '$trigger' = 'previous.value' } } }";
    let question = format!("{{ sql = 'SELECT * FROM {table} ORDER BY id', database = '{url}', limit = 2 }}");
    let spinor = Spinor::new("");
    let (list, asked) = (spinor.join("list"), spinor.join("asked"));
    let script =
        format!("echo x >> {}; test -s {} || sleep 60; cat {}", asked.display(), list.display(), list.display());
    let sources = [
        ("rows", question),
        ("lines", format!("{{ command = ['/bin/sh', '-c', '{script}'] }}")),
        ("own", "{ sql = 'SELECT name FROM schedules ORDER BY name' }".to_owned()),
        ("slow", "{ command = ['sleep', '60'], timeout = '300ms' }".to_owned()),
        ("harm", "{ sql = 'DELETE FROM schedules' }".to_owned()),
    ];
    let triggers = sources.map(|(name, each)| format!("[triggers.{name}]\n{when}\neach = {each}\n")).concat();
    let config = format!("data = 'data'\n[log]\nlevel = 'info'\n[consumer]\nslots = 8\n{triggers}");
    std::fs::write(spinor.join("spinor.toml"), config).expect("a configuration");
    let mut process = up(&spinor).await;

    let cut = fire(&spinor, "rows").await;
    let shown = ended(&spinor, "rows").await;
    assert_eq!((&shown["ticks"][0]["state"], &shown["ticks"][0]["job"]), (&json!("succeeded"), &json!(cut)), "{shown}");
    let asking = ask(&spinor, &["jobs", "show", &cut]).await;
    assert_eq!(asking["job"]["args"]["name"], json!("rows"), "{asking}");
    assert!(!asking.to_string().contains("$item"), "what is fired for each item is in no message: {asking}");
    let note = shown["ticks"][0]["note"].as_str().unwrap_or_default();
    assert!(note.contains("fired by") && note.contains("cut: only the first 2 items"), "{shown}");
    process.says("There were more items than a trigger takes", PATIENCE).await;
    let north = json!({"id": 1, "name": "north", "share": 1.50, "since": "2026-01-02"});
    let south = json!({"id": 2, "name": "süd \"s\"", "share": null, "since": null});
    let expected = [north, south].map(|it| json!({"before": null, "it": it}));
    assert_eq!(args_of(&spinor, &cut, 2).await, expected);
    // What ended is told to the next one: how many of its jobs ended how.
    assert_eq!(shown["trigger"]["previous"]["value"], json!({"succeeded": 2}));
    run(&mut server, format!("DELETE FROM {table} WHERE id > 1")).await;
    let next = fire(&spinor, "rows").await;
    let shown = eventually_some("the second run to have ended", PATIENCE, async || {
        let shown = ended(&spinor, "rows").await;
        (shown["ticks"][0]["job"] == next).then_some(shown)
    })
    .await;
    let note = shown["ticks"][0]["note"].as_str().unwrap_or_default();
    assert!(note.contains("fired by") && !note.contains("cut"), "{shown}");
    assert_eq!(shown["trigger"]["busy"], Value::Null, "{shown}");
    assert_eq!(args_of(&spinor, &next, 1).await[0]["before"], json!({"succeeded": 2}));
    let own = fire(&spinor, "own").await;
    ended(&spinor, "own").await;
    let names: Vec<Value> = args_of(&spinor, &own, 5).await.iter().map(|args| args["it"]["name"].clone()).collect();
    assert_eq!(names, ["harm", "lines", "own", "rows", "slow"]);

    // Nobody sees the password, and the message has none.
    let password = url.split(['@', ':']).nth(2).expect("a password");
    let told = spinor.run(&["config", "show"]).await.expect_success().stdout;
    assert!(told.contains(":***@") && !told.contains(password), "{told}");
    for command in [&["triggers", "show", "rows", "--json"][..], &["triggers", "show", "rows"], &["jobs", "show", &cut]]
    {
        let told = spinor.run(command).await.expect_success().stdout;
        assert!(told.contains("***") || command[0] == "jobs", "{told}");
        assert!(!told.contains(password), "{told}");
    }

    for (name, why) in [("slow", "time limit"), ("harm", "readonly")] {
        let job = fire(&spinor, name).await;
        eventually("the question to fail, and to be tried again", PATIENCE, async || {
            let done = spinor.run(&["jobs", "show", &job, "--json"]).await;
            let record: Value = serde_json::from_str(&done.stdout).unwrap_or_default();
            record["state"] == "retrying" && record["error"].as_str().is_some_and(|error| error.contains(why))
        })
        .await;
    }
    assert_eq!(ask(&spinor, &["triggers", "ls"]).await["triggers"].as_array().map(Vec::len), Some(5));

    // It dies while it asks: it is asked again, and each item has one job.
    let lines = fire(&spinor, "lines").await;
    eventually("the command to run", PATIENCE, async || asked.exists()).await;
    process.kill9();
    process.wait(PATIENCE).await;
    std::fs::write(&list, "\"a\"\n\n{\"b\": 1.0}\n").expect("a list");
    let _again = up(&spinor).await;
    let shown = ended(&spinor, "lines").await;
    assert_eq!((&shown["ticks"][0]["job"], &shown["trigger"]["fired"]), (&json!(lines), &json!(1)), "{shown}");
    let its: Vec<Value> = args_of(&spinor, &lines, 2).await.iter().map(|args| args["it"].clone()).collect();
    assert_eq!(its, [json!("a"), json!({"b": 1.0})]);
    assert_eq!(std::fs::read_to_string(&asked).expect("its own ledger"), "x\nx\n");
    run(&mut server, format!("DROP TABLE {table}")).await;

    let add = ["triggers", "add", "no", "--every", "9h", "--kind", "noop", "--each", r#"{"sql": "SELECT 1"}"#];
    refused(&spinor, &add, 2, "only the configuration file").await;
}
