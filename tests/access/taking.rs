//! What a bounded role does not get at by another way: an id, a key, a run, a kind of the house, a secret.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use spinor::api::Asked;
use spinor_consumers::{
    broker::Broker as _,
    entry::{Entry, RunReport},
    marks::StateCell,
    results::AuditFilter,
    state::Subject,
};
use spinor_executors::Outcome;
use uuid::Uuid;

use super::Stage;
use crate::support::{eventually, eventually_some};

const BOUNDED: &str = "operator:quiet";
const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_bounded_role_takes_over_no_job_by_its_id_its_key_its_run_or_its_kind() {
    let stage = Stage::new(&[&[BOUNDED], &["admin"]]).await;
    let by = async |path: &str, body: Value| stage.by(BOUNDED, Method::POST, path, Some(body)).await;
    let admin = async |path: &str, body: Value| stage.by("admin", Method::POST, path, Some(body)).await;
    let theirs = Uuid::now_v7();
    let key = |key: &str, on: &str| json!({"key": key, "on_conflict": on});
    let job = json!({"id": theirs, "kind": "pay", "args": {"card": 7}, "unique": key("order", "reject")});
    assert_eq!(admin("/jobs", job).await.0, 201);
    eventually("it to be on record", SOON, async || stage.front.results.job(theirs).await.unwrap().is_some()).await;

    // Its key: whoever replaces it ends it.
    let replacing = |name: &str| json!({"kind": "noop", "queue": "quiet", "unique": key(name, "replace")});
    let (status, refused) = by("/jobs", replacing("order")).await;
    assert_eq!((status, &refused["field"]), (403, &json!("unique.on_conflict")), "{refused}");
    assert!(stage.front.results.job(theirs).await.unwrap().is_some_and(|record| !record.row.state.is_final()));

    // Its id: before its end, while it waits in the database, and once it was reported under another queue.
    let taking = |id: Uuid| json!({"id": id, "kind": "noop", "queue": "quiet"});
    let (status, refused) = by("/jobs", taking(theirs)).await;
    assert_eq!((status, &refused["field"]), (403, &json!("id")), "{refused}");
    let (_, delayed) = admin("/jobs", json!({"kind": "pay", "in": "1h"})).await;
    let delayed: Uuid = delayed["id"].as_str().unwrap().parse().unwrap();
    assert_eq!(by("/jobs", taking(delayed)).await.0, 403);
    let own = Uuid::now_v7();
    assert_eq!(by("/jobs", taking(own)).await.0, 201, "an id that is nobody's");
    stage.front.work("quiet", Outcome::failed("out of paper")).await;
    eventually("its end to be on record", SOON, async || {
        stage.front.results.job(own).await.unwrap().is_some_and(|record| record.row.state.is_final())
    })
    .await;
    assert_eq!(by("/jobs", taking(own)).await.0, 200, "its own id again, which has ended");
    let planned = Uuid::new_v5(&own, b"the next instant of somebody's trigger");
    assert_eq!(by("/jobs", taking(planned)).await.0, 403);
    // Who has the whole house publishes it there: the line of the record says so from then on.
    assert_eq!(admin("/jobs", taking(theirs)).await.0, 201);
    stage.front.work("quiet", Outcome::failed("out of paper")).await;
    eventually("the line to tell of the other queue", SOON, async || {
        stage.front.results.job(theirs).await.unwrap().is_some_and(|record| record.row.queue == "quiet")
    })
    .await;
    let path = format!("/jobs/{theirs}");
    assert_eq!(stage.by(BOUNDED, Method::GET, &path, None).await.0, 403, "it is what it was published as");
    assert_eq!(by(&format!("{path}/replay"), json!({})).await.0, 403);
    assert_eq!(by(&format!("{path}/cancel"), json!({})).await.0, 403);
    let (_, order) = by("/replays", json!({"queue": "quiet", "kind": "noop"})).await;
    assert!(order["id"].is_string(), "{order}");

    // A run, by jobs that say that they are of it.
    let run = Uuid::now_v7();
    let line = Entry::Run(Box::new(announced(run))).line();
    stage.front.broker.report(vec![line]).await.unwrap();
    let of_run = json!({"kind": "noop", "queue": "quiet", "run": run});
    let refused = eventually_some("the run to be on record", SOON, async || {
        let (status, refused) = by("/jobs", of_run.clone()).await;
        (status == 403).then_some(refused)
    })
    .await;
    assert_eq!(refused["field"], json!("run"));

    // Kinds of the house do more than their queue tells.
    let house = |kind: &str| json!({"kind": kind, "queue": "quiet"});
    for kind in ["spinor.each", "spinor.plan"] {
        assert_eq!(by("/jobs", house(kind)).await.0, 403, "{kind}");
        assert_eq!(by(&format!("/jobs/{own}/replay"), json!({"kind": kind})).await.0, 403, "{kind}");
        let trigger = json!({"name": "mine", "every": "1h", "job": house(kind)});
        assert_eq!(by("/triggers", trigger).await.0, 403, "{kind}");
    }
    let told = json!({"kind": "noop", "queue": "quiet", "reply_to": "default"});
    assert_eq!(by("/triggers", json!({"name": "mine", "every": "1h", "job": told})).await.0, 403, "its report, too");
    for name in ["socket", "api.token", "Nobody", "api"] {
        let (status, refused) = admin("/tokens", json!({"name": name, "roles": ["viewer"]})).await;
        assert_eq!((status, &refused["field"]), (422, &json!("name")), "{name}");
    }
}

fn announced(run: Uuid) -> RunReport {
    let (name, started) = ("both", "2026-01-01T00:00:00Z");
    serde_json::from_value(json!({"run": run, "name": name, "members": 2, "steps": 0, "started": started})).unwrap()
}

#[tokio::test]
async fn another_kind_does_not_uncover_the_secrets_of_a_job() {
    let stage = Stage::new(&[&["operator"]]).await;
    let schema = json!({"type": "object", "properties": {"password": {"type": "string", "secret": true}}});
    let subject = Subject::Served { kind: "mail.send".to_owned(), form: Uuid::now_v7() };
    let told = json!({"program": "mails 1", "schema": schema});
    stage.front.state.set_mark(&subject, told, "test", None).await.unwrap();
    stage.front.marks.load(&StateCell::new(stage.front.state.clone().into())).await;
    let by = async |path: &str, body: Value| stage.by("operator", Method::POST, path, Some(body)).await;
    let (_, job) = by("/jobs", json!({"kind": "mail.send", "args": {"password": "open-sesame"}})).await;
    let id = job["id"].as_str().unwrap();
    stage.front.work("default", Outcome::failed("out of paper")).await;
    eventually("its end to be on record", SOON, async || {
        stage.front.results.job(id.parse().unwrap()).await.unwrap().is_some_and(|record| record.row.state.is_final())
    })
    .await;
    let (status, refused) = by(&format!("/jobs/{id}/replay"), json!({"kind": "noop"})).await;
    assert_eq!((status, &refused["field"]), (422, &json!("args")), "{refused}");
    assert_eq!(by(&format!("/jobs/{id}/replay"), json!({"kind": "noop", "args": {}})).await.0, 201);
}

#[tokio::test]
async fn a_stream_of_events_ends_with_the_token_of_its_reader_and_an_action_is_done_though_its_caller_hangs_up() {
    let stage = Stage::new(&[&["viewer"], &["operator"]]).await;
    let client = &stage.front.client;
    let events = stage.ask(Method::GET, "/api/v1/events").bearer_auth(&stage.tokens["viewer"]).send().await.unwrap();
    assert_eq!(events.status(), 200);
    client.remove_token("t0", &Asked::default()).await.unwrap();
    tokio::time::timeout(SOON, events.bytes()).await.expect("the stream ends").unwrap();

    // It looks for the job for a while.
    let path = format!("/api/v1/jobs/{}/replay", Uuid::now_v7());
    let asking = stage.ask(Method::POST, &path).bearer_auth(&stage.tokens["operator"]);
    let mut hung_up = tokio::task::JoinSet::new();
    hung_up.spawn(asking.send());
    let filter = AuditFilter { who: Some("t1".to_owned()), ..AuditFilter::default() };
    let outcome = async || client.actions(&filter).await.ok()?.rows.first().map(|row| row.outcome.clone());
    eventually("it to have begun", SOON, async || outcome().await.is_some()).await;
    hung_up.abort_all();
    eventually("its end to be written down", SOON, async || {
        outcome().await.is_some_and(|outcome| outcome.starts_with("404"))
    })
    .await;
}
