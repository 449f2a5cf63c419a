//! Unique publishing over the API: one job a key, whoever asks and however many at once.

use std::sync::Arc;

use spinor::{
    api::{Asked, NewUnique, OnConflict, Until, new_job::NewJob},
    client::ClientError,
};
use spinor_consumers::state::{Kind, Subject};
use spinor_executors::{Json, Outcome};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::stage::{Stage, refused};

fn job(key: &str, on_conflict: OnConflict) -> NewJob {
    let mut job = NewJob::new("noop");
    job.unique = Some(NewUnique { on_conflict, ..NewUnique::new(key) });
    job
}

async fn fifty_at_once(stage: Stage) {
    let stage = Arc::new(stage);
    let mut tasks = JoinSet::new();
    for _ in 0..50 {
        let stage = Arc::clone(&stage);
        tasks.spawn(async move { stage.client.publish(&job("order-7", OnConflict::Reject)).await });
    }
    let answers = tasks.join_all().await;
    let accepted: Vec<Uuid> = answers.iter().filter_map(|answer| Some(answer.as_ref().ok()?.id)).collect();
    assert_eq!(accepted.len(), 1, "{answers:?}");
    for answer in answers {
        if let Err(error) = answer {
            assert!(
                matches!(&error, ClientError::Refused(problem) if problem.status == 409 && problem.job == Some(accepted[0])),
                "{error}"
            );
        }
    }
    assert_eq!(stage.ready().await, 1);
    Arc::into_inner(stage).expect("nobody else has it").end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_fifty_that_are_published_at_once_under_one_key_exactly_one_is_accepted() {
    fifty_at_once(Stage::new().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_fifty_that_are_published_at_once_under_one_key_in_redis_exactly_one_is_accepted() {
    fifty_at_once(Stage::with_redis().await).await;
}

#[tokio::test]
async fn a_taken_key_refuses_returns_or_replaces_as_the_publisher_says() {
    let stage = Stage::new().await;
    let first = stage.client.publish(&job("k", OnConflict::Reject)).await.unwrap();
    assert!(!first.existing);
    let problem = refused(stage.client.publish(&job("k", OnConflict::Reject)).await);
    assert_eq!((problem.status, problem.job), (409, Some(first.id)));
    assert!(problem.detail.contains(&first.id.to_string()) && problem.detail.contains("`k`"), "{}", problem.detail);
    let same = stage.client.publish(&job("k", OnConflict::Return)).await.unwrap();
    assert_eq!((same.id, same.existing), (first.id, true));
    let (status, _) =
        stage.raw("POST", "/api/v1/jobs", r#"{"kind":"noop","unique":{"key":"k","on_conflict":"return"}}"#).await;
    assert_eq!((status, stage.ready().await), (200, 1));
    assert_eq!(stage.state.marks(Kind::Cancel).await.unwrap(), []);

    let second = stage.client.publish(&job("k", OnConflict::Replace)).await.unwrap();
    assert!(second.id != first.id && !second.existing);
    let mark = stage.state.marks(Kind::Cancel).await.unwrap().remove(0);
    assert_eq!(mark.subject, Subject::Cancel(first.id));
    assert!(mark.why.unwrap().contains(&second.id.to_string()));
    let wish = stage.client.job(first.id).await.unwrap().row.cancel_requested;
    assert!(wish.is_some(), "the old one shows who replaced it");
    assert_eq!(refused(stage.client.publish(&job("k", OnConflict::Reject)).await).job, Some(second.id));
    stage.end().await;
}

#[tokio::test]
async fn a_key_that_its_ended_job_kept_is_taken_over_unless_it_holds_for_its_time() {
    let stage = Stage::new().await;
    let mut window = job("window", OnConflict::Reject);
    window.unique.as_mut().unwrap().until = Until::Window;
    for job in [job("end", OnConflict::Reject), window.clone()] {
        // The consumer here gives no key back, as if it died just before it did.
        stage.queued(job).await;
        stage.work(Outcome::Succeeded(Json::null())).await;
    }
    let answers = futures_util::future::join_all(
        (0..10).map(|_| async { stage.client.publish(&job("end", OnConflict::Reject)).await.is_ok() }),
    )
    .await;
    assert_eq!(answers.iter().filter(|accepted| **accepted).count(), 1, "one of them takes it over");
    assert_eq!(refused(stage.client.publish(&window).await).status, 409);
    stage.end().await;
}

#[tokio::test]
async fn each_of_a_batch_is_judged_alone_and_the_first_has_the_key() {
    let stage = Stage::new().await;
    let batch = [
        job("a", OnConflict::Reject),
        NewJob::new("noop"),
        job("a", OnConflict::Reject),
        job("a", OnConflict::Return),
        job("b", OnConflict::Reject),
    ];
    let items = stage.client.publish_batch(&batch).await.unwrap().jobs;
    let told: Vec<_> = items.iter().map(|item| (item.existing, item.problem.as_ref().map(|p| p.status))).collect();
    assert_eq!(told, [(false, None), (false, None), (false, Some(409)), (true, None), (false, None)]);
    assert_eq!((items[3].id, stage.ready().await), (items[0].id, 3));
    let (_, metrics) = stage.raw("GET", "/metrics", "").await;
    assert!(metrics.as_str().unwrap().contains("spinor_jobs_published_total 3\n"), "{metrics}");
    stage.end().await;
}

#[tokio::test]
async fn a_publish_that_failed_for_certain_gives_its_key_back_and_one_sent_again_keeps_it() {
    let stage = Stage::new().await;
    let mut nowhere = job("k", OnConflict::Reject);
    nowhere.queue = Some("nowhere".to_owned());
    assert_eq!(refused(stage.client.publish(&nowhere).await).status, 422);
    let mut named = job("k", OnConflict::Reject);
    named.id = Some(Uuid::now_v7());
    assert_eq!(stage.client.publish(&named).await.unwrap().id, named.id.unwrap());
    // The same id again is the same job, and its own duplicate never.
    stage.client.publish(&named).await.unwrap();
    named.queue = Some("nowhere".to_owned());
    assert_eq!(refused(stage.client.publish(&named).await).status, 422);
    assert_eq!(refused(stage.client.publish(&job("k", OnConflict::Reject)).await).job, named.id, "it has the key yet");
    stage.client.free_key("k", &Asked::default()).await.unwrap();
    stage.end().await;
}

#[tokio::test]
async fn without_state_jobs_that_have_a_key_are_refused_and_others_go_on() {
    let stage = Stage::new().await;
    stage.state.close().await;
    let items = stage.client.publish_batch(&[job("k", OnConflict::Reject), NewJob::new("noop")]).await.unwrap().jobs;
    let problem = items[0].problem.as_ref().expect("it is refused");
    assert_eq!(problem.status, 503);
    assert!(problem.detail.contains("a job with a unique key is not published without it"), "{}", problem.detail);
    assert_eq!(items[1].problem, None);
    assert_eq!(stage.ready().await, 1);
    stage.end().await;
}
