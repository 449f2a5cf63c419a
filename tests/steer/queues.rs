//! Pause and resume over the API.

use spinor::api::{Asked, new_job::NewJob};

use super::stage::{Stage, refused};

#[tokio::test]
async fn a_paused_queue_is_listed_with_who_and_why_and_its_jobs_say_so() {
    let stage = Stage::new().await;
    let asked = Asked { by: Some("ann".to_owned()), why: Some("the disk is full".to_owned()) };
    let paused = stage.client.pause_queue("default", &asked).await.unwrap();
    assert!(paused.changed && paused.paused.is_some());
    assert!(!stage.client.pause_queue("default", &asked).await.unwrap().changed);
    let of = async |name: &str| {
        let rows = stage.client.queues().await.unwrap();
        rows.into_iter().find(|row| row.stats.name == name).unwrap().paused
    };
    let wish = of("default").await.expect("it is paused");
    assert_eq!((wish.by.as_str(), wish.why.as_deref()), ("ann", Some("the disk is full")));
    assert_eq!(of("quiet").await, None);
    let id = stage.queued(NewJob::new("noop")).await;
    let why = stage.client.why(id).await.unwrap();
    assert_eq!(why.reason, "paused");
    assert!(why.detail.contains("by ann") && why.detail.contains("spinor queues resume default"), "{}", why.detail);
    let (_, metrics) = stage.raw("GET", "/metrics", "").await;
    assert!(metrics.as_str().unwrap().contains("spinor_queue_paused{queue=\"default\"} 1\n"), "{metrics}");
    assert!(stage.client.resume_queue("default", &asked).await.unwrap().changed);
    assert!(!stage.client.resume_queue("default", &asked).await.unwrap().changed);
    assert_eq!(of("default").await, None);
    assert_eq!(stage.client.why(id).await.unwrap().reason, "no_consumer");
    stage.end().await;
}

#[tokio::test]
async fn a_queue_that_does_not_exist_is_neither_paused_nor_resumed() {
    let stage = Stage::new().await;
    let problem = refused(stage.client.pause_queue("defualt", &Asked::default()).await);
    assert_eq!(problem.status, 404);
    assert!(problem.known.contains(&"default".to_owned()), "{problem:?}");
    assert_eq!(refused(stage.client.resume_queue("defualt", &Asked::default()).await).status, 404);
    stage.refuses(&[("POST", "/api/v1/queues/a%20b/pause", "", 422, "name")]).await;
    stage.end().await;
}
