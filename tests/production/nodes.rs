//! Nodes as processes, and runs driven by a running Spinor.

use std::path::Path;

use serde_json::{Value, json};

use super::{PATIENCE, drained, installation, own, up};
use crate::support::{
    process::{Finished, Spinor},
    site::Site,
};

fn example(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples").join(name).display().to_string()
}

async fn run(spinor: &Spinor, arguments: &[&str]) -> (Value, Finished) {
    let done = spinor.start(&[&["run", "--json"], arguments].concat()).finish(PATIENCE).await;
    let told = serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done:?}"));
    (told, done)
}

/// What six nodes make of the shipped example, wherever they are.
fn assert_fleet(told: &Value, done: &Finished) {
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    assert_eq!((&told["run"]["succeeded"], &told["run"]["members"]), (&json!(true), &json!(6)), "{told}");
    let analysis = &told["analysis"];
    assert_eq!(analysis["total_jobs"], 10, "{analysis}");
    assert_eq!(analysis["total_node_count"], 6, "{analysis}");
    assert_eq!(analysis["total_failures"], 0, "{analysis}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn six_node_processes_on_rabbitmq_run_what_six_local_nodes_run() {
    let site = Site::new().await;
    let spinor = installation(&site, "");
    let front = up(&spinor, &["--only", "api,recorder"]).await;
    let names = ["web-1", "web-2", "web-3", "db-1", "db-2", "mail"];
    let mut nodes = Vec::new();
    for name in names {
        nodes.push(spinor.start(&["up", "--only", "consumer", "--node", name, "--data", name]));
    }
    for node in &nodes {
        // Both consumers: of jobs, and of the node's plans.
        crate::support::eventually("the node's consumers", PATIENCE, async || {
            node.stderr().matches("Consumer started.").count() == 2
        })
        .await;
    }
    let (told, done) = run(&spinor, &[&example("fleet.yaml")]).await;
    assert_fleet(&told, &done);
    let run_id = told["run"]["run"].as_str().expect("the run's id").replace('-', "");
    let steps = format!("SELECT COUNT(*) FROM steps WHERE HEX(run) = '{run_id}' AND state = 'succeeded'");
    let (steps,): (i64,) =
        sqlx::query_as(sqlx::AssertSqlSafe(steps)).fetch_one(&mut site.sql().await).await.expect("the steps");
    assert_eq!(steps, 9 * 6 + 1);

    let (told, done) = run(&spinor, &["--target", "web-1,db-2", &example("fails.yaml")]).await;
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    assert_eq!(told["run"]["succeeded"], false);
    assert!(done.stderr.contains("2 of 40 tests failed"), "{}", done.stderr);

    // The same on nodes of one process, from a configuration that names a fleet.
    let (told, done) = run(&spinor, &["--local", "6", "--data", "local", &example("fleet.yaml")]).await;
    assert_fleet(&told, &done);
    for process in nodes.into_iter().chain([front]) {
        drained(process).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_handed_to_the_embedded_process_whose_nodes_do_it() {
    let spinor = Spinor::new(&own(""));
    let process = up(&spinor, &["--node", "left", "--node", "right"]).await;
    std::fs::write(spinor.join("two.yaml"), "- targets: [left, right]\n  jobs:\n  - RUN: echo hello\n").unwrap();
    let (told, done) = run(&spinor, &["two.yaml"]).await;
    assert_eq!((done.status.code(), &told["run"]["succeeded"]), (Some(0), &json!(true)), "{done:?}");
    assert_eq!(told["nodes"].as_array().map(Vec::len), Some(2), "{told}");
    drained(process).await;
}
