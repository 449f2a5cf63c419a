//! A role for some kinds: what it may touch, what it sees, and what a bulk action leaves.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use spinor::api::new_job::NewJob;
use spinor_executors::Outcome;
use uuid::Uuid;

use super::Stage;
use crate::support::eventually;

const BOUNDED: &str = "operator:default:mail.*";

async fn failed(stage: &Stage, kind: &str) -> Uuid {
    let id = stage.front.client.publish(&NewJob::new(kind)).await.unwrap().id;
    stage.front.work("default", Outcome::failed("out of paper")).await;
    stage.front.client.wait(id, Duration::from_secs(20), true).await.unwrap();
    id
}

#[tokio::test]
async fn somebody_with_a_role_for_some_kinds_touches_and_reads_these_alone_and_is_told_what_was_left() {
    let stage = Stage::new(&[&[BOUNDED], &["viewer", BOUNDED]]).await;
    let by = async |method, path: &str, body| stage.by(BOUNDED, method, path, body).await;
    let job = |kind: &str| Some(json!({"kind": kind, "by": "somebody else"}));

    let (theirs, ours) = (failed(&stage, "order.pay").await, failed(&stage, "mail.send").await);
    let publish = |kind: &str| Some(json!({"kind": kind}));
    assert_eq!(by(Method::POST, "/jobs", publish("mail.send")).await.0, 201);
    let (status, refused) = by(Method::POST, "/jobs", publish("order.pay")).await;
    assert_eq!(status, 403);
    let detail = refused["detail"].as_str().unwrap();
    assert!(detail.contains("publisher") && detail.contains("order.pay") && detail.contains(BOUNDED), "{detail}");
    let reply = Some(json!({"kind": "mail.send", "reply_to": "quiet"}));
    assert_eq!(by(Method::POST, "/jobs", reply).await.0, 403, "its report goes to a queue of others");
    let members = json!([{"name": "a", "job": {"kind": "mail.send"}}, {"name": "b", "job": {"kind": "order.pay"}}]);
    let (status, refused) = by(Method::POST, "/runs", Some(json!({"name": "both", "members": members}))).await;
    assert!(status == 403 || status == 422, "{refused}");

    let kinds = |list: &Value| -> Vec<String> {
        let rows = list["rows"].as_array().unwrap();
        rows.iter().map(|row| row["kind"].as_str().unwrap().to_owned()).collect()
    };
    let (_, list) = by(Method::GET, "/jobs?state=failed", None).await;
    assert_eq!(kinds(&list), ["mail.send"]);
    let (_, all) = stage.by(&format!("viewer {BOUNDED}"), Method::GET, "/jobs?state=failed", None).await;
    assert_eq!(kinds(&all).len(), 2, "a viewer of all sees all");
    let (_, groups) = by(Method::GET, "/failures", None).await;
    assert_eq!(groups["groups"].as_array().unwrap().len(), 1);
    for path in ["", "/wait", "/why"] {
        assert_eq!(by(Method::GET, &format!("/jobs/{theirs}{path}"), None).await.0, 403, "{path}");
        assert_eq!(by(Method::GET, &format!("/jobs/{ours}{path}"), None).await.0, 200, "{path}");
    }
    let many = Some(json!({"jobs": [theirs, ours], "timeout": "1s"}));
    let (_, waited) = by(Method::POST, "/jobs/wait", many).await;
    assert_eq!(waited["ended"].as_array().unwrap().len(), 1, "{waited}");
    assert_eq!(by(Method::GET, "/events", None).await.0, 403);
    assert_eq!(by(Method::POST, &format!("/jobs/{theirs}/replay"), None).await.0, 403);
    assert_eq!(by(Method::POST, &format!("/jobs/{ours}/replay"), job("order.pay")).await.0, 403, "another kind");
    assert_eq!(by(Method::POST, "/queues/default/pause", None).await.0, 403, "all kinds wait then");

    let wanted = |more: &str| Some(json!({"queue": "default", "dry_run": more == "dry"}));
    let (status, counted) = by(Method::POST, "/replays", wanted("dry")).await;
    assert_eq!((status, &counted), (200, &json!({"total": 1, "left": 1})));
    let (status, ordered) = by(Method::POST, "/replays", wanted("")).await;
    assert_eq!((status, &ordered["left"], &ordered["total"]), (201, &json!(1), &json!(1)));
    assert_eq!(ordered["by"], json!("t0"), "its own name, whatever it says");
    let trigger = |kind: &str| Some(json!({"name": "nightly", "every": "1h", "job": {"kind": kind}}));
    assert_eq!(by(Method::POST, "/triggers", trigger("order.pay")).await.0, 403);
    let (status, added) = by(Method::POST, "/triggers", trigger("mail.send")).await;
    assert_eq!((status, &added["changed_by"]), (200, &json!("t0")));
    eventually("others to have a trigger that is not seen", Duration::from_secs(20), async || {
        let others = json!({"name": "others", "every": "1h", "job": {"kind": "order.pay"}});
        stage.front.local("POST", "/api/v1/triggers", others.to_string().as_bytes()).await.0 < 500
    })
    .await;
    let (_, triggers) = by(Method::GET, "/triggers", None).await;
    assert_eq!(triggers["triggers"].as_array().unwrap().len(), 1, "{triggers}");
    assert_eq!(by(Method::POST, "/triggers/others/pause", None).await.0, 403);
}
