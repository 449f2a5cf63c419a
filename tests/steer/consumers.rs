//! Consumers and groups over the API: what they say of themselves, and what people want of them.

use jiff::Timestamp;
use serde_json::json;
use spinor::api::{Asked, NewScale, NewSlots, new_job::NewJob};
use spinor_consumers::state::{Beat, RunningJob, Subject};
use uuid::Uuid;

use super::stage::{Stage, refused};

pub fn beat(consumer: &str, group: &str, running: usize) -> Beat {
    let job = |_| RunningJob { job: Uuid::now_v7(), kind: "noop".into(), since: Timestamp::now() };
    Beat {
        consumer: consumer.into(),
        group: group.into(),
        host: "here".into(),
        pid: 7,
        queues: vec!["default".into()],
        kinds: vec!["*".into()],
        slots: 4,
        busy: u32::try_from(running).unwrap(),
        running: (0..running).map(job).collect(),
        started: Timestamp::now(),
        version: "1.2.3".into(),
        intake: "taking".into(),
        ..Beat::default()
    }
}

#[tokio::test]
async fn consumers_are_listed_with_what_they_run_and_drained_by_name_or_group() {
    let stage = Stage::new().await;
    for (name, running) in [("g@h-1", 3), ("g@h-2", 1)] {
        stage.state.beat(&beat(name, "g", running)).await.unwrap();
    }
    stage.state.beat(&beat("other@h-3", "other", 0)).await.unwrap();
    let rows = stage.client.consumers().await.unwrap();
    let told: Vec<_> = rows.iter().map(|row| (row.consumer.as_str(), row.running.len(), row.draining)).collect();
    assert_eq!(told, [("g@h-1", 3, false), ("g@h-2", 1, false), ("other@h-3", 0, false)]);

    let asked = Asked { by: Some("ann".to_owned()), why: None };
    stage.client.drain_consumer("g@h-1", &asked).await.unwrap();
    let row = stage.client.consumer("g@h-1").await.unwrap();
    assert_eq!((row.draining, row.drain_requested.map(|wish| wish.by)), (true, Some("ann".to_owned())));
    let marked = stage.client.drain_group("g", &asked).await.unwrap();
    assert_eq!(marked.consumers, ["g@h-1", "g@h-2"]);
    assert!(!stage.client.consumer("other@h-3").await.unwrap().draining);
    let unknown = refused(stage.client.drain_consumer("g@h-9", &asked).await);
    assert_eq!((unknown.status, unknown.known.len()), (404, 3));
    assert_eq!(refused(stage.client.drain_group("nobody", &asked).await).status, 404);
    assert_eq!(refused(stage.client.consumer("nobody").await).status, 404);
    stage.end().await;
}

#[tokio::test]
async fn the_slots_of_one_count_before_those_of_its_group_until_they_are_cleared() {
    let stage = Stage::new().await;
    for name in ["g@h-1", "g@h-2"] {
        stage.state.beat(&beat(name, "g", 0)).await.unwrap();
    }
    let of = |slots| NewSlots { slots, ..NewSlots::default() };
    let wanted = async || -> Vec<Option<u32>> {
        stage.client.consumers().await.unwrap().iter().map(|row| row.slots_wanted).collect()
    };
    let marked = stage.client.set_group_slots("g", &of(Some(2))).await.unwrap();
    assert_eq!(marked.consumers, ["g@h-1", "g@h-2"]);
    stage.client.set_consumer_slots("g@h-2", &of(Some(1))).await.unwrap();
    assert_eq!(wanted().await, [Some(2), Some(1)]);
    stage.client.set_consumer_slots("g@h-2", &of(None)).await.unwrap();
    assert_eq!(wanted().await, [Some(2), Some(2)]);
    assert!(stage.client.set_group_slots("g", &of(None)).await.unwrap().wish.is_none());
    assert_eq!(wanted().await, [None, None]);
    stage
        .refuses(&[
            ("POST", "/api/v1/groups/g/slots", r#"{"slots":0}"#, 422, "1 to 4096"),
            ("POST", "/api/v1/groups/g/slots", "{}", 400, r#""field":"slots""#),
            ("POST", "/api/v1/consumers/g@h-1/slots", "", 400, "`slots` is missing"),
            ("POST", "/api/v1/groups/g/slots", r#"{"slots":-1}"#, 422, r#""field":"slots""#),
            ("POST", "/api/v1/groups/a%2Fb/slots", r#"{"slots":1}"#, 422, "name"),
            ("POST", "/api/v1/consumers/nobody/slots", r#"{"slots":1}"#, 404, "alive"),
        ])
        .await;
    stage.end().await;
}

#[tokio::test]
async fn a_group_tells_wanted_running_draining_and_what_waits_for_it() {
    let stage = Stage::new().await;
    stage.state.beat(&beat("g@h-1", "g", 3)).await.unwrap();
    stage.state.beat(&Beat { draining: true, ..beat("g@h-2", "g", 1) }).await.unwrap();
    let scale = NewScale { replicas: Some(5), by: Some("ann".to_owned()), why: None };
    let row = stage.client.scale("g", &scale).await.unwrap();
    assert_eq!((row.wanted, row.running, row.draining, row.slots, row.busy), (Some(5), 1, 1, 4, 3));
    assert!((row.busy_ratio - 0.75).abs() < 1e-9 && row.wanted_by.unwrap().by == "ann");
    let mark = stage.state.marks(spinor_consumers::state::Kind::Replicas).await.unwrap().remove(0);
    assert_eq!((mark.subject, mark.value), (Subject::Replicas("g".into()), Some(json!(5))));
    stage.queued(NewJob::new("noop")).await;
    // A group that shall have none yet has nobody to speak for it.
    let later = stage.client.scale("later", &NewScale { replicas: Some(0), ..NewScale::default() }).await.unwrap();
    assert!(later.note.is_some_and(|note| note.contains("kept for when one starts")));
    let rows = stage.client.groups().await.unwrap();
    assert_eq!(rows.iter().map(|row| row.group.as_str()).collect::<Vec<_>>(), ["g", "later"]);
    let queue = &rows[0].queues[0];
    assert_eq!((queue.queue.as_str(), queue.ready), ("default", Some(1)));
    assert!(queue.oldest_seconds.is_some(), "{queue:?}");
    let (_, metrics) = stage.raw("GET", "/metrics", "").await;
    for line in [
        "spinor_group_consumers{group=\"g\",state=\"running\"} 1",
        "spinor_group_consumers{group=\"g\",state=\"draining\"} 1",
        "spinor_group_wanted{group=\"g\"} 5",
        "spinor_group_slots{group=\"g\"} 4",
        "spinor_group_busy{group=\"g\"} 3",
    ] {
        assert!(metrics.as_str().unwrap().lines().any(|other| other == line), "{line}\n{metrics}");
    }
    assert!(metrics.as_str().unwrap().contains("spinor_queue_oldest_seconds{queue=\"default\"} "), "{metrics}");
    stage.client.scale("later", &NewScale::default()).await.unwrap();
    assert_eq!(stage.client.groups().await.unwrap().len(), 1);
    stage
        .refuses(&[
            ("POST", "/api/v1/groups/g/scale", r#"{"replicas":1001}"#, 422, "replicas"),
            ("POST", "/api/v1/groups/g/scale", r#"{"by":"ann"}"#, 400, r#""field":"replicas""#),
            ("POST", "/api/v1/groups/g/scale", "", 400, "or null"),
        ])
        .await;
    assert_eq!(stage.client.groups().await.unwrap()[0].wanted, Some(5), "what says nothing takes nothing back");
    stage.end().await;
}

#[tokio::test]
async fn a_consumer_that_was_not_heard_for_several_beats_is_silent_and_counted_as_such() {
    let stage = Stage::new().await;
    for name in ["g@h-1", "g@h-2", "g@h-3"] {
        stage.state.beat(&beat(name, "g", 1)).await.unwrap();
    }
    stage.hush("g@h-2", 30).await;
    let group = stage.client.groups().await.unwrap().remove(0);
    assert_eq!((group.running, group.silent, group.slots, group.busy), (2, 1, 8, 2));
    let queue = stage.client.queues().await.unwrap().into_iter().find(|row| row.stats.name == "default").unwrap();
    assert_eq!(queue.heard, Some(2));
    let (_, metrics) = stage.raw("GET", "/metrics", "").await;
    let line = "spinor_group_consumers{group=\"g\",state=\"silent\"} 1";
    assert!(metrics.as_str().unwrap().lines().any(|other| other == line), "{metrics}");
    stage.end().await;
}
