//! Ending: SIGTERM once, SIGTERM twice, and with the broker out of reach.

use std::{collections::BTreeSet, time::Duration};

use serde_json::json;

use super::{PATIENCE, ask, client, drained, installation, own, up};
use crate::support::{
    eventually,
    process::{Process, Spinor},
    proxy::{CutProxy, Direction},
    site::Site,
    witness,
};

/// So many run at once.
const SLOTS: usize = 4;

/// The promise: so long after the end of a process none of its children is left.
const GONE: Duration = Duration::from_secs(2);

/// Publishes jobs that touch a file, run until another file is there, and succeed.
async fn publish_held(spinor: &Spinor, count: usize) {
    let script = "echo $SPINOR_RUN > started-$$; while ! test -e release; do sleep 0.05; done";
    let args = json!({"shell": script}).to_string();
    ask(spinor, &["publish", "command", "--queue", "one", "--args", &args, "--count", &count.to_string()]).await;
}

fn started(spinor: &Spinor) -> usize {
    let entries = std::fs::read_dir(spinor.path()).unwrap().flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("started-")).count()
}

/// The marks of the jobs that run.
fn marks(spinor: &Spinor) -> Vec<String> {
    let entries = std::fs::read_dir(spinor.path()).unwrap().flatten();
    let files = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("started-"));
    files.map(|file| format!("SPINOR_RUN={}", std::fs::read_to_string(file.path()).unwrap().trim())).collect()
}

/// All that a process started, however deep.
fn descendants(parent: u32) -> BTreeSet<witness::Child> {
    let mut all = witness::children(parent);
    let mut next: Vec<u32> = all.iter().map(|(pid, _)| *pid).collect();
    while let Some(pid) = next.pop() {
        let more = witness::children(pid);
        next.extend(more.iter().map(|(pid, _)| *pid));
        all.extend(more);
    }
    all
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_sigterm_ends_at_once_with_1_and_what_ran_goes_back() {
    let site = Site::new().await;
    let spinor = patient(&site);
    let front = up(&spinor, &["--only", "api,recorder"]).await;
    let mut consumer = up(&spinor, &["--only", "consumer", "--data", "consumer"]).await;
    publish_held(&spinor, SLOTS).await;
    running(&spinor, &consumer).await;
    let marks = marks(&spinor);
    assert_eq!(marks.len(), SLOTS);
    let children = descendants(consumer.id());
    // The guardian, and of each job a shell; most also have the program it waits in.
    assert!(children.len() > SLOTS, "{children:?}");
    consumer.terminate();
    consumer.says("Consumer draining.", PATIENCE).await;
    consumer.terminate();
    assert_eq!(consumer.wait(PATIENCE).await.code(), Some(1), "{}", consumer.stderr());
    eventually("its children to be gone", GONE, async || witness::alive(&children).is_empty()).await;
    eventually("none of its jobs' processes to be left", GONE, async || {
        marks.iter().all(|mark| witness::marked(mark).is_empty())
    })
    .await;
    assert!(consumer.stderr().contains("ended at once"), "{}", consumer.stderr());
    eventually("what ran to be back", PATIENCE, async || site.ready("jobs.one").await == 4).await;
    drained(front).await;
}

/// A grace period that is longer than any test's patience: whoever waits for it, waits in vain.
fn patient(site: &Site) -> Spinor {
    Spinor::new(&format!("{}{}", site.toml(), own("").replace("'20s'", "'1h'")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_whose_broker_is_cut_off_ends_with_1_says_how_many_jobs_and_they_run_elsewhere() {
    out_of_reach(CutProxy::cut, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_whose_broker_is_silent_ends_with_1_says_how_many_jobs_and_they_run_elsewhere() {
    out_of_reach(silent, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_sigterm_does_not_wait_for_a_silent_broker() {
    out_of_reach(silent, true).await;
}

/// Both ways stalled: the connection is there, and nothing comes.
fn silent(proxy: &CutProxy) {
    proxy.stall(Direction::ToServer);
    proxy.stall(Direction::ToClient);
}

async fn out_of_reach(fault: impl Fn(&CutProxy), twice: bool) {
    let site = Site::new().await;
    let address = site.broker.rsplit_once('@').map(|(_, rest)| rest.split('/').next().unwrap()).unwrap();
    let proxy = CutProxy::start(address).await;
    let spinor = patient(&site);
    let front = up(&spinor, &["--only", "api,recorder"]).await;
    let flags = ["--only", "consumer", "--data", "consumer", "--broker", &proxy.url(&site.broker)];
    let mut consumer = up(&spinor, &flags).await;
    publish_held(&spinor, SLOTS).await;
    running(&spinor, &consumer).await;
    fault(&proxy);
    consumer.terminate();
    consumer.says("Consumer draining.", PATIENCE).await;
    std::fs::write(spinor.join("release"), "").unwrap();
    if twice {
        consumer.terminate();
    }
    let status = consumer.wait(PATIENCE).await;
    assert_eq!(status.code(), Some(1), "{}", consumer.stderr());
    let why = if twice { "ended at once" } else { "did not confirm how 4 jobs ended; it still has them" };
    eventually("the reason to be told", PATIENCE, async || consumer.stderr().contains(why)).await;
    // The broker learns of the end when the connection breaks.
    proxy.cut();
    let second = up(&spinor, &["--only", "consumer", "--data", "consumer"]).await;
    eventually("the jobs to run elsewhere", PATIENCE, async || states(&site).await == [("succeeded".to_owned(), 4)])
        .await;
    drained(second).await;
    drained(front).await;
}

async fn states(site: &Site) -> Vec<(String, i64)> {
    let sql = "SELECT state, COUNT(*) FROM jobs GROUP BY state ORDER BY state";
    sqlx::query_as(sql).fetch_all(&mut site.sql().await).await.unwrap()
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
