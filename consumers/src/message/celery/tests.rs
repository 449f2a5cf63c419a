//! Each field of a message of Celery's, and each way to be wrong.

use jiff::Timestamp;
use spinor_executors::{HeaderValue, Headers};

use crate::message::{Message, Properties, Rubbish, attempt_of, decode, encode, header, kind_of};

const ID: &str = "0192d5a1-8f3c-7a10-9d55-0a1b2c3d4e5f";

fn text(text: &str) -> HeaderValue {
    HeaderValue::Text(text.to_owned())
}

/// As Celery 5.5 sends it.
fn message(body: &str) -> Message {
    let limits = HeaderValue::List(vec![HeaderValue::Null, HeaderValue::Null]);
    let headers: Headers = [
        ("lang", text("py")),
        ("task", text("images.thumbnail")),
        ("id", text(ID)),
        ("shadow", HeaderValue::Null),
        ("eta", HeaderValue::Null),
        ("expires", HeaderValue::Null),
        ("group", HeaderValue::Null),
        ("retries", HeaderValue::Int(0)),
        ("timelimit", limits),
        ("root_id", text(ID)),
        ("parent_id", HeaderValue::Null),
        ("argsrepr", text("('a.png',)")),
        ("kwargsrepr", text("{}")),
        ("origin", text("gen1@web")),
        ("ignore_result", HeaderValue::Bool(false)),
        ("replaced_task_nesting", HeaderValue::Int(0)),
        ("stamped_headers", HeaderValue::Null),
        ("stamps", HeaderValue::Table(Default::default())),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    let properties = Properties {
        correlation_id: Some(ID.to_owned()),
        reply_to: Some("replies".to_owned()),
        priority: Some(6),
        content_type: Some("application/json".to_owned()),
        headers,
        ..Properties::default()
    };
    Message { properties, body: body.to_owned().into() }
}

const EMBED: &str = r#"{"callbacks": null, "errbacks": null, "chain": null, "chord": null}"#;

fn call(args: &str, kwargs: &str) -> Message {
    message(&format!("[{args}, {kwargs}, {EMBED}]"))
}

fn with(name: &str, value: HeaderValue) -> Message {
    let mut message = call("[]", "{}");
    message.properties.headers.insert(name.to_owned(), value);
    message
}

fn read(message: &Message) -> Result<spinor_executors::Job, Rubbish> {
    decode(message, "images", Some("default"), Timestamp::UNIX_EPOCH).map(|decoded| decoded.job)
}

#[test]
fn every_field_is_read() -> Result<(), Box<dyn std::error::Error>> {
    let mut full = call(r#"["a.png", 123456789012345678901234567890]"#, r#"{"width": 3}"#);
    let root = "0192d5a1-0000-7a10-9d55-0a1b2c3d4e5f";
    let limits = HeaderValue::List(vec![HeaderValue::Int(60), HeaderValue::Float(1.5)]);
    for (name, value) in [
        ("eta", text("2030-01-31T12:00:00.250000+02:00")),
        ("expires", text("2030-02-01T12:00:00")),
        ("retries", HeaderValue::Int(2)),
        ("timelimit", limits),
        ("root_id", text(root)),
        ("parent_id", text(root)),
        ("group", text("g-1")),
        ("x-tenant", text("blue")),
    ] {
        full.properties.headers.insert(name.to_owned(), value);
    }
    let decoded = decode(&full, "images", None, Timestamp::UNIX_EPOCH)?;
    assert!(!decoded.unnamed && !decoded.journaled);
    let job = decoded.job;
    assert_eq!((job.id.to_string().as_str(), job.kind.as_str(), job.attempt), (ID, "images.thumbnail", 3));
    assert_eq!(job.args.text(), r#"{"args":["a.png", 123456789012345678901234567890],"kwargs":{"width": 3}}"#);
    assert_eq!(job.due, Some("2030-01-31T10:00:00.25Z".parse()?));
    assert_eq!(job.expires_at, Some("2030-02-01T12:00:00Z".parse()?));
    assert_eq!(job.timeout.map(|one| (one.soft.as_millis(), one.hard.as_millis())), Some((1500, 60_000)));
    assert_eq!(
        (job.reply_to.as_deref(), job.correlation_id.as_deref(), job.priority),
        (Some("replies"), Some(ID), Some(6))
    );
    let kept: Vec<&str> = job.headers.keys().map(String::as_str).collect();
    assert_eq!(kept, ["group", "id", "origin", "parent_id", "root_id", "task", "x-tenant"]);
    // A copy of ours says the same, as far as it is carried.
    let mut copied = decode(&encode(&job, false), "images", None, Timestamp::UNIX_EPOCH)?.job;
    copied.due = job.due;
    assert_eq!(copied, job);
    Ok(())
}

#[test]
fn what_is_known_without_reading_the_rest_is_the_same() -> Result<(), Rubbish> {
    let message = with("retries", HeaderValue::Int(1));
    let job = read(&message)?;
    assert_eq!(attempt_of(&message, "images"), Some((job.id, 0, 2)));
    assert_eq!(kind_of(&message.properties), Some("images.thumbnail"));
    Ok(())
}

#[test]
fn an_id_that_is_no_uuid_becomes_one_and_is_kept() -> Result<(), Rubbish> {
    let mut message = with("id", text("order-7"));
    message.properties.id = Some("something else".to_owned());
    let job = read(&message)?;
    assert_eq!(job.external_id.as_deref(), Some("order-7"));
    assert_eq!(attempt_of(&message, "images"), Some((job.id, 0, 1)));
    assert_eq!(job.headers.get("id"), Some(&text("order-7")));
    Ok(())
}

#[test]
fn kwargs_alone_are_the_args_unless_they_look_like_a_call() -> Result<(), Rubbish> {
    for (args, kwargs, expected) in [
        ("[]", r#"{"width": 3}"#, r#"{"width": 3}"#),
        ("[]", "{}", "{}"),
        ("[1]", "{}", r#"{"args":[1],"kwargs":{}}"#),
        ("[]", r#"{"args":1,"kwargs":2}"#, r#"{"args":[],"kwargs":{"args":1,"kwargs":2}}"#),
    ] {
        assert_eq!(read(&call(args, kwargs))?.args.text(), expected);
    }
    Ok(())
}

#[test]
fn one_time_limit_counts_as_both_and_none_leaves_those_of_the_kind() -> Result<(), Rubbish> {
    let (null, ten) = (HeaderValue::Null, HeaderValue::Int(10));
    for (hard, soft, expected) in [
        (&null, &null, None),
        (&HeaderValue::Int(0), &null, None),
        (&ten, &null, Some((10, 10))),
        (&null, &ten, Some((10, 10))),
        (&ten, &HeaderValue::Int(20), Some((10, 10))),
    ] {
        let job = read(&with("timelimit", HeaderValue::List(vec![hard.clone(), soft.clone()])))?;
        assert_eq!(job.timeout.map(|one| (one.soft.as_secs(), one.hard.as_secs())), expected);
    }
    Ok(())
}

#[test]
fn who_ignores_the_result_gets_no_reply_on_any_copy() -> Result<(), Rubbish> {
    let job = read(&with("ignore_result", HeaderValue::Bool(true)))?;
    assert_eq!((job.reply_to.as_deref(), encode(&job, false).properties.reply_to), (None, None));
    Ok(())
}

#[test]
fn a_field_that_is_wrong_is_named() {
    let list = |one: HeaderValue| HeaderValue::List(vec![one, HeaderValue::Null]);
    for (name, value) in [
        ("task", HeaderValue::Null),
        ("task", text("")),
        ("task", HeaderValue::Int(1)),
        ("id", HeaderValue::Null),
        ("id", HeaderValue::Int(7)),
        ("eta", text("soon")),
        ("eta", HeaderValue::Int(5)),
        ("expires", text("2030-13-01T00:00:00")),
        ("expires", HeaderValue::Float(5.0)),
        ("retries", HeaderValue::Int(-1)),
        ("retries", HeaderValue::Int(i64::MAX)),
        ("retries", text("2")),
        ("timelimit", HeaderValue::Int(3)),
        ("timelimit", HeaderValue::List(vec![])),
        ("timelimit", list(HeaderValue::Int(-1))),
        ("timelimit", list(HeaderValue::Float(f64::NAN))),
        ("timelimit", list(HeaderValue::Float(1e300))),
        ("timelimit", list(HeaderValue::Bool(true))),
        ("compression", text("application/x-gzip")),
        ("compression", HeaderValue::Int(1)),
        ("spinor-attempt", text("two")),
    ] {
        let said = read(&with(name, value.clone())).map(|_| ()).map_err(|why| why.0);
        assert!(said.as_ref().is_err_and(|why| why.contains(&format!("`{name}`"))), "{name} {value:?}: {said:?}");
    }
    for other in ["application/x-python-serialize", "application/x-yaml", "application/data"] {
        let mut message = call("[]", "{}");
        message.properties.content_type = Some(other.to_owned());
        assert!(read(&message).is_err_and(|why| why.0.contains("content_type") && why.0.contains(other)));
    }
}

#[test]
fn a_body_that_is_wrong_or_asks_for_more_is_refused_by_name() {
    for (body, part) in [
        ("", "[args, kwargs, embed]"),
        ("{}", "[args, kwargs, embed]"),
        ("[[], {}]", "2 elements"),
        ("[[], {}, {}, {}]", "4 elements"),
        ("[{}, {}, {}]", "`args`"),
        ("[[], [], {}]", "`kwargs`"),
        ("[[], {}, 3]", "`embed`"),
        (r#"[[], {}, {"callbacks": [{"task": "t"}]}]"#, "`link`"),
        (r#"[[], {}, {"errbacks": [{"task": "t"}]}]"#, "`link_error`"),
        (r#"[[], {}, {"chain": [{"task": "t"}]}]"#, "a chain is not honoured"),
        (r#"[[], {}, {"chord": {"task": "t"}}]"#, "a chord is not honoured"),
        (r#"[[], {}, {"later": 1}]"#, "`embed.later`"),
        ("\u{80}\u{2}", "[args, kwargs, embed]"),
    ] {
        let said = read(&message(body)).map(|_| ()).map_err(|why| why.0);
        assert!(said.as_ref().is_err_and(|why| why.contains(part)), "{body}: {said:?}");
    }
    for nothing in [r#"{"chain": [ ], "chord": { }}"#, "null"] {
        assert!(read(&message(&format!("[[], {{}}, {nothing}]"))).is_ok());
    }
}

#[test]
fn protocol_1_says_what_to_set_and_a_type_of_its_own_is_no_message_of_celerys() -> Result<(), Rubbish> {
    let body = format!(r#"{{"task": "t", "id": "{ID}", "args": [], "kwargs": {{}}}}"#);
    let first = Message { properties: Properties::default(), body: body.into() };
    let said = decode(&first, "images", None, Timestamp::UNIX_EPOCH).map(|_| ());
    assert!(said.is_err_and(|why| why.0.contains("task_protocol")));
    let mut ours = call("[]", "{}");
    ours.properties.kind = Some("noop".to_owned());
    assert_eq!(read(&ours)?.kind, "noop");
    let stray = HeaderValue::Text("x".to_owned());
    let plain = Message {
        properties: Properties { headers: [("task".to_owned(), stray)].into(), ..Properties::default() },
        body: "1".into(),
    };
    assert_eq!(read(&plain)?.kind, "default");
    assert!(!encode(&read(&call("[]", "{}"))?, false).properties.headers.contains_key(header::EXPIRES_AT));
    Ok(())
}
