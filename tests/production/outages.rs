//! Servers that are not there, go away, or refuse us.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::{PATIENCE, drained, installation, own, up};
use crate::support::{
    eventually,
    process::Spinor,
    proxy::CutProxy,
    servers::{self, PrivateServer},
    site::Site,
    soak,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_stopped_in_the_middle_of_jobs_and_started_again_has_them_all() {
    let database = PrivateServer::sql().await;
    let site = Site::on(&servers::rabbitmq_url(), database.url()).await;
    let spinor = installation(&site, "");
    let process = up(&spinor, &[]).await;
    let publish = ["publish", "noop", "--queue", "one", "--count", "1000"];
    let sql = "SELECT COUNT(*) FROM jobs WHERE state = 'succeeded'";
    let count = async || -> i64 { sqlx::query_scalar(sql).fetch_one(&mut site.sql().await).await.unwrap() };
    let first = spinor.start(&publish);
    eventually("the first to be recorded", PATIENCE, async || count().await > 0).await;
    database.stop().await;
    first.finish(PATIENCE).await.expect_success();
    // Jobs are taken and run without it.
    let bursts = soak::or(1, 60);
    soak::each_second(bursts, async || drop(spinor.run(&publish).await.expect_success())).await;
    process.says("The results database is down", PATIENCE).await;
    process.says("Runs wait", PATIENCE).await;
    eventually("all jobs to have run", PATIENCE, async || site.ready("jobs.one").await == 0).await;
    database.restart().await;
    let all = 1000 * (1 + i64::from(bursts));
    eventually("all to be recorded", PATIENCE, async || count().await == all).await;
    let attempts: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM attempts").fetch_one(&mut site.sql().await).await.unwrap();
    assert_eq!(attempts, all, "no job ran twice");
    assert_eq!(site.ready("dead").await, 0);
    process.says("The results database answers again.", PATIENCE).await;
    process.says("Runs go on", PATIENCE).await;
    let log = process.stderr();
    // Each part that uses the database may have met its loss, and says so once.
    let mut loud: Vec<&str> = log.lines().filter(|line| !line.contains(r#""level":"INFO""#)).collect();
    for part in
        ["The results database is down", "State does not answer", "Runs wait", "Triggers wait", "Delayed jobs wait"]
    {
        let said = loud.extract_if(.., |line| line.contains(r#""level":"WARN""#) && line.contains(part)).count();
        assert!(said <= 1, "one line at the loss for each part: {log}");
    }
    assert!(loud.is_empty(), "nothing else: {log}");
    for part in ["The results database answers again.", "Runs go on"] {
        assert_eq!(log.matches(part).count(), 1, "one at the return for each part: {log}");
    }
    drained(process).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_killed_in_the_middle_of_jobs_and_started_again_loses_none_and_each_is_recorded_once() {
    let server = PrivateServer::start("rabbitmq").await;
    let site = Site::on(server.url(), &servers::mysql_url()).await;
    let spinor = installation(&site, "");
    let process = up(&spinor, &[]).await;
    // RabbitMQ 3.10 writes down the name of a new queue some seconds late; an orderly restart does it now.
    server.restart().await;
    process.says("The broker is back.", PATIENCE).await;
    let all = soak::or(2000, 20_000);
    let args = ["--args", r#"{"ms": 5}"#, "--count", &all.to_string()];
    spinor.run(&[&["publish", "wait", "--queue", "one"], &args[..]].concat()).await.expect_success();
    let count = async |sql| -> i64 { sqlx::query_scalar(sql).fetch_one(&mut site.sql().await).await.unwrap() };
    let succeeded = "SELECT COUNT(*) FROM jobs WHERE state = 'succeeded'";
    for moment in [all / 7, all / 2] {
        eventually("some to be recorded", PATIENCE, async || count(succeeded).await > moment).await;
        server.kill9().await;
        soak::each_second(soak::or(1, 60), async || {}).await;
        server.restart().await;
    }
    eventually("all to be recorded", PATIENCE, async || count(succeeded).await == all).await;
    eventually("the queue to be empty", PATIENCE, async || site.ready("jobs.one").await == 0).await;
    assert_eq!(count("SELECT COUNT(*) FROM jobs").await, all);
    let unexplained = "SELECT COUNT(*) FROM (SELECT job FROM attempts WHERE report NOT LIKE '%\"maybe_rerun\":true%' \
                       GROUP BY job HAVING COUNT(*) > 1) AS twice";
    assert_eq!(count(unexplained).await, 0, "no job ran twice without a mark");
    let log = process.stderr();
    assert_eq!(log.matches("The broker is lost").count(), 3, "one line for each loss: {log}");
    assert_eq!(log.matches(r#""level":"ERROR""#).count(), 0, "{log}");
    drained(process).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_not_there_at_the_start_is_waited_for_with_one_line() {
    let site = Site::new().await;
    let (door, knocks) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), Arc::new(AtomicUsize::new(0)));
    let address = door.local_addr().unwrap().to_string();
    let server = host_of(&site.broker).to_owned();
    let mut tasks = JoinSet::new();
    tasks.spawn(open_after_three(door, server.clone(), Arc::clone(&knocks)));
    let spinor = installation(&site, "");
    let process = spinor.start(&["up", "--broker", &site.broker.replace(&server, &address)]);
    eventually("it to try for the third time", PATIENCE, async || knocks.load(Ordering::Relaxed) >= 3).await;
    process.says("spinor is up", PATIENCE).await;
    let log = process.stderr();
    let lines: Vec<&str> = log.lines().filter(|line| !line.contains(r#""level":"INFO""#)).collect();
    assert!(lines.len() == 1 && lines[0].contains("The broker does not answer; waiting for it."), "{log}");
    spinor.run(&["publish", "noop", "--queue", "one", "--wait", "--timeout", "60s"]).await.expect_success();
    assert!(process.stderr().contains("The broker answers."), "{}", process.stderr());
    drained(process).await;
}

fn password_of(url: &str) -> &str {
    url.split('@').next().and_then(|user| user.rsplit(':').next()).expect("a password")
}

fn host_of(url: &str) -> &str {
    url.rsplit_once('@').and_then(|(_, rest)| rest.split('/').next()).expect("a host")
}

/// Hangs up on the first three, then leads to the server.
async fn open_after_three(door: TcpListener, server: String, knocks: Arc<AtomicUsize>) {
    let mut connections = JoinSet::new();
    while let Ok((mut client, _)) = door.accept().await {
        if knocks.fetch_add(1, Ordering::Relaxed) < 3 {
            continue;
        }
        let server = server.clone();
        connections.spawn(async move {
            let mut server = TcpStream::connect(server).await.expect("the server answers");
            let _ = copy_bidirectional(&mut client, &mut server).await;
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_password_ends_the_start_with_a_clear_error_that_does_not_show_it() {
    let site = Site::new().await;
    for (flag, url, word) in [
        ("--broker", with_password(&site.broker), "user or password is refused"),
        ("--results", with_password(&site.results), "`results_password` in the secrets file"),
    ] {
        let spinor = installation(&site, "");
        let done = spinor.start(&["up", flag, &url]).finish(PATIENCE).await;
        let all = format!("{}{}", done.stdout, done.stderr);
        assert_eq!(done.code(), 2, "{all}");
        assert!(all.contains(word) && !all.contains("spinor is up"), "{all}");
        assert!(!all.contains(WRONG), "{all}");
    }
}

const WRONG: &str = "hush-hush-wrong";

fn with_password(url: &str) -> String {
    let (start, rest) = url.split_once("://").expect("a URL");
    let (user, place) = rest.split_once('@').expect("a user");
    format!("{start}://{}:{WRONG}@{place}", user.split(':').next().expect("a name"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_starts_while_the_database_is_down_runs_jobs_all_the_same() {
    let site = Site::new().await;
    let spinor = installation(&site, "");
    let front = up(&spinor, &["--only", "api,recorder"]).await;
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let nobody = site.results.replace(host_of(&site.results), &closed.to_string());
    let consumer = up(&spinor, &["--only", "consumer", "--data", "consumer", "--results", &nobody]).await;
    spinor.run(&["publish", "noop", "--queue", "one", "--wait", "--timeout", "60s"]).await.expect_success();
    let log = consumer.stderr();
    assert_eq!(log.matches("The results database does not answer; waiting for it.").count(), 1, "{log}");
    drained(consumer).await;
    drained(front).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recorder_that_is_the_first_on_a_broker_declares_what_it_reads() {
    let site = Site::new().await;
    let spinor = installation(&site, "");
    let recorder = up(&spinor, &["--only", "recorder", "--data", "recorder"]).await;
    let rest = up(&spinor, &["--only", "api,consumer"]).await;
    spinor.run(&["publish", "noop", "--queue", "one", "--wait", "--timeout", "60s"]).await.expect_success();
    drained(rest).await;
    drained(recorder).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn told_to_stop_while_it_waits_for_a_broker_it_stops() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let spinor = Spinor::new(&format!("broker = 'amqp://u:hush@{closed}/%2f'\n{}", own("")));
    let mut process = spinor.start(&["up"]);
    process.says("waiting for it", PATIENCE).await;
    process.terminate();
    assert_eq!(process.wait(Duration::from_secs(30)).await.code(), Some(3), "{}", process.stderr());
    assert!(!process.stderr().contains("hush"), "{}", process.stderr());
    let status = spinor.run(&["status"]).await;
    assert_eq!(status.code(), 3);
}

/// The bound is 15 s; the rest is for a loaded machine.
const PUBLISH: Duration = Duration::from_secs(25);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publish_waits_for_a_broker_that_is_away_says_so_and_fails_at_its_bound() {
    let site = Site::new().await;
    let proxy = CutProxy::start(host_of(&site.broker)).await;
    let spinor = installation(&site, "");
    let mut process = up(&spinor, &["--broker", &proxy.url(&site.broker)]).await;
    proxy.cut();
    process.says("The broker is lost", PATIENCE).await;
    let place = format!("waiting for the broker at {}: ", proxy.address());
    for more in [&[][..], &["--count", "3"]] {
        let done = spinor.start(&[&["publish", "noop", "--queue", "one"], more].concat()).finish(PUBLISH).await;
        assert_eq!(done.code(), 1, "{done:?}");
        assert!(done.stderr.contains(&place), "{done:?}");
        assert!(done.stderr.contains("the broker does not accept it now"), "{done:?}");
        assert!(!done.stderr.contains(password_of(&site.broker)), "{done:?}");
    }
    // One that comes back in time takes it.
    let waiting = spinor.start(&["publish", "noop", "--queue", "one", "--wait", "--timeout", "60s"]);
    waiting.says(&place, PATIENCE).await;
    proxy.heal();
    waiting.finish(PATIENCE).await.expect_success();
    process.terminate();
    assert_eq!(process.wait(PATIENCE).await.code(), Some(0), "{}", process.stderr());
}
