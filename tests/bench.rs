//! `spinor bench` from outside: small rounds that end, check themselves and leave nothing behind.
//!
//! Refuses to judge speeds: they depend on the machine.

use serde_json::Value;

use crate::support::{process::Spinor, servers};

/// Runs a benchmark with its scratch directory inside the installation; its one summary.
async fn bench(config: &str, arguments: &[&str]) -> Value {
    // Beside this program in the target directory, where `bench` looks for it.
    assert!(std::path::Path::new(env!("CARGO_BIN_EXE_spinor-floor")).exists());
    let mut spinor = Spinor::new(config);
    std::fs::create_dir(spinor.join("tmp")).unwrap();
    let scratch = spinor.join("tmp").display().to_string();
    spinor.set("TMPDIR", &scratch);
    let done = spinor.run(&[&["bench"], arguments, &["--rounds", "1", "--json"]].concat()).await.expect_success();
    assert_eq!(std::fs::read_dir(&scratch).unwrap().count(), 0, "the scratch directory is removed");
    let mut all: Vec<Value> = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(all.len(), 1);
    all.remove(0)
}

fn names(summary: &Value) -> Vec<&str> {
    summary["sides"].as_array().unwrap().iter().map(|side| side["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn an_embedded_round_is_recorded_durably_and_compared_with_the_raw_statements() {
    let summary = bench("", &["record", "--jobs", "300", "--journal"]).await;
    assert_eq!(names(&summary), ["product", "the same statements raw"]);
    let sample = &summary["sides"][0]["samples"][0];
    assert_eq!(sample["jobs"], 300);
    assert!(sample["fsyncs"]["count"].as_u64().unwrap() > 0, "{sample}");
    assert!(sample["commits"].as_u64().unwrap() > 0, "{sample}");
    assert!(summary["ratios"][0][1]["median"].as_f64().unwrap() > 0.0, "{summary}");
}

#[tokio::test]
async fn jobs_in_python_are_compared_with_the_same_frames_to_the_same_program() {
    let summary = bench("", &["programs", "--jobs", "200", "--slots", "2"]).await;
    assert_eq!(names(&summary), ["product", "loop + ping-pong", "ping-pong"]);
    assert_eq!(summary["sides"][0]["samples"][0]["jobs"], 200);
    assert!(summary["ratios"][0][1]["median"].as_f64().unwrap() > 0.0, "{summary}");
    assert!(summary["notes"].to_string().contains("CPU of `product` for each job"), "{summary}");
}

#[tokio::test]
async fn shells_on_six_nodes_are_counted_as_distinct_processes() {
    let summary = bench("", &["command", "--jobs", "3"]).await;
    assert_eq!(names(&summary), ["product", "raw spawn"]);
    assert_eq!(summary["sides"][0]["samples"][0]["jobs"], 18);
}

#[tokio::test]
async fn rounds_on_rabbitmq_run_as_processes_of_their_own_beside_both_raw_loops() {
    let config = format!("broker = \"{}\"\n", servers::rabbitmq_url());
    for mode in [&["noop", "--jobs", "300"][..], &["noop", "--jobs", "300", "--preloaded"]] {
        let summary = bench(&config, mode).await;
        assert_eq!(names(&summary), ["product", "plain loop", "packed loop"]);
        let sample = &summary["sides"][0]["samples"][0];
        assert!(sample["packs"].as_u64().unwrap() > 0, "{sample}");
        assert!(sample["peak_bytes"].as_u64().unwrap() > 0, "{sample}");
    }
    let summary = bench(&config, &["latency", "--jobs", "20"]).await;
    assert_eq!(names(&summary), ["product", "raw worker"]);
    assert!(summary["sides"][0]["samples"][0]["median_ms"].as_f64().unwrap() > 0.0);
}

#[tokio::test]
async fn a_seeded_record_answers_every_list_and_streams_are_heard_beside_jobs() {
    let spinor = Spinor::new("data = 'data'\n");
    let seeded = spinor.run(&["bench", "seed", "--rows", "3000", "--days", "1", "--json"]).await.expect_success();
    let seeded: Value = serde_json::from_str(&seeded.stdout).unwrap();
    assert_eq!(seeded["jobs"], 3000);
    for what in ["letters", "runs", "delayed"] {
        assert!(seeded[what].as_u64().unwrap() > 0, "{what}: {seeded}");
    }
    let again = spinor.run(&["bench", "seed", "--rows", "10"]).await;
    assert!(again.code() != 0 && again.stderr.contains("--more"), "{}", again.stderr);
    let process = spinor.start(&["up"]);
    process.says("page: http", std::time::Duration::from_secs(60)).await;
    let asked = spinor.run(&["bench", "lists", "--rounds", "1", "--json"]).await.expect_success();
    let lists: Value = serde_json::from_str(&asked.stdout).unwrap();
    let lists = lists["lists"].as_array().unwrap();
    assert!(lists.len() > 100, "{}", lists.len());
    for line in lists {
        assert!(line["refused"].is_null() && line["bytes"].as_u64().unwrap() > 1, "{line}");
    }
    // In the machine's own directory: the path of a socket must be short.
    let streams = spinor.run(&["bench", "streams", "--jobs", "300", "--rounds", "1", "--json"]).await.expect_success();
    let summary = serde_json::from_str::<Value>(&streams.stdout).unwrap()[0].clone();
    assert_eq!(names(&summary), ["beside 200 streams", "without"]);
    assert!(!summary["notes"].to_string().contains("heard by all streams together: 0 "), "{summary}");
}
