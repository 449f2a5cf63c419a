//! Cancel over the API: stored, shown at once, told, and refused where it makes no sense.

use spinor::api::{Asked, new_job::NewJob};
use spinor_consumers::{
    broker::{Broker, Event, Topic},
    results::JobFilter,
    state::{Kind, Subject},
};
use spinor_executors::{Job, Json, Outcome, State};
use uuid::Uuid;

use super::stage::{SOON, Stage, refused};
use crate::support::eventually_some;

fn asked(by: &str, why: &str) -> Asked {
    Asked { by: Some(by.to_owned()), why: Some(why.to_owned()) }
}

#[tokio::test]
async fn a_delayed_job_whose_publisher_died_before_it_was_recorded_is_shown_and_cancelled() {
    let stage = Stage::new().await;
    let mut job = Job::new("noop", "default", Json::null());
    job.due = Some("2099-01-01T00:00:00Z".parse().unwrap());
    stage.results.keep_delayed(&[&job], "ann").await.unwrap();
    let record = stage.client.job(job.id).await.unwrap();
    assert_eq!((record.row.state, record.row.retry_at), (State::Queued, job.due));
    assert_eq!(record.job.as_ref(), Some(&job));
    let answer = stage.client.cancel_job(job.id, &asked("bob", "wrong input")).await.unwrap();
    assert_eq!(answer.cancel_requested.by, "bob");
    let record = eventually_some("the end to be recorded", SOON, async || {
        stage.client.job(job.id).await.ok().filter(|record| record.row.state.is_final())
    })
    .await;
    let error = record.row.error.unwrap_or_default();
    assert!(record.row.state == State::Cancelled && error.contains("by bob") && error.contains("(wrong input)"));
    assert_eq!(stage.results.delayed_job(job.id).await.unwrap(), None);
    stage.end().await;
}

#[tokio::test]
async fn a_cancel_is_shown_at_once_with_who_and_why_and_the_first_wish_stands() {
    let stage = Stage::new().await;
    let id = stage.queued(NewJob::new("noop")).await;
    let mut told = stage.broker.listen(Topic::Control).await.unwrap();
    let answer = stage.client.cancel_job(id, &asked("ann", "wrong input")).await.unwrap();
    assert_eq!((answer.id, answer.state), (id, Some(State::Queued)));
    let wish = answer.cancel_requested;
    assert_eq!((wish.by.as_str(), wish.why.as_deref()), ("ann", Some("wrong input")));
    let marks = stage.state.marks(Kind::Cancel).await.unwrap();
    assert_eq!((&marks[0].subject, marks[0].by.as_str(), marks[0].at), (&Subject::Cancel(id), "ann", wish.at));
    let event = tokio::time::timeout(SOON, told.next()).await.expect("those who obey are told");
    assert_eq!(event, Some(Event::Marked { version: marks[0].version }));

    assert_eq!(stage.client.job(id).await.unwrap().row.cancel_requested.as_ref(), Some(&wish));
    let listed = stage.client.jobs(&JobFilter::default()).await.unwrap();
    assert_eq!(listed.rows[0].cancel_requested.as_ref(), Some(&wish));
    let why = stage.client.why(id).await.unwrap();
    assert_eq!(why.reason, "cancel");
    assert!(why.detail.contains("by ann") && why.detail.contains("(wrong input)"), "{}", why.detail);

    let again = stage.client.cancel_job(id, &asked("bob", "me too")).await.unwrap();
    assert_eq!(again.cancel_requested, wish);
    // Who ended otherwise meanwhile shows no wish.
    stage.work(Outcome::Succeeded(Json::null())).await;
    assert_eq!(stage.client.job(id).await.unwrap().row.cancel_requested, None);
    stage.end().await;
}

#[tokio::test]
async fn what_has_ended_says_so_and_what_nobody_knows_is_not_found() {
    let stage = Stage::new().await;
    let id = stage.queued(NewJob::new("noop")).await;
    stage.work(Outcome::Succeeded(Json::null())).await;
    let problem = refused(stage.client.cancel_job(id, &Asked::default()).await);
    assert_eq!((problem.status, problem.job), (409, Some(id)));
    assert!(problem.detail.contains("has ended already: succeeded"), "{}", problem.detail);
    assert_eq!(stage.state.marks(Kind::Cancel).await.unwrap(), [], "nothing was noted");
    let run = refused(stage.client.cancel_run(Uuid::now_v7(), &Asked::default()).await);
    assert_eq!(run.status, 404);
    stage.end().await;
}

#[tokio::test]
async fn a_job_of_a_queue_that_announces_none_is_cancelled_unseen() {
    let stage = Stage::new().await;
    let mut job = NewJob::new("noop");
    job.queue = Some("quiet".to_owned());
    let id = stage.client.publish(&job).await.unwrap().id;
    let answer = stage.client.cancel_job(id, &Asked::default()).await.unwrap();
    assert_eq!((answer.state, answer.cancel_requested.by.as_str()), (None, "api"));
    stage.end().await;
}

#[tokio::test]
async fn a_run_is_cancelled_with_every_job_it_has() {
    let stage = Stage::new().await;
    let run = Uuid::now_v7();
    let mut job = NewJob::new("noop");
    (job.run, job.member) = (Some(run), Some("a".to_owned()));
    let id = stage.queued(job).await;
    stage.client.cancel_run(run, &asked("ann", "no")).await.unwrap();
    let wish = stage.client.job(id).await.unwrap().row.cancel_requested.expect("it is its run's");
    assert_eq!(wish.by, "ann");
    assert_eq!(stage.client.why(id).await.unwrap().reason, "cancel");
    stage.end().await;
}

#[tokio::test]
async fn a_wish_that_cannot_be_noted_is_refused_with_its_field() {
    let stage = Stage::new().await;
    let id = stage.queued(NewJob::new("noop")).await;
    let path = format!("/api/v1/jobs/{id}/cancel");
    let long = format!(r#"{{"by":"{}"}}"#, "x".repeat(101));
    stage
        .refuses(&[
            ("POST", &path, &long, 422, r#""field":"by""#),
            ("POST", &path, r#"{"why":"a\u0007"}"#, 422, r#""field":"why""#),
            ("POST", &path, r#"{"who":"me"}"#, 422, "who"),
            ("POST", &path, r#"{"by":7}"#, 422, "string"),
            ("POST", &path, "{", 400, "JSON"),
            ("POST", "/api/v1/jobs/x/cancel", "", 422, "no id"),
            ("GET", &path, "", 405, "GET"),
        ])
        .await;
    assert_eq!(stage.state.marks(Kind::Cancel).await.unwrap(), []);
    assert_eq!(stage.raw("POST", &path, "").await.0, 202, "no body is nobody in particular");
    // A wish that nobody stores would be forgotten.
    stage.state.close().await;
    let other = stage.client.publish(&NewJob::new("noop")).await.unwrap().id;
    let problem = refused(stage.client.cancel_job(other, &Asked::default()).await);
    assert_eq!((problem.status, problem.title.as_str()), (503, "State is not available"), "{problem}");
    stage.end().await;
}
