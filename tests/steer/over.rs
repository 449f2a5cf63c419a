//! Marks end with what they are about.

use std::time::Duration;

use serde_json::json;
use spinor::{
    api::{Asked, new_job::NewJob},
    app::marks::{YOUNG, clear_what_is_over},
};
use spinor_consumers::state::{Beat, Kind, Subject};
use spinor_executors::{Json, Outcome};
use uuid::Uuid;

use super::stage::Stage;

#[tokio::test]
async fn a_mark_is_cleared_once_its_job_its_run_or_its_consumer_has_ended_and_not_before() {
    let stage = Stage::new().await;
    let run = Uuid::now_v7();
    let ended = stage.queued(NewJob::new("noop")).await;
    let mut of_run = NewJob::new("noop");
    of_run.run = Some(run);
    stage.queued(of_run).await;
    let goes_on = stage.queued(NewJob::new("noop")).await;
    for id in [ended, goes_on] {
        stage.client.cancel_job(id, &Asked::default()).await.unwrap();
    }
    stage.client.cancel_run(run, &Asked::default()).await.unwrap();
    stage.state.beat(&Beat { consumer: "g@h-1".into(), group: "g".into(), ..Beat::default() }).await.unwrap();
    let lasting = [
        Subject::Drain("g@h-1".into()),
        Subject::Slots("g@h-1".into()),
        Subject::Slots("g".into()),
        Subject::Replicas("g".into()),
        Subject::Pause("default".into()),
    ];
    let gone = [Subject::Drain("g@h-2".into()), Subject::Slots("g@h-2".into())];
    for subject in lasting.iter().chain(&gone) {
        stage.state.set_mark(subject, json!(1), "ann", None).await.unwrap();
    }
    let holds = async || -> Vec<Subject> {
        stage.state.marks_since(0).await.unwrap().marks.into_iter().map(|mark| mark.subject).collect()
    };
    assert_eq!(clear_what_is_over(&stage.state, &stage.results, YOUNG).await.unwrap(), None, "all are young");
    stage.work(Outcome::Succeeded(Json::null())).await;
    clear_what_is_over(&stage.state, &stage.results, Duration::ZERO).await.unwrap().expect("something is over");
    let mut expected = vec![Subject::Cancel(goes_on), Subject::CancelRun(run)];
    expected.extend(lasting);
    assert_eq!(holds().await, expected);
    stage.work(Outcome::Succeeded(Json::null())).await;
    clear_what_is_over(&stage.state, &stage.results, Duration::ZERO).await.unwrap().expect("the run is over");
    assert_eq!(stage.state.marks(Kind::CancelRun).await.unwrap(), []);
    assert_eq!(stage.state.marks(Kind::Cancel).await.unwrap().len(), 1);
    stage.end().await;
}
