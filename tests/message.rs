//! `docs/message.schema.json` and `docs/message.md` against the code: the same fields, the same
//! headers, and every job the code makes fits the schema.

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;
use serde_json::{Map, Value};
use spinor_executors::{BlobRef, HeaderValue, Job, Json, RetryPolicy, Sha256, Timeout, Unique};
use uuid::Uuid;

const SCHEMA: &str = include_str!("../docs/message.schema.json");
const PAGE: &str = include_str!("../docs/message.md");
const CODE: &str = include_str!("../consumers/src/message.rs");

fn schema() -> Value {
    serde_json::from_str(SCHEMA).expect("the schema is JSON")
}

fn full() -> Job {
    let mut job = Job::new("image.resize", "images", Json::new(r#"{"w":[1,2]}"#).expect("JSON"));
    job.replay = 1;
    job.expires_at = Some(Timestamp::now());
    job.timeout = Some(Timeout { soft: Duration::from_secs(3), hard: Duration::from_secs(4) });
    job.retry = Some(RetryPolicy::new(5, Duration::from_secs(10), 2.0, 0.2).expect("a policy"));
    job.run = Some(Uuid::now_v7());
    (job.next, job.inputs) = (true, true);
    for field in [
        &mut job.member,
        &mut job.reply_to,
        &mut job.correlation_id,
        &mut job.app_id,
        &mut job.trace,
        &mut job.external_id,
    ] {
        *field = Some("text".to_owned());
    }
    job.priority = Some(9);
    job.unique = Some(Unique { key: "order-7".to_owned(), until_end: true });
    job.args_ref = Some(BlobRef { sha256: Sha256([7; 32]), size: 300_000 });
    job.limits = vec!["shop".to_owned()];
    job.headers.insert("x-tenant".to_owned(), HeaderValue::Text("blue".to_owned()));
    job
}

fn keys(map: &Map<String, Value>) -> BTreeSet<&str> {
    map.keys().map(String::as_str).collect()
}

/// What of `value` breaks `schema`, as far as our schema uses the language.
fn broken(schema: &Value, value: &Value, place: &str) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(kind) = schema.get("type").and_then(Value::as_str) {
        let fits = match kind {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "boolean" => value.is_boolean(),
            "string" => value.is_string(),
            "integer" => value.is_u64() || value.is_i64(),
            "number" => value.is_number(),
            other => panic!("the schema uses the type {other}, which this check does not know"),
        };
        if !fits {
            found.push(format!("{place}: expected {kind}, got {value}"));
        }
    }
    if let (Some(least), Some(number)) = (schema.get("minimum").and_then(Value::as_f64), value.as_f64())
        && number < least
    {
        found.push(format!("{place}: {number} is below {least}"));
    }
    let (Some(object), Some(properties)) = (value.as_object(), schema.get("properties").and_then(Value::as_object))
    else {
        return found;
    };
    for name in schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        if !object.contains_key(name) {
            found.push(format!("{place}: {name} is missing"));
        }
    }
    for (name, inner) in object {
        match properties.get(name) {
            Some(schema) => found.extend(broken(schema, inner, &format!("{place}.{name}"))),
            None => found.push(format!("{place}: {name} is not in the schema")),
        }
    }
    found
}

#[test]
fn the_schema_has_the_fields_of_a_job_and_no_others() {
    let schema = schema();
    let whole = serde_json::to_value(full()).expect("a job is JSON");
    let properties = schema["properties"].as_object().expect("properties");
    assert_eq!(keys(properties), keys(whole.as_object().expect("an object")));
    assert_eq!(broken(&schema, &whole, "job"), Vec::<String>::new());
    let least = serde_json::to_value(Job::new("noop", "default", Json::null())).expect("a job is JSON");
    assert_eq!(broken(&schema, &least, "job"), Vec::<String>::new());
}

#[test]
fn a_field_is_required_exactly_when_the_code_requires_it() {
    let schema = schema();
    let required: BTreeSet<_> =
        schema["required"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    let whole = serde_json::to_value(full()).expect("a job is JSON");
    for name in whole.as_object().expect("an object").keys() {
        let mut without = whole.clone();
        without.as_object_mut().expect("an object").remove(name);
        let refused = serde_json::from_value::<Job>(without).is_err();
        assert_eq!(refused, required.contains(name.as_str()), "{name}");
    }
}

#[test]
fn the_page_names_every_header_of_the_code_and_no_other() {
    let named = |text: &str, quote: char| -> BTreeSet<String> {
        text.split(quote)
            .filter(|word| word.strip_prefix("spinor-").is_some_and(|rest| !rest.is_empty()))
            .filter(|word| word.chars().all(|letter| letter.is_ascii_lowercase() || letter == '-'))
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(named(PAGE, '`'), named(CODE, '"'));
}
