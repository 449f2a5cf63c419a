//! The Python package and the reference executors: their own tests, the kit over each, the clients over a running Spinor.
//!
//! Owns the processes; what is asserted of Python is written in Python, in `executors/python/tests`. Debian's own Python
//! has Debian's pika and Celery, so the client of RabbitMQ and the stock application of Celery run there; all else runs
//! with the first Python in the path.

use std::{path::Path, time::Duration};

use crate::support::{
    process::{Process, Spinor},
    site::Site,
};

const PATIENCE: Duration = Duration::from_secs(120);

/// An installation whose Python finds the package in this tree.
fn installation(config: &str) -> Spinor {
    let mut spinor = Spinor::new(config);
    spinor.set("PYTHONPATH", &in_tree("executors/python")).set("PYTHONDONTWRITEBYTECODE", "1");
    spinor
}

fn in_tree(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path).display().to_string()
}

async fn up(spinor: &Spinor) -> Process {
    let process = spinor.start(&["up"]);
    process.says("spinor is up", PATIENCE).await;
    process
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_python_package_passes_its_own_tests() {
    let spinor = installation("");
    let package = in_tree("executors/python");
    let tests = format!("{package}/tests");
    let arguments = ["-W", "default", "-m", "unittest", "discover", "-s", &tests, "-t", &package];
    let done = spinor.start_program("python3", &arguments).finish(PATIENCE).await.expect_success();
    assert!(done.stderr.contains("\nRan ") && !done.stderr.contains("Ran 0 tests"), "{}", done.stderr);
    assert!(!done.stderr.contains("skipped"), "{}", done.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_reference_executors_in_shell_and_node_pass_the_conformance_kit() {
    let spinor = installation("");
    let mut programs = vec![("sh", "executor.sh")];
    // No server of the tests needs Node, so nothing installs it for this alone.
    match std::process::Command::new("node").arg("--version").output() {
        Ok(_) => programs.push(("node", "executor.mjs")),
        Err(error) => eprintln!("not checked: executors/examples/executor.mjs, for there is no Node here ({error})"),
    }
    for (language, program) in programs {
        let program = in_tree(&format!("executors/examples/{program}"));
        let arguments = ["-m", "spinor_jobs.conformance", "--json", "--", language, &program];
        let done = spinor.start_program("python3", &arguments).finish(PATIENCE).await.expect_success();
        let found: serde_json::Value = serde_json::from_str(&done.stdout).expect("the kit writes JSON");
        assert!(found["passed"] == true && found["count"]["ok"].as_u64() >= Some(20), "{}", done.stdout);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_python_clients_publish_wait_cancel_and_name_what_is_wrong() {
    let mut spinor = installation(
        "data = 'data'\n[consumer]\nslots = 8\ngrace = '2s'\n[api]\nlisten = '127.0.0.1:0'\ntoken = 'sesame'\n",
    );
    let process = up(&spinor).await;
    let said = process.stdout() + &process.stderr();
    let address = said.split_whitespace().find(|word| word.starts_with("http://127.0.0.1:")).expect("it says where");
    let data = spinor.join("data").display().to_string();
    spinor.set("SPINOR_TEST_ADDRESS", address).set("SPINOR_TEST_TOKEN", "sesame").set("SPINOR_DATA", &data);
    let live = in_tree("executors/python/tests/live/api.py");
    spinor.start_program("python3", &[&live]).finish(PATIENCE).await.expect_success();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_python_client_of_rabbitmq_publishes_confirmed_and_waits_for_replies() {
    let site = Site::new().await;
    let mut spinor =
        installation(&format!("{}data = 'data'\n[consumer]\nslots = 4\nkinds = ['*']\ngrace = '2s'\n", site.toml()));
    let process = up(&spinor).await;
    spinor.set("SPINOR_TEST_BROKER", &site.broker).set("SPINOR_TEST_PREFIX", &site.prefix);
    let live = in_tree("executors/python/tests/live/rabbit.py");
    spinor.start_program("/usr/bin/python3", &[&live]).finish(PATIENCE).await.expect_success();
    drop(process);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_in_python_are_served_by_a_consumer_from_publish_to_record() {
    let package = in_tree("executors/python");
    let mut spinor = installation(&format!(
        "data = 'data'\n[consumer]\nslots = 4\ngrace = '2s'\n[kinds.\"t.*\"]\nrun = ['python3', '-m', 'spinor_jobs', 'tests.jobs']\n\
         cwd = {package:?}\nenv = {{ PYTHONPATH = {package:?} }}\n"
    ));
    let process = up(&spinor).await;
    let data = spinor.join("data").display().to_string();
    spinor.set("SPINOR_DATA", &data);
    let live = in_tree("executors/python/tests/live/served.py");
    spinor.start_program("python3", &[&live]).finish(PATIENCE).await.expect_success();
    drop(process);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stock_celery_application_gets_every_result_from_a_python_executor() {
    let (site, package) = (Site::new().await, in_tree("executors/python"));
    let queue = format!("{}-shop", site.prefix);
    let mut spinor = installation(&format!(
        "{}data = 'data'\n[consumer]\nslots = 4\nqueues = [{queue:?}]\nkinds = ['shop.*']\ngrace = '2s'\n\
         [queues.{queue}]\nforeign = true\n[kinds.\"shop.*\"]\nrun = ['python3', '-m', 'spinor_jobs', 'tests.shop']\n\
         cwd = {package:?}\nenv = {{ PYTHONPATH = {package:?} }}\n",
        site.toml()
    ));
    // Spinor itself takes variables of its own name for keys.
    spinor.set("STOCK_BROKER", &site.broker).set("STOCK_QUEUE", &queue);
    // The queue is the application's: it is there when the first task was published.
    let application = spinor.start_program("/usr/bin/python3", &[&in_tree("executors/python/tests/live/stock.py")]);
    application.says("published", PATIENCE).await;
    let process = up(&spinor).await;
    application.finish(2 * PATIENCE).await.expect_success();
    let dead = spinor.run(&["dead", "ls", "--json"]).await.expect_success();
    assert_eq!(dead.stdout.matches("not honoured").count(), 2, "{}", dead.stdout);
    drop(process);
}
