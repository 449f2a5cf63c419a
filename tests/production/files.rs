//! A consumer that has no file descriptors left.

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use serde_json::json;
use spinor::api::new_job::{NewJob, Retry};
use spinor_executors::Json;

use super::{PATIENCE, client, drained, installation, up};
use crate::support::{eventually, process::Process, site::Site};

/// How many files a process may open beyond those it has.
fn may_open(process: &Process, more: Option<u64>) {
    let pid = Pid::from_raw(i32::try_from(process.id()).unwrap()).unwrap();
    let open = std::fs::read_dir(format!("/proc/{}/fd", process.id())).unwrap().count() as u64;
    let ours = getrlimit(Resource::Nofile);
    let current = more.map_or(ours.current, |more| Some(open + more));
    prlimit(Some(pid), Resource::Nofile, Rlimit { current, ..ours }).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_without_file_descriptors_fails_its_jobs_with_that_reason_and_goes_on_when_it_has_some() {
    let site = Site::new().await;
    let spinor = installation(&site, "");
    let front = up(&spinor, &["--only", "api,recorder"]).await;
    let consumer = up(&spinor, &["--only", "consumer", "--data", "consumer"]).await;
    let shell = ["publish", "command", "--queue", "one", "--args", r#"{"shell": "true"}"#, "--wait"];
    spinor.run(&shell).await.expect_success();
    may_open(&consumer, Some(0));
    let retry = Retry { max: 100, first: Some("1s".to_owned()), factor: Some(1.0), jitter: Some(0.0) };
    let job = NewJob {
        queue: Some("one".to_owned()),
        args: Some(Json::of(&json!({"shell": "true"})).unwrap()),
        retry: Some(retry),
        ..NewJob::new("command")
    };
    let published = client(&spinor).publish_batch(&vec![job; 10]).await.unwrap();
    assert!(published.jobs.iter().all(|job| job.problem.is_none()), "{published:?}");
    let count = async |sql| -> i64 { sqlx::query_scalar(sql).fetch_one(&mut site.sql().await).await.unwrap() };
    let told = "SELECT COUNT(*) FROM attempts WHERE report LIKE '%Too many open files%'";
    eventually("the reason to be told", PATIENCE, async || count(told).await >= 10).await;
    assert_eq!(count("SELECT COUNT(*) FROM jobs WHERE state = 'succeeded'").await, 1, "none of them could run");
    may_open(&consumer, None);
    let succeeded = "SELECT COUNT(*) FROM jobs WHERE state = 'succeeded'";
    eventually("all to run", PATIENCE, async || count(succeeded).await == 11).await;
    assert_eq!(site.ready("dead").await, 0);
    drained(consumer).await;
    drained(front).await;
}
