//! Through a consumer: the embedded broker with SQLite, with files and with a bucket, RabbitMQ with a server's table.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicUsize, Ordering},
};

use spinor_consumers::{
    blobs::{Blobs, LARGE},
    broker::Address,
    consumer::Consumer,
};
use spinor_executors::{Job, Json, Outcome, State};

use super::{Site, large};
use crate::{
    conformance::{
        fixture::{Fixture, acked, bounded, consume, take},
        on_embedded::OnEmbedded,
        on_rabbitmq::OnRabbitMq,
    },
    consumer::stage::{Cast, QUEUE, Stage, job, settings},
    recorder::Record,
    support::{bucket::Bucket, scratch::Scratch, servers::PrivateServer},
};

macro_rules! each {
    ($($case:ident,)*) => {
        mod embedded_and_sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let site = super::Site::Table(super::Record::sqlite().await);
                super::bounded(super::$case::<super::OnEmbedded>(site)).await;
            })*
        }
        mod embedded_and_files {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let site = super::Site::Files(super::Scratch::new("blobs"));
                super::bounded(super::$case::<super::OnEmbedded>(site)).await;
            })*
        }
        mod embedded_and_objects {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let site = super::Site::Objects(super::Bucket::new());
                super::bounded(super::$case::<super::OnEmbedded>(site)).await;
            })*
        }
        mod rabbitmq_and_a_server {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let site = super::Site::Table(super::Record::server().await);
                super::bounded(super::$case::<super::OnRabbitMq>(site)).await;
            })*
        }
    };
}

each!(
    five_mebibytes_go_there_and_back_by_reference,
    what_is_small_is_carried_as_ever,
    damaged_args_never_run_and_the_job_is_dead_with_the_reason,
    args_by_reference_are_carried_by_a_retry_and_into_a_whole_report,
    a_job_whose_store_is_away_goes_back_and_runs_when_it_is_there,
);

/// Says what it was told.
fn echo() -> Cast {
    Cast::default().noop().kind("echo", |job, _| Box::pin(async { Outcome::Succeeded(job.args.clone()) }))
}

async fn stage<F: Fixture>(cast: Cast, blobs: Blobs, whole_reports: bool) -> (F, Stage) {
    let fixture = F::install(false).await;
    let mut settings = settings(1);
    settings.whole_reports = whole_reports;
    let consumer =
        Consumer::new(Arc::new(settings), Arc::new(cast.registry()), fixture.broker(), None).with_blobs(blobs);
    let stage = Stage::of(fixture.broker(), consumer).await;
    (fixture, stage)
}

/// A job with large args, put away.
async fn large_job(kind: &str, blobs: &Blobs) -> Job {
    let mut job = job(kind);
    job.args = large();
    blobs.put_args(&mut job).await.expect("put away");
    assert_eq!((job.args.text(), job.args_ref.is_some()), ("null", true));
    job
}

async fn five_mebibytes_go_there_and_back_by_reference<F: Fixture>(site: Site) {
    let blobs = site.blobs().await;
    let (_fixture, mut stage) = stage::<F>(echo(), blobs.clone(), false).await;
    let job = large_job("echo", &blobs).await;
    stage.publish(std::slice::from_ref(&job)).await;
    let mut report = stage.report().await;
    assert_eq!((report.state, report.value.is_some()), (State::Succeeded, false), "{report:?}");
    assert_eq!(report.value_ref, job.args_ref, "the same bytes are stored once a job");
    blobs.fetch_value(&mut report).await.unwrap();
    assert_eq!(report.value, Some(large()));
    stage.drain().await;
    site.end().await;
}

async fn what_is_small_is_carried_as_ever<F: Fixture>(site: Site) {
    let blobs = site.blobs().await;
    let (_fixture, mut stage) = stage::<F>(echo(), blobs.clone(), false).await;
    let mut job = job("echo");
    job.args = Json::of(&"x".repeat(LARGE - 2)).unwrap();
    blobs.put_args(&mut job).await.unwrap();
    assert_eq!(job.args_ref, None);
    stage.publish(std::slice::from_ref(&job)).await;
    let report = stage.report().await;
    assert_eq!((report.value, report.value_ref), (Some(job.args), None));
    assert_eq!(blobs.count(&[job.id]).await.unwrap(), (0, 0));
    stage.drain().await;
    site.end().await;
}

async fn damaged_args_never_run_and_the_job_is_dead_with_the_reason<F: Fixture>(site: Site) {
    let blobs = site.blobs().await;
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let cast = Cast::default().kind("echo", move |_, _| {
        counted.fetch_add(1, Ordering::Relaxed);
        Box::pin(async { Outcome::Succeeded(Json::null()) })
    });
    let (fixture, mut stage) = stage::<F>(cast, blobs.clone(), false).await;
    let job = large_job("echo", &blobs).await;
    let blob = job.args_ref.unwrap();
    site.damage(job.id, &blob).await;
    stage.publish(std::slice::from_ref(&job)).await;
    let report = stage.report().await;
    assert_eq!((report.state, report.attempt, runs.load(Ordering::Relaxed)), (State::Dead, 1, 0));
    let why = report.failure.unwrap().message;
    assert!(why.contains(&job.id.to_string()) && why.contains(&blob.sha256.to_string()), "{why}");
    let mut dead = consume(&fixture.broker(), Address::Dead, 1).await;
    let letter = take(&mut dead).await;
    assert_eq!(letter.message.properties.text("spinor-reason"), Some(why.as_str()));
    acked(&fixture.broker(), letter).await;
    stage.drain().await;
    site.end().await;
}

async fn args_by_reference_are_carried_by_a_retry_and_into_a_whole_report<F: Fixture>(site: Site) {
    let blobs = site.blobs().await;
    let cast = Cast::default().kind("twice", |job, _| {
        Box::pin(async {
            assert_eq!(job.args, large(), "each attempt has its args");
            let after = Some(std::time::Duration::from_millis(100));
            match job.attempt {
                1 => Outcome::Retry { after, reason: "once more".to_owned() },
                _ => Outcome::Succeeded(Json::null()),
            }
        })
    });
    let (_fixture, mut stage) = stage::<F>(cast, blobs.clone(), true).await;
    let job = large_job("twice", &blobs).await;
    stage.publish(std::slice::from_ref(&job)).await;
    for state in [State::Retrying, State::Succeeded] {
        let report = stage.report().await;
        assert_eq!(report.state, state, "{report:?}");
        let whole = report.whole.unwrap();
        assert_eq!((whole.args, whole.args_ref), (Json::null(), job.args_ref));
    }
    stage.drain().await;
    site.end().await;
}

async fn a_job_whose_store_is_away_goes_back_and_runs_when_it_is_there<F: Fixture>(site: Site) {
    let other = Record::sqlite().await;
    if let Site::Objects(_) = &site {
        // A server killed and back; what it took before is still there.
        let server = PrivateServer::start("s3").await;
        let bucket = Bucket::on(&server);
        let job = large_job("echo", &bucket.blobs()).await;
        server.kill9().await;
        is_away_until::<F>(job, bucket.blobs(), async || server.restart().await).await;
    } else {
        // A database that is opened later; it must be the one that has the args.
        let results = match &site {
            Site::Table(record) => record.results.clone(),
            Site::Files(_) | Site::Objects(_) => other.results.clone(),
        };
        let later = Arc::new(OnceLock::new());
        let job = large_job("echo", &Blobs::in_results(Arc::new(OnceLock::from(results.clone())))).await;
        let opens = async || assert!(later.set(results).is_ok());
        is_away_until::<F>(job, Blobs::in_results(Arc::clone(&later)), opens).await;
    }
    site.end().await;
}

async fn is_away_until<F: Fixture>(job: Job, blobs: Blobs, comes_back: impl AsyncFnOnce()) {
    let (_fixture, mut stage) = stage::<F>(echo(), blobs, false).await;
    // One slot: when the second has ended, the first was met and sent back.
    let marker = crate::consumer::stage::job("noop");
    stage.publish(&[job.clone(), marker.clone()]).await;
    assert_eq!(stage.report().await.job, marker.id, "on {QUEUE}");
    comes_back().await;
    let report = stage.report().await;
    assert_eq!((report.job, report.attempt, report.state), (job.id, 1, State::Succeeded));
    assert_eq!(report.value_ref, job.args_ref);
    stage.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_no_store_takes_is_carried_by_its_report() {
    let (_fixture, mut stage) = stage::<OnEmbedded>(
        Cast::default()
            .kind("speak", |_, _| Box::pin(async { Outcome::Succeeded(Json::of(&"x".repeat(2 * LARGE)).unwrap()) })),
        Blobs::in_results(Arc::default()),
        false,
    )
    .await;
    stage.publish(&[job("speak")]).await;
    let report = stage.report().await;
    assert_eq!((report.state, report.value_ref), (State::Succeeded, None));
    assert_eq!(report.value.map(|value| value.bytes().len()), Some(2 * LARGE + 2));
    stage.drain().await;
}
