//! What a kind calls secret, and what was done: the one is shown to nobody, the other is not forgotten.

use std::{sync::Arc, time::Duration};

use reqwest::Method;
use serde_json::json;
use spinor::api::Spool;
use spinor_consumers::{
    broker::{Address, Broker, Settlement, Verdict},
    marks::StateCell,
    results::{AuditFilter, Results, ResultsTarget},
    state::Subject,
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Stage;
use crate::support::{eventually, eventually_some};

const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_field_that_a_kind_calls_secret_is_shown_to_nobody_and_runs_as_it_was_published() {
    let stage = Stage::new(&[&["admin"]]).await;
    let schema = json!({"type": "object", "properties": {"password": {"type": "string", "secret": true}}});
    let subject = Subject::Served { kind: "mail.send".to_owned(), form: Uuid::now_v7() };
    let told = json!({"program": "mails 1", "schema": schema});
    stage.front.state.set_mark(&subject, told, "test", None).await.unwrap();
    stage.front.marks.load(&StateCell::new(stage.front.state.clone().into())).await;
    let by = async |method, path: &str, body| stage.by("admin", method, path, body).await;

    let args = json!({"to": "ann", "password": "open-sesame"});
    let job = json!({"kind": "mail.send", "args": args, "in": "1h"});
    let (status, accepted) = by(Method::POST, "/jobs", Some(json!({"kind": "mail.send", "args": args}))).await;
    assert_eq!(status, 201, "{accepted}");
    let path = format!("/jobs/{}", accepted["id"].as_str().unwrap());
    let (_, record) = by(Method::GET, &path, None).await;
    assert_eq!(record["job"]["args"], json!({"to": "ann", "password": "***"}));
    let (_, delayed) = by(Method::POST, "/jobs", Some(job)).await;
    let delayed = format!("/jobs/{}", delayed["id"].as_str().unwrap());
    let trigger = json!({"name": "nightly", "every": "1h", "job": {"kind": "mail.send", "args": args}});
    let (status, added) = by(Method::POST, "/triggers", Some(trigger)).await;
    assert_eq!((status, &added["asked"]["job"]["args"]["password"]), (200, &json!("***")), "{added}");

    let mut subscription = stage.front.broker.consume(&Address::Work("default".to_owned()), 1).await.unwrap();
    let delivery = subscription.next().await.unwrap();
    assert!(String::from_utf8_lossy(&delivery.message.body).contains("open-sesame"), "it runs as it was published");
    let dead = Settlement { verdict: Verdict::Ack, ..Settlement::default() };
    stage.front.broker.settle(delivery, dead).await.unwrap();

    for path in [path.as_str(), &delayed, "/jobs", "/delayed", "/triggers", "/triggers/nightly", "/dead"] {
        let (_, shown) = by(Method::GET, path, None).await;
        assert!(!shown.to_string().contains("open-sesame"), "{path}: {shown}");
    }
    let found = async |words: &str| by(Method::GET, &format!("/jobs?text={words}"), None).await.1["rows"].clone();
    eventually("the job to be found by its args", SOON, async || found("ANN%20mail").await[0]["kind"] == "mail.send")
        .await;
    assert_eq!(found("open-sesame").await, json!([]), "whoever guesses a secret is not told that it is right");
    let masked = Some(json!({"args": {"to": "bob", "password": "***"}}));
    let (status, refused) = by(Method::PATCH, &delayed, masked).await;
    assert_eq!((status, &refused["field"]), (422, &json!("args")), "{refused}");
}

#[tokio::test]
async fn what_is_done_is_written_down_with_who_and_from_where_though_the_database_is_down_meanwhile() {
    let stage = Stage::new(&[&["viewer"], &["publisher:default"]]).await;
    let asked = json!({"by": "ann", "why": "the disk is full"}).to_string();
    assert_eq!(stage.front.local("POST", "/api/v1/queues/default/pause", asked.as_bytes()).await.0, 200);
    assert_eq!(stage.by("viewer", Method::POST, "/queues/default/resume", None).await.0, 403);
    let job = Some(json!({"kind": "noop"}));
    assert_eq!(stage.by("publisher:default", Method::POST, "/jobs", job).await.0, 201);
    // Of nobody one is written down a minute; who has no session ends none.
    for _ in 0..3 {
        assert_eq!(stage.ask(Method::DELETE, "/api/v1/dead?all=true").send().await.unwrap().status(), 401);
        assert_eq!(stage.ask(Method::DELETE, "/api/v1/session").send().await.unwrap().status(), 204);
    }
    let client = &stage.front.client;
    let filter = AuditFilter::default();
    let rows = eventually_some("the actions to be listed", SOON, async || {
        client.actions(&filter).await.ok().map(|page| page.rows).filter(|rows| rows.len() == 6)
    })
    .await;
    let told: Vec<String> = rows.iter().map(|row| format!("{} {} {}", row.who, row.how, row.action)).collect();
    let [removed, published, refused, paused, ..] = &rows[..] else { panic!("{told:?}") };
    assert_eq!(
        told[..4],
        ["nobody nobody removeDead", "t1 token publishJobs", "t0 token resumeQueue", "ann socket pauseQueue"]
    );
    assert_eq!((paused.target.as_str(), paused.outcome.as_str()), ("/queues/default/pause", "done: 200"));
    assert!(paused.place.starts_with("user ") && published.place.starts_with("127.0.0.1:"), "{paused:?} {published:?}");
    assert!(refused.outcome.starts_with("403: ") && refused.outcome.contains("operator"), "{}", refused.outcome);
    assert!(removed.outcome.starts_with("401: ") && removed.target == "/dead?all=true", "{removed:?}");
    let of_ann = AuditFilter { who: Some("ann".to_owned()), ..filter.clone() };
    assert_eq!(client.actions(&of_ann).await.unwrap().rows.len(), 1);

    // The database is away: the action is not kept waiting, and is in the file until it is back.
    stage.front.results.close().await;
    assert_eq!(stage.front.local("POST", "/api/v1/queues/default/resume", asked.as_bytes()).await.0, 200);
    let data = stage.front.scratch.join("data");
    let left = || ["audit.log", "audit.sending"].iter().any(|name| data.join(name).exists());
    assert!(left(), "it waits");
    // Another process, on a directory of a dead one.
    let other = stage.front.scratch.join("other");
    std::fs::create_dir(&other).unwrap();
    let read = |name: &str| std::fs::read_to_string(data.join(name)).unwrap_or_default();
    // The line before the action may be on its way already, and the one after it not yet.
    std::fs::write(other.join("audit.log"), read("audit.sending") + &read("audit.log")).unwrap();
    let results = Results::open(&ResultsTarget::Sqlite(data.join("results.db"))).await.unwrap();
    let (spool, stop) = (Arc::new(Spool::new(&other)), CancellationToken::new());
    let mut sending = JoinSet::new();
    sending.spawn({
        let (spool, results, stop) = (Arc::clone(&spool), results.clone(), stop.clone());
        async move { spool.run(&results, stop).await }
    });
    eventually("what was done meanwhile to be in the database", SOON, async || {
        let rows = results.actions(&filter).await.unwrap().rows;
        rows.len() == 7 && rows[0].action == "resumeQueue" && rows[0].outcome == "done: 200"
    })
    .await;
    assert!(!other.join("audit.log").exists() && !other.join("audit.sending").exists());
    stop.cancel();
    sending.join_next().await.unwrap().unwrap();
    results.close().await;
}
