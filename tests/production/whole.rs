//! Everything configured: a job published is run, recorded, found.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use spinor_consumers::{
    broker::{
        Broker as _, Event, Topic,
        rabbitmq::{RabbitMq, RabbitSettings},
    },
    results::JobFilter,
};
use spinor_executors::State;
use uuid::Uuid;

use super::{PATIENCE, ask, client, drained, installation, up};
use crate::support::{eventually, eventually_some, servers, site::Site};

const MANY: usize = 1000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_jobs_of_another_process_end_and_are_all_in_sql_and_in_the_search_index() {
    let site = Site::new().await;
    let mut spinor = installation(&site, "");
    spinor.set("SPINOR_SEARCH", &servers::search_url());
    let process = up(&spinor, &[]).await;
    let many = MANY.to_string();
    let ended = ask(&spinor, &["publish", "noop", "--queue", "one", "--count", &many, "--wait"]).await;
    assert_eq!((&ended["succeeded"], &ended["pending"]), (&json!(MANY), &json!(0)), "{ended}");
    // Who was told of the end finds it at once, in the list and in SQL.
    let listed = ask(&spinor, &["jobs", "ls", "--state", "succeeded", "--limit", &many]).await;
    let ids: BTreeSet<Uuid> =
        listed["rows"].as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap().parse().unwrap()).collect();
    assert_eq!(ids.len(), MANY);
    let sql = "SELECT COUNT(*) FROM jobs WHERE state = 'succeeded'";
    let (count,): (i64,) = sqlx::query_as(sql).fetch_one(&mut site.sql().await).await.unwrap();
    assert_eq!(count, MANY as i64);
    eventually("all to be found by the search server", PATIENCE, async || found(&ids).await == MANY).await;
    assert_eq!(site.ready("dead").await, 0);
    let link = ask(&spinor, &["status"]).await["link"]["state"].clone();
    assert_eq!(link, "up");
    assert_eq!(process.stderr().matches(r#""level":"ERROR""#).count(), 0, "{}", process.stderr());
    drained(process).await;
}

/// How many of these jobs the search server counts as succeeded, in its own words.
async fn found(ids: &BTreeSet<Uuid>) -> usize {
    spinor_consumers::install_tls_provider();
    let question = json!({"query": {"bool": {"filter": [
        {"ids": {"values": ids.iter().map(Uuid::to_string).collect::<Vec<_>>()}},
        {"term": {"state": "succeeded"}},
    ]}}});
    let url = format!("{}/spinor-jobs-*/_count", servers::search_url());
    let Ok(answer) = reqwest::Client::new().post(url).json(&question).send().await else { return 0 };
    let answer: Value = answer.json().await.unwrap_or_default();
    answer["count"].as_u64().and_then(|count| usize::try_from(count).ok()).unwrap_or_default()
}

/// What the page on the message shows, with a kind that leaves something to look at.
const PIKA: &str = r#"
import sys, pika
connection = pika.BlockingConnection(pika.URLParameters(sys.argv[1]))
channel = connection.channel()
channel.confirm_delivery()
channel.basic_publish("", sys.argv[2] + ".jobs.one", b'{"shell": "echo from python"}',
                      pika.BasicProperties(type="command"), mandatory=True)
channel.basic_publish("", sys.argv[2] + ".jobs.one", b"x" * (9 << 20), pika.BasicProperties(type="noop"), mandatory=True)
connection.close()
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_of_a_python_client_with_type_and_body_alone_runs_and_is_recorded() {
    let site = Site::new().await;
    let spinor = installation(&site, "");
    let process = up(&spinor, &[]).await;
    // Debian's own Python has Debian's pika; another Python may be first in the path.
    let python = spinor.start_program("/usr/bin/python3", &["-c", PIKA, &site.broker, &site.prefix]);
    python.finish(PATIENCE).await.expect_success();
    let client = client(&spinor);
    let filter = JobFilter { kind: Some("command".to_owned()), ..JobFilter::default() };
    let row = eventually_some("the message to be a job that ended", PATIENCE, async || {
        client.jobs(&filter).await.unwrap().rows.into_iter().find(|row| row.state.is_final())
    })
    .await;
    assert_eq!(row.state, State::Succeeded, "{row:?}");
    let record = client.job(row.id).await.unwrap();
    let outputs: Vec<_> = record.attempts.iter().map(|attempt| attempt.report.stdout.head.as_str()).collect();
    assert_eq!(outputs, ["from python\n"]);
    assert_eq!(client.jobs(&filter).await.unwrap().rows.len(), 1, "one message is one job");
    // One that could not be sent again is buried, and comes only once.
    let reason = eventually_some("the large message to be a dead letter", PATIENCE, async || {
        let letters = ask(&spinor, &["dead", "ls"]).await;
        letters["rows"].as_array()?.iter().find(|letter| letter["kind"] == "noop")?["reason"]
            .as_str()
            .map(str::to_owned)
    })
    .await;
    assert!(reason.contains("the body has 9437184 bytes"), "{reason}");
    drained(process).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_can_be_shown_right_after_its_publish_and_before_the_first_consumer_comes() {
    let site = Site::new().await;
    let spinor = installation(&site, "");
    let front = up(&spinor, &["--only", "api,recorder"]).await;
    let mut ids = Vec::new();
    for _ in 0..10 {
        let id = ask(&spinor, &["publish", "noop", "--queue", "one"]).await["id"].as_str().unwrap().to_owned();
        let shown = ask(&spinor, &["jobs", "show", &id]).await;
        assert_eq!((&shown["id"], &shown["state"]), (&json!(id), &json!("queued")), "{shown}");
        ids.push(id);
    }
    let queues = ask(&spinor, &["queues", "ls"]).await;
    let one = queues.as_array().unwrap().iter().find(|queue| queue["name"] == "one").unwrap();
    assert_eq!((&one["ready"], &one["consumers"]), (&json!(10), &json!(0)), "{queues}");
    let why = ask(&spinor, &["jobs", "why", &ids[0]]).await;
    assert_eq!(why["reason"], "no_consumer", "{why}");
    let consumer = up(&spinor, &["--only", "consumer", "--data", "consumer"]).await;
    for id in &ids {
        spinor.run(&["jobs", "wait", id, "--timeout", "60s"]).await.expect_success();
    }
    for process in [&front, &consumer] {
        let log = process.stderr();
        assert!(!log.contains(r#""level":"ERROR""#) && !log.contains(r#""level":"WARN""#), "{log}");
    }
    drained(consumer).await;
    drained(front).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_is_told_by_a_recorder_in_another_process() {
    let site = Site::new().await;
    let spinor = installation(&site, "");
    let api = up(&spinor, &["--only", "api"]).await;
    let recorder = up(&spinor, &["--only", "recorder", "--data", "recorder"]).await;
    let consumer = up(&spinor, &["--only", "consumer", "--data", "consumer"]).await;
    let settings = RabbitSettings { prefix: site.prefix.clone(), ..RabbitSettings::new(site.broker.clone()) };
    let broker = RabbitMq::connect(settings).await.unwrap();
    let mut told = broker.listen(Topic::Recorded).await.unwrap();
    let publish = ["publish", "wait", "--queue", "one", "--args", r#"{"ms": 500}"#, "--wait"];
    let done = ask(&spinor, &publish).await;
    assert_eq!(done["report"]["state"], "succeeded", "{done}");
    let id: Uuid = done["id"].as_str().unwrap().parse().unwrap();
    let mut heard = Vec::new();
    while !matches!(heard.last(), Some(Event::Recorded { jobs }) if jobs.contains(&id)) {
        heard.push(tokio::time::timeout(PATIENCE, told.next()).await.unwrap().unwrap());
    }
    assert!(matches!(&heard[0], Event::Watched { jobs } if *jobs == [id]), "{heard:?}");
    broker.close().await;
    for process in [consumer, recorder, api] {
        drained(process).await;
    }
}
