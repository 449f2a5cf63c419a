//! What is in the index and what a person finds there.

use jiff::Timestamp;
use serde_json::json;
use spinor_consumers::{entry::Entry, results::JobFilter, search::SearchIndex};
use spinor_executors::{Job, Json, Output, State};

use super::{Beside, SOON, feed, packs, settings};
use crate::{
    recorder::{
        Record, all_pages,
        entries::{job, report},
        newest_first,
    },
    support::{eventually, roads::Roads, servers},
};

fn ended(job: &Job, state: State) -> Entry {
    let mut end = report(job, state);
    end.whole = Some(Box::new(job.clone()));
    end.stdout = Output { head: "resized the giraffe\n".into(), bytes: 21, ..Output::default() };
    Entry::Report(Box::new(end))
}

#[tokio::test]
async fn an_older_word_never_overwrites_a_newer_one_and_the_month_of_creation_holds_the_job() {
    let settings = settings(&servers::search_url());
    let (record, roads, beside) = (Record::sqlite().await, Roads::open().await, Beside::new(&settings));
    let mut old = job();
    old.created = "2024-02-29T23:59:59.5Z".parse::<Timestamp>().unwrap();
    old.attempt = 2;
    packs(&roads, &[ended(&old, State::Succeeded)]).await;
    let running = feed(&roads, &settings, &record.results);
    eventually("the end to be indexed", SOON, async || running.view.metrics().packs == 1).await;
    old.attempt = 1;
    packs(&roads, &[Entry::Queued(Box::new(old.clone())), ended(&old, State::Retrying)]).await;
    eventually("the late words to be read", SOON, async || running.view.metrics().packs == 2).await;
    running.end().await;
    let documents = beside.documents().await;
    assert_eq!(documents.len(), 1);
    let (source, index) = (&documents[0]["_source"], documents[0]["_index"].as_str().unwrap());
    assert_eq!(index, format!("{}-2024.02", settings.prefix));
    assert_eq!((&source["state"], &source["attempt"]), (&json!("succeeded"), &json!(2)));
    assert_eq!(source["args"]["name"], json!("ä😀"));
    assert!((source["duration"].as_f64().unwrap() - 0.007).abs() < 1e-9);
    beside.clear().await;
}

#[tokio::test]
async fn words_filters_and_cursors_find_jobs_newest_first() {
    let settings = settings(&servers::search_url());
    let (record, roads, beside) = (Record::sqlite().await, Roads::open().await, Beside::new(&settings));
    let mut entries = Vec::new();
    let mut jobs = Vec::new();
    for number in 0..25 {
        let mut one = job();
        one.created = Timestamp::from_millisecond(1_790_000_000_000 + number / 3).unwrap();
        one.queue = if number < 5 { "mail" } else { "images" }.into();
        one.args = Json::new(format!("{{\"order\":{{\"number\":\"nr-{number}\"}}}}")).unwrap();
        entries.push(ended(&one, if number < 3 { State::Failed } else { State::Succeeded }));
        jobs.push(one);
    }
    let packed = packs(&roads, &entries).await;
    let running = feed(&roads, &settings, &record.results);
    eventually("all to be indexed", SOON, async || running.view.metrics().packs == packed).await;
    running.end().await;
    assert_eq!(beside.ids().await.len(), 25);
    let index = SearchIndex::new(&settings).unwrap();
    let count = async |words: &str, filter: JobFilter| index.jobs(words, &filter).await.unwrap().rows.len();
    let all = JobFilter::default();
    assert_eq!(count("", all.clone()).await, 25);
    assert_eq!(count("giraffe", all.clone()).await, 25);
    assert_eq!(count("giraffe slow", all.clone()).await, 3);
    assert_eq!(count("nr-17", all.clone()).await, 1);
    assert_eq!(count("elephant", all.clone()).await, 0);
    assert_eq!(count("giraffe", JobFilter { queue: Some("mail".into()), ..all.clone() }).await, 5);
    assert_eq!(count("", JobFilter { state: Some(State::Failed), queue: Some("mail".into()), ..all.clone() }).await, 3);
    assert_eq!(count("\"unclosed (and odd", all.clone()).await, 0);
    let tens = JobFilter { limit: 10, ..all.clone() };
    let rows = all_pages(tens, async |filter| index.jobs("giraffe", filter).await.unwrap()).await;
    newest_first(&rows, &jobs);
    let filter = JobFilter { cursor: Some("nonsense".into()), ..all };
    assert!(index.jobs("", &filter).await.is_err());
    beside.clear().await;
}

#[tokio::test]
async fn what_the_mapping_refuses_goes_without_args_and_then_not_at_all_and_its_neighbours_stay() {
    let settings = settings(&servers::search_url());
    let (record, roads, beside) = (Record::sqlite().await, Roads::open().await, Beside::new(&settings));
    // An index somebody made before us, in which a kind is a number.
    let strange = json!({"mappings": {"properties": {"kind": {"type": "integer"}}}});
    beside.ask("PUT", &format!("/{}-2020.01", settings.prefix), strange).await;
    let (mut refused, mut deep, plain) = (job(), job(), job());
    refused.created = "2020-01-15T00:00:00Z".parse().unwrap();
    deep.args = Json::new(format!("{}1{}", "{\"a\":".repeat(60), "}".repeat(60))).unwrap();
    packs(&roads, &[&refused, &deep, &plain].map(|job| ended(job, State::Succeeded))).await;
    let running = feed(&roads, &settings, &record.results);
    eventually("the pack to be acked", SOON, async || running.view.metrics().packs == 1).await;
    let metrics = running.view.metrics();
    running.end().await;
    assert_eq!((metrics.indexed, metrics.dropped), (2, 1));
    assert_eq!(beside.ids().await, [deep.id, plain.id].into());
    let documents = beside.documents().await;
    let stripped = documents.iter().find(|hit| hit["_id"] == json!(deep.id)).unwrap();
    // The one product refuses args so deep, the other takes them.
    assert_eq!(stripped["_source"].get("args").is_none(), metrics.stripped == 2, "{metrics:?}");
    assert!((1..=2).contains(&metrics.stripped));
    beside.clear().await;
}

#[tokio::test]
async fn a_month_that_is_past_is_dropped_whole_and_no_other_index_is() {
    let settings = settings(&servers::search_url());
    let (index, beside) = (SearchIndex::new(&settings).unwrap(), Beside::new(&settings));
    let named = |month: &str| format!("{}-{month}", settings.prefix);
    for month in ["2020.01", "2020.02", "2020.1", "notes"] {
        beside.ask("PUT", &format!("/{}", named(month)), serde_json::Value::Null).await;
    }
    let before = "2020-02-29T23:59:59Z".parse::<Timestamp>().unwrap();
    assert_eq!(index.drop_months_before(before).await.unwrap(), [named("2020.01")]);
    assert!(index.drop_months_before(before).await.unwrap().is_empty());
    for month in ["2020.02", "2020.1", "notes"] {
        beside.ask("DELETE", &format!("/{}", named(month)), serde_json::Value::Null).await;
    }
}
