//! Ending: SIGTERM once, SIGTERM twice, and with the broker out of reach.

use serde_json::json;

use super::{PATIENCE, ask, client, drained, installation, own, up};
use crate::support::{
    eventually,
    process::{Process, Spinor},
    proxy::CutProxy,
    servers,
    site::Site,
};

/// So many run at once.
const SLOTS: usize = 4;

/// Publishes jobs that touch a file, run until another file is there, and succeed.
async fn publish_held(spinor: &Spinor, count: usize) {
    let script = format!("touch started-$$; while ! test -e {}; do sleep 0.05; done", "release");
    let args = json!({"shell": script}).to_string();
    ask(spinor, &["publish", "command", "--queue", "one", "--args", &args, "--count", &count.to_string()]).await;
}

fn started(spinor: &Spinor) -> usize {
    let entries = std::fs::read_dir(spinor.path()).unwrap().flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("started-")).count()
}

async fn running(spinor: &Spinor, process: &Process) {
    let what = format!("jobs to run\n{}", process.stderr());
    eventually(&what, PATIENCE, async || started(spinor) == SLOTS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_lets_what_runs_end_hands_the_rest_back_and_exits_with_0() {
    let site = Site::new().await;
    let spinor = installation(&site, "");
    let front = up(&spinor, &["--only", "api,recorder"]).await;
    let mut consumer = up(&spinor, &["--only", "consumer", "--data", "consumer"]).await;
    publish_held(&spinor, 10).await;
    running(&spinor, &consumer).await;
    let queues = ask(&spinor, &["queues", "ls"]).await;
    let of_another_process = queues[0]["consumers"].as_u64() >= Some(1) && queues[0]["name"] == "one";
    assert!(of_another_process, "{queues}");
    consumer.terminate();
    consumer.says("Consumer draining.", PATIENCE).await;
    std::fs::write(spinor.join("release"), "").unwrap();
    assert_eq!(consumer.wait(PATIENCE).await.code(), Some(0), "{}", consumer.stderr());
    assert_eq!(started(&spinor), SLOTS, "nothing was started any more");
    eventually("what ran to be recorded", PATIENCE, async || {
        let states = states(&site).await;
        states == [("queued".to_owned(), 6), ("succeeded".to_owned(), 4)]
    })
    .await;
    eventually("the rest to be back", PATIENCE, async || site.ready("jobs.one").await == 6).await;
    let second = up(&spinor, &["--only", "consumer", "--data", "consumer"]).await;
    eventually("the rest to run", PATIENCE, async || states(&site).await == [("succeeded".to_owned(), 10)]).await;
    drained(second).await;
    drained(front).await;
}

async fn states(site: &Site) -> Vec<(String, i64)> {
    let sql = "SELECT state, COUNT(*) FROM jobs GROUP BY state ORDER BY state";
    sqlx::query_as(sql).fetch_all(&mut site.sql().await).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_sigterm_ends_at_once_and_what_ran_goes_back() {
    let site = Site::new().await;
    let spinor = installation(&site, "");
    let front = up(&spinor, &["--only", "api,recorder"]).await;
    // The grace period would be longer than the test's patience.
    spinor_grace(&spinor, &site);
    let mut consumer = up(&spinor, &["--only", "consumer", "--data", "consumer"]).await;
    publish_held(&spinor, SLOTS).await;
    running(&spinor, &consumer).await;
    consumer.terminate();
    consumer.says("Consumer draining.", PATIENCE).await;
    consumer.terminate();
    let status = consumer.wait(PATIENCE).await;
    assert!(status.code().is_some(), "it ended by itself: {status}");
    eventually("what ran to be back", PATIENCE, async || site.ready("jobs.one").await == 4).await;
    drained(front).await;
}

fn spinor_grace(spinor: &Spinor, site: &Site) {
    let text = format!("{}{}", site.toml(), own("").replace("'20s'", "'1h'"));
    std::fs::write(spinor.join("spinor.toml"), text).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_whose_broker_is_out_of_reach_ends_in_bounded_time_and_its_job_runs_elsewhere() {
    let mut site = Site::new().await;
    let url = servers::rabbitmq_url();
    let address = url.rsplit_once('@').map(|(_, rest)| rest.split('/').next().unwrap()).unwrap();
    let proxy = CutProxy::start(address).await;
    let spinor = installation(&site, "");
    let front = up(&spinor, &["--only", "api,recorder"]).await;
    let mut consumer = up(&spinor, &["--only", "consumer", "--data", "consumer", "--broker", &proxy.url(&url)]).await;
    publish_held(&spinor, SLOTS).await;
    running(&spinor, &consumer).await;
    proxy.cut();
    consumer.terminate();
    consumer.says("Consumer draining.", PATIENCE).await;
    std::fs::write(spinor.join("release"), "").unwrap();
    // Grace 20 s, and what closing may take; the patience is the bound.
    let status = consumer.wait(PATIENCE).await;
    assert!(status.code().is_some(), "it ended by itself: {status}");
    let second = up(&spinor, &["--only", "consumer", "--data", "consumer"]).await;
    eventually("the jobs to run elsewhere", PATIENCE, async || states(&site).await == [("succeeded".to_owned(), 4)])
        .await;
    drained(second).await;
    drained(front).await;
    site.broker = url;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_on_sqlite_with_a_remote_broker_need_nothing_else() {
    let site = Site::new().await;
    let remote = format!("broker = {:?}\nbroker_prefix = {:?}\n", site.broker, site.prefix);
    let spinor = Spinor::new(&format!("{remote}{}", own("")));
    let process = up(&spinor, &[]).await;
    spinor.run(&["publish", "noop", "--queue", "one", "--wait", "--timeout", "60s"]).await.expect_success();
    let rows = client(&spinor).jobs(&spinor_consumers::results::JobFilter::default()).await.unwrap().rows;
    assert_eq!(rows.len(), 1);
    assert!(spinor.join("data/results.db").exists());
    drained(process).await;
}
