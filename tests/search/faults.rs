//! The index down, busy, read-only, asking who we are: nothing else waits, and nothing is missing
//! afterwards.

use std::{collections::BTreeSet, time::Duration};

use serde_json::json;
use spinor_consumers::{
    broker::Address,
    entry::Entry,
    search::{SearchAuth, SearchHealth, SearchView},
};
use spinor_executors::State;
use uuid::Uuid;

use super::{
    Beside, SOON,
    fake::{Fake, Mood},
    feed, packs, settings,
};
use crate::{
    recorder::{
        Record,
        entries::{job, report},
        loops,
    },
    support::{eventually, roads::Roads, running::Running, servers, servers::PrivateServer, soak},
};

fn ended(count: usize) -> (BTreeSet<Uuid>, Vec<Entry>) {
    let jobs: Vec<_> = (0..count).map(|_| job()).collect();
    let entries = jobs.iter().map(|job| {
        let mut end = report(job, State::Succeeded);
        end.whole = Some(Box::new(job.clone()));
        Entry::Report(Box::new(end))
    });
    (jobs.iter().map(|job| job.id).collect(), entries.collect())
}

async fn waits(running: &Running<SearchView>) {
    let mut health = running.view.health();
    let waiting = health.wait_for(|health| matches!(health, SearchHealth::Waiting { .. }));
    drop(tokio::time::timeout(SOON, waiting).await.expect("the loop says that it waits").unwrap());
}

#[tokio::test]
async fn a_server_stopped_under_load_holds_every_id_once_afterwards_and_recording_never_waits_for_it() {
    let server = PrivateServer::search().await;
    let mut settings = settings(server.url());
    settings.refill_after = Duration::from_millis(100);
    let (record, roads, beside) = (Record::sqlite().await, Roads::open().await, Beside::new(&settings));
    let recorder = loops::record(&roads, &record.results, loops::impatient());
    let running = feed(&roads, &settings, &record.results);
    let (mut ids, entries) = ended(1500);
    let mut copies = packs(&roads, &entries).await;
    roads.packs(&Address::Results, &entries, 20).await;
    eventually("the first to be indexed", SOON, async || running.view.metrics().indexed > 100).await;
    server.kill9().await;
    soak::each_second(soak::or(1, 60), async || {
        let (more, entries) = ended(2500);
        ids.extend(more);
        // One to a pack: more packs than the queue keeps.
        copies += roads.packs(&Address::Search, &entries, 1).await;
        roads.packs(&Address::Results, &entries, 20).await;
    })
    .await;
    waits(&running).await;
    let all = ids.len() as u64;
    eventually("all to be recorded with the index down", SOON, async || recorder.view.metrics().entries == all).await;
    server.restart().await;
    eventually("the index to be filled again", SOON, async || {
        *running.view.health().borrow() == SearchHealth::Fed && running.view.metrics().refilled >= all
    })
    .await;
    let view = running.view.clone();
    running.end().await;
    recorder.end().await;
    // The queue is bounded and dropped its oldest: what it lost came from SQL.
    let left = roads.rest(&Address::Search).await.len() as u64;
    assert!(view.metrics().packs + left + 10 < copies, "{left} left of {copies}, {:?}", view.metrics());
    assert_eq!(beside.ids().await, ids);
}

#[tokio::test]
async fn a_loop_that_was_off_fills_in_what_it_missed_and_one_that_was_not_fills_in_nothing() {
    let fake = Fake::start(&[]).await;
    let (record, roads) = (Record::sqlite().await, Roads::open().await);
    let (ids, entries) = ended(700);
    record.results.store(&entries).await.unwrap();
    let settings = settings(&fake.url);
    let running = feed(&roads, &settings, &record.results);
    eventually("the record to be filled in", SOON, async || fake.documents().len() == 700).await;
    eventually("the refill to end", SOON, async || *running.view.health().borrow() == SearchHealth::Fed).await;
    running.end().await;
    let seen: BTreeSet<Uuid> = fake.documents().iter().map(|(id, ..)| id.parse().unwrap()).collect();
    assert_eq!(seen, ids);
    let running = feed(&roads, &settings, &record.results);
    packs(&roads, &ended(1).1).await;
    eventually("the new one to come", SOON, async || running.view.metrics().packs == 1).await;
    assert_eq!(running.view.metrics().refilled, 0);
    running.end().await;
}

#[tokio::test]
async fn a_read_only_index_waits_until_the_block_is_lifted() {
    let settings = settings(&servers::search_url());
    let (record, roads, beside) = (Record::sqlite().await, Roads::open().await, Beside::new(&settings));
    let running = feed(&roads, &settings, &record.results);
    let (mut ids, entries) = ended(10);
    packs(&roads, &entries).await;
    eventually("the first to be indexed", SOON, async || running.view.metrics().packs == 1).await;
    let path = format!("/{}-*/_settings", settings.prefix);
    beside.ask("PUT", &path, json!({"index.blocks.read_only_allow_delete": true})).await;
    let (more, entries) = ended(200);
    ids.extend(more);
    let more = packs(&roads, &entries).await;
    waits(&running).await;
    assert_eq!(running.view.metrics().packs, 1);
    beside.ask("PUT", &path, json!({"index.blocks.read_only_allow_delete": null})).await;
    eventually("all to be indexed", SOON, async || running.view.metrics().packs == 1 + more).await;
    assert_eq!(running.view.metrics().dropped, 0);
    running.end().await;
    assert_eq!(beside.ids().await, ids);
    beside.clear().await;
}

#[tokio::test]
async fn a_busy_server_gets_the_same_documents_again_and_only_those_it_did_not_take() {
    let moods = [Mood::Whole(503), Mood::Whole(429), Mood::Half(429), Mood::Half(503), Mood::Whole(413)];
    let fake = Fake::start(&moods).await;
    let (record, roads) = (Record::sqlite().await, Roads::open().await);
    let (ids, entries) = ended(100);
    let packed = packs(&roads, &entries).await;
    let running = feed(&roads, &settings(&fake.url), &record.results);
    eventually("all to be acked", SOON, async || running.view.metrics().packs == packed).await;
    let metrics = running.view.metrics();
    running.end().await;
    let seen: Vec<Uuid> = fake.documents().iter().map(|(id, ..)| id.parse().unwrap()).collect();
    assert_eq!((seen.len(), seen.into_iter().collect::<BTreeSet<_>>()), (100, ids));
    assert!(fake.documents().iter().all(|(_, version, _)| *version == 7), "replay 0, attempt 1, final");
    assert_eq!((metrics.indexed, metrics.dropped, metrics.stripped), (100, 0, 0));
    assert!(fake.bulks() > moods.len());
}

#[tokio::test]
async fn credentials_are_sent_with_every_request_and_a_refusal_waits_for_a_person() {
    let (record, roads) = (Record::sqlite().await, Roads::open().await);
    let basic = SearchAuth::Basic { user: "elastic".into(), password: "p:ä".into() };
    for (auth, expected) in [(basic, "Basic ZWxhc3RpYzpwOsOk"), (SearchAuth::ApiKey("a2V5".into()), "ApiKey a2V5")] {
        let fake = Fake::start(&[Mood::Whole(401)]).await;
        let mut settings = settings(&fake.url);
        settings.auth = auth;
        packs(&roads, &ended(1).1).await;
        let running = feed(&roads, &settings, &record.results);
        eventually("it to be acked", SOON, async || running.view.metrics().packs == 1).await;
        assert_eq!(fake.documents().len(), 1, "the same document again after the 401");
        running.end().await;
        assert!(fake.authorizations().len() >= 3);
        assert!(fake.authorizations().iter().all(|word| word == expected), "{:?}", fake.authorizations());
        let args = &fake.template().unwrap()["template"]["mappings"]["properties"]["args"];
        assert_eq!(args, &json!({"type": "flat_object"}), "no product header means OpenSearch");
    }
}
