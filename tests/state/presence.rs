//! Presence: who is alive, and what it says.

use std::time::Duration;

use jiff::Timestamp;
use spinor_consumers::state::{Beat, RunningJob};
use uuid::Uuid;

use super::Site;

fn beat(consumer: &str) -> Beat {
    Beat {
        consumer: consumer.to_owned(),
        group: "images".to_owned(),
        host: "h".to_owned(),
        pid: 7,
        labels: vec![("zone".to_owned(), "a".to_owned())],
        queues: vec!["default".to_owned()],
        kinds: vec!["image.*".to_owned()],
        troubles: vec![("image.y".to_owned(), "it does not start".to_owned())],
        forms: vec![("image.x".to_owned(), Uuid::nil())],
        slots: 4,
        busy: 1,
        waiting: Vec::new(),
        running: vec![RunningJob { job: Uuid::now_v7(), kind: "image.x".to_owned(), since: Timestamp::UNIX_EPOCH }],
        draining: false,
        started: Timestamp::UNIX_EPOCH,
        version: "1".to_owned(),
        intake: "open".to_owned(),
    }
}

pub async fn a_consumer_that_beats_is_present_with_what_it_says(site: &Site) {
    let (state, other) = (site.open().await, site.open().await);
    let mut first = beat("b");
    state.beat(&first).await.unwrap();
    state.beat(&beat("a")).await.unwrap();
    first.draining = true;
    first.running.clear();
    state.beat(&first).await.unwrap();
    let present = other.consumers().await.unwrap();
    assert_eq!(present.iter().map(|one| one.beat.consumer.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(present[1].beat, first);
    assert!(present[1].ago < Duration::from_secs(60) && present[1].at >= present[0].at);
}

pub async fn a_consumer_that_leaves_is_gone_at_once(site: &Site) {
    let state = site.open().await;
    state.beat(&beat("a")).await.unwrap();
    state.beat(&beat("b")).await.unwrap();
    state.leave("a").await.unwrap();
    let present = state.consumers().await.unwrap();
    assert_eq!(present.iter().map(|one| one.beat.consumer.as_str()).collect::<Vec<_>>(), ["b"]);
}
