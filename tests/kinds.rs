//! What is known of kinds: args that no version of their program takes are refused before they are published.

use std::time::Duration;

use serde_json::{Value, json};
use spinor_consumers::{
    marks::StateCell,
    state::{Beat, StateTarget, Subject},
};
use uuid::Uuid;

use crate::support::{eventually, front::Front, scratch::Scratch};

const KIND: &str = "image.resize";

struct Stage(Front);

impl Stage {
    async fn new() -> Self {
        let scratch = Scratch::new("kinds");
        let target = StateTarget::Sqlite(scratch.join("state.db"));
        Self(Front::start(scratch, "", target).await)
    }

    /// A program tells this of the kind, as its consumer would.
    async fn tells(&self, program: &str, schema: Value) -> Uuid {
        let form = Uuid::new_v5(&Uuid::NAMESPACE_OID, schema.to_string().as_bytes());
        let subject = Subject::Served { kind: KIND.to_owned(), form };
        let told = json!({"program": program, "schema": schema});
        self.0.state.set_mark(&subject, told, "test", None).await.expect("it is told");
        self.0.marks.load(&StateCell::new(self.0.state.clone().into())).await;
        form
    }

    async fn alive(&self, forms: &[Uuid]) {
        let forms = forms.iter().map(|form| (KIND.to_owned(), *form)).collect();
        let beat =
            Beat { consumer: "g@h-1".into(), group: "g".into(), kinds: vec![KIND.into()], forms, ..Beat::default() };
        self.0.state.beat(&beat).await.expect("a beat");
    }

    async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.0.local("POST", &format!("/api/v1/{path}"), body.to_string().as_bytes()).await
    }

    async fn publish(&self, args: Value) -> (u16, Value) {
        self.post("jobs", &json!({"kind": KIND, "args": args})).await
    }

    async fn accepts(&self, args: Value) -> bool {
        self.publish(args).await.0 == 201
    }
}

#[tokio::test]
async fn args_that_no_version_alive_takes_are_refused_with_their_field_and_others_are_not() {
    let stage = Stage::new().await;
    assert!(stage.accepts(json!(7)).await, "nobody told a schema");
    let old = stage
        .tells("images 1", json!({"type": "object", "required": ["path"], "properties": {"path": {"type": "string"}}}))
        .await;

    // One job, one of many, one of a run: each is named, and nothing was published.
    let (status, problem) = stage.publish(json!({"path": 7})).await;
    assert_eq!((status, &problem["field"]), (422, &json!("args.path")), "{problem}");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("spinor kinds show image.resize")));
    let good = json!({"kind": KIND, "args": {"path": "a"}});
    let (status, problem) = stage.post("jobs", &json!([good, good, {"kind": KIND}])).await;
    assert_eq!((status, &problem["field"]), (422, &json!("[2].args.path")), "{problem}");
    let member = |name: &str, args: Value| json!({"name": name, "kind": KIND, "needs": ["first"], "args": args});
    let run = |args: Value| json!({"members": [{"name": "first", "kind": "noop"}, member("second", args)]});
    let (status, problem) = stage.post("runs", &run(json!({"path": [1]}))).await;
    assert_eq!((status, &problem["field"]), (422, &json!("members[1].args.path")), "{problem}");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("`second`")), "{problem}");
    let (status, answer) = stage.post("runs", &run(json!({"path": {"$from": "first"}}))).await;
    assert_eq!(status, 201, "its value is not there yet: {answer}");
    assert!(stage.accepts(json!({"path": "a"})).await);

    // A deploy is under way: what one of both versions takes is taken.
    let new = stage.tells("images 2", json!({"type": "object", "required": ["url"]})).await;
    stage.alive(&[old, new]).await;
    assert!(stage.accepts(json!({"path": "a"})).await && stage.accepts(json!({"url": "a"})).await);
    let (status, problem) = stage.publish(json!({})).await;
    assert_eq!((status, &problem["field"]), (422, &json!("args.url")), "{problem}");
    stage.alive(&[new]).await;
    let gone = async || !stage.accepts(json!({"path": "a"})).await;
    eventually("the old version to count no more", Duration::from_secs(20), gone).await;
    // One whose word is not known here may take anything.
    stage.alive(&[new, Uuid::nil()]).await;
    eventually("the newest to count", Duration::from_secs(20), async || stage.accepts(json!({})).await).await;

    // A schema that makes no sense refuses nothing, and is shown.
    let broken = stage.tells("images 3", json!({"type": 7})).await;
    stage.alive(&[broken]).await;
    eventually("the broken one to be alone", Duration::from_secs(20), async || stage.accepts(json!(7)).await).await;
    let (_, row) = stage.0.local("GET", "/api/v1/kinds/image.resize", b"").await;
    assert_eq!((&row["program"], &row["schemas"][0]["consumers"]), (&json!("images 3"), &json!(["g@h-1"])), "{row}");
    assert!(row["schemas"][0]["trouble"].as_str().is_some_and(|why| why.contains("/type")), "{row}");
    assert_eq!((&row["schemas"][1]["program"], &row["schemas"][1]["trouble"]), (&json!("images 2"), &Value::Null));
    stage.0.end().await;
}

#[tokio::test]
async fn args_that_a_kind_of_spinors_own_does_not_take_are_refused_with_their_field() {
    let stage = Stage::new().await;
    for (kind, args, field) in [
        ("command", json!({"argv": ["true", 1]}), Some("args.argv[1]")),
        ("command", json!({"argv": []}), Some("args.argv")),
        ("command", json!({"shel": "true"}), Some("args.shel")),
        ("command", json!(null), Some("args.argv")),
        ("command", json!({"shell": "true", "env": {"A": 1}}), Some("args.env.A")),
        ("command", json!({"argv": [], "shell": "true", "cwd": null}), None),
        ("http", json!({"method": "GET"}), Some("args.url")),
        ("http", json!({"url": "http://h/", "expect": [200, [300, 399]], "body": [1]}), None),
        ("wait", json!({"seconds": "1"}), Some("args.seconds")),
        ("wait", json!({}), Some("args.seconds")),
        ("wait", json!({"ms": 1}), None),
        ("noop", json!(["anything"]), None),
    ] {
        let (status, answer) = stage.post("jobs", &json!({"kind": kind, "args": args})).await;
        assert_eq!(answer["field"].as_str(), field, "{kind} {args}: {status} {answer}");
        assert_eq!(status, if field.is_some() { 422 } else { 201 }, "{answer}");
    }
    // Another version serves it, and may take more.
    let version = "0.0.0".to_owned();
    let beat =
        Beat { consumer: "g@h-1".into(), group: "g".into(), kinds: vec!["wait".into()], version, ..Beat::default() };
    stage.0.state.beat(&beat).await.expect("a beat");
    let job = json!({"kind": "wait", "args": {"hours": 1}});
    eventually("the other version to count", Duration::from_secs(20), async || stage.post("jobs", &job).await.0 == 201)
        .await;
    let (_, row) = stage.0.local("GET", "/api/v1/kinds/wait", b"").await;
    assert!(row["schema"]["properties"]["ms"].is_object(), "{row}");
    stage.0.end().await;
}
