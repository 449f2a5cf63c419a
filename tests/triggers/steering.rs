//! What people do to triggers on the command line, and what they are told.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::support::{eventually, eventually_some, process::Spinor};

const PATIENCE: Duration = Duration::from_secs(90);

pub async fn ask(spinor: &Spinor, command: &[&str]) -> Value {
    let done = spinor.run(&[command, &["--json"]].concat()).await.expect_success();
    serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {}", done.stdout))
}

/// The command ends with this code and says these words.
pub async fn refused(spinor: &Spinor, command: &[&str], code: i32, words: &str) {
    let done = spinor.run(command).await;
    assert_eq!(done.code(), code, "{command:?}: {done:?}");
    assert!(done.stderr.contains(words), "{command:?}: {}", done.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_coming_instants_of_an_expression_are_told_without_a_server() {
    let spinor = Spinor::new("data = 'data'\n");
    let cron = ["triggers", "next", "--cron", "30 2 * * *", "--zone", "Europe/Berlin"];
    let coming = ask(&spinor, &[&cron[..], &["--after", "2026-03-28T12:00:00Z", "--limit", "2"]].concat()).await;
    let expected = json!([
        {"instant": "2026-03-29T01:00:00Z", "local": "Sun 2026-03-29 03:00:00 +02:00"},
        {"instant": "2026-03-30T00:30:00Z", "local": "Mon 2026-03-30 02:30:00 +02:00"},
    ]);
    assert_eq!(coming, expected);
    let wrong = ["triggers", "next", "--cron", "61 * * * *"];
    refused(&spinor, &wrong, 2, "--cron: minute, column 1: 61 is not between 0 and 59").await;
    let wrong = ["triggers", "next", "--cron", "@daily", "--zone", "Mars"];
    refused(&spinor, &wrong, 2, "--zone: `Mars` is no time zone").await;
    refused(&spinor, &["triggers", "next"], 2, "required").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trigger_is_added_edited_paused_fired_and_removed_and_one_of_the_file_stays() {
    let spinor = Spinor::new(
        "data = 'data'\n[consumer]\nslots = 4\n[queues.idle]\njournal = 'full'\n[triggers.filed]\ncron = '0 0 1 1 *'\njob = { kind = 'noop' }\n",
    );
    let mut process = spinor.start(&["up"]);
    process.says("spinor is up", PATIENCE).await;

    let args = r#"{"p": {"$trigger": "previous"}, "n": {"$trigger": "name"}, "x": 1.50}"#;
    let add = ["triggers", "add", "poll", "--every", "90m", "--kind", "noop", "--args", args];
    let row = ask(&spinor, &add).await;
    assert_eq!((&row["state"], &row["origin"], &row["revision"]), (&json!("active"), &json!("command"), &json!(1)));
    refused(&spinor, &add, 1, "there is a trigger `poll` already").await;
    let edit = ["triggers", "edit", "poll", "--cron", "0 3 * * *", "--zone", "Europe/Paris", "--overlap", "allow"];
    let row = ask(&spinor, &edit).await;
    assert_eq!((&row["revision"], &row["asked"]["every"]), (&json!(2), &Value::Null));
    assert!(row["next"].as_str().is_some_and(|next| next.ends_with(":00:00Z")), "{row}");
    let row = ask(&spinor, &["triggers", "pause", "poll", "--why", "to see"]).await;
    assert_eq!((&row["state"], &row["next"]), (&json!("paused"), &Value::Null));
    assert_eq!(ask(&spinor, &["triggers", "resume", "poll"]).await["state"], json!("active"));

    for outcome in [Value::Null, json!("succeeded")] {
        let job = ask(&spinor, &["triggers", "fire", "poll"]).await["job"].as_str().expect("a job").to_owned();
        let mut record = Value::Null;
        eventually("the job to be recorded, and to be the previous one", PATIENCE, async || {
            let done = spinor.run(&["jobs", "show", &job, "--json"]).await;
            record = serde_json::from_str(&done.stdout).unwrap_or_default();
            let shown = ask(&spinor, &["triggers", "show", "poll"]).await;
            record["state"] == "succeeded" && shown["ticks"][0]["state"] == "succeeded"
        })
        .await;
        let args = &record["job"]["args"];
        assert_eq!((&args["n"], &args["p"]["outcome"]), (&json!("poll"), &outcome), "{record}");
    }

    // Nobody takes jobs from this queue: the end never comes.
    ask(&spinor, &["triggers", "add", "stuck", "--every", "9h", "--kind", "noop", "--queue", "idle"]).await;
    let job = ask(&spinor, &["triggers", "fire", "stuck"]).await["job"].as_str().expect("a job").to_owned();
    refused(&spinor, &["triggers", "fire", "stuck"], 1, &format!("job {job} of an earlier instant has not ended"))
        .await;
    assert_eq!(ask(&spinor, &["triggers", "resume", "stuck", "--free"]).await["busy"], Value::Null);
    ask(&spinor, &["triggers", "fire", "stuck"]).await;
    ask(&spinor, &["triggers", "rm", "stuck"]).await;

    refused(&spinor, &["triggers", "rm", "filed"], 1, "comes from the configuration file").await;
    refused(&spinor, &["triggers", "edit", "filed", "--every", "1h"], 1, "comes from the configuration file").await;
    assert_eq!(ask(&spinor, &["triggers", "pause", "filed"]).await["state"], json!("paused"));
    ask(&spinor, &["triggers", "rm", "poll"]).await;
    refused(&spinor, &["triggers", "show", "poll"], 2, "there are filed").await;
    let past = ["triggers", "add", "late", "--at", "2000-01-01T00:00:00Z", "--kind", "noop"];
    refused(&spinor, &past, 2, "is past").await;
    let wrong = ["triggers", "add", "wrong", "--every", "1h", "--job", r#"{"kind": "noop", "delay": "5m"}"#];
    refused(&spinor, &wrong, 2, "job.delay").await;
    let wrong = ["triggers", "add", "wrong", "--every", "1h", "--kind", "noop", "--queue", "nowhere"];
    refused(&spinor, &wrong, 2, "no queue takes").await;
    let wrong = ["triggers", "add", "wrong", "--every", "8d", "--kind", "command", "--args", r#"{"argv": 7}"#];
    refused(&spinor, &wrong, 2, "job.args.argv").await;
    let wrong = ["triggers", "add", "wrong", "--every", "99y", "--kind", "noop"];
    refused(&spinor, &wrong, 2, "its units are ms, s, m, h and d").await;
    refused(&spinor, &["publish", "noop", "--in", "99y"], 2, "its units are ms, s, m, h and d").await;

    let soon = Timestamp::now() + SignedDuration::from_secs(3);
    ask(&spinor, &["triggers", "add", "once", "--at", &soon.to_string(), "--kind", "noop"]).await;
    let shown = eventually_some("the one moment to have come", PATIENCE, async || {
        let shown = ask(&spinor, &["triggers", "show", "once"]).await;
        (shown["ticks"][0]["state"] == "succeeded").then_some(shown)
    })
    .await;
    assert_eq!((&shown["trigger"]["state"], &shown["trigger"]["fired"]), (&json!("ended"), &json!(1)));
    assert!(shown["ticks"][0]["late_ms"].as_i64().is_some_and(|late| late >= 0), "{shown}");
    // What the file says outlives the process, and so does the pause.
    process.terminate();
    assert_eq!(process.wait(PATIENCE).await.code(), Some(0));
    process = spinor.start(&["up"]);
    process.says("spinor is up", PATIENCE).await;
    let listed = ask(&spinor, &["triggers", "ls"]).await;
    let states: Vec<_> =
        listed["triggers"].as_array().expect("a list").iter().map(|row| (&row["name"], &row["state"])).collect();
    assert_eq!(states, [(&json!("filed"), &json!("paused")), (&json!("once"), &json!("ended"))]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_of_a_trigger_that_must_not_overlap_do_not_and_one_waits_where_it_shall() {
    let spinor = Spinor::new("data = 'data'\n[consumer]\nslots = 8\n");
    let process = spinor.start(&["up"]);
    process.says("spinor is up", PATIENCE).await;
    for overlap in ["skip", "queue"] {
        let job = r#"{"kind": "command", "args": {"shell": "sleep 1.6"}}"#;
        let add = ["triggers", "add", overlap, "--every", "1s", "--job", job, "--overlap", overlap];
        ask(&spinor, &add).await;
    }
    for (overlap, note) in [("skip", "had not ended"), ("queue", "one waits already")] {
        let ticks = eventually_some("two jobs to have ended, and an instant to be skipped", PATIENCE, async || {
            let shown = ask(&spinor, &["triggers", "show", overlap, "--limit", "100"]).await;
            let ticks = shown["ticks"].as_array()?.clone();
            let ended = ticks.iter().filter(|tick| tick["state"] == "succeeded").count();
            let skipped = ticks.iter().any(|tick| tick["note"].as_str().is_some_and(|why| why.contains(note)));
            (ended >= 2 && skipped).then_some(ticks)
        })
        .await;
        let moment = |text: &Value| text.as_str().and_then(|text| text.parse::<Timestamp>().ok());
        let mut ran: Vec<(Timestamp, Timestamp)> = ticks
            .iter()
            .filter(|tick| tick["state"] == "succeeded")
            .filter_map(|tick| {
                let late = SignedDuration::from_millis(tick["late_ms"].as_i64()? + 1);
                Some((moment(&tick["instant"])?.checked_add(late).ok()?, moment(&tick["ended"])?))
            })
            .collect();
        ran.sort_unstable();
        assert!(ran.len() >= 2, "{ticks:#?}");
        for pair in ran.windows(2) {
            assert!(pair[1].0 >= pair[0].1, "{overlap}: {pair:?}");
        }
    }
}
