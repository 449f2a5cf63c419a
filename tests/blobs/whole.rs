//! The whole thing: published over the API, run by a consumer, given back by the API and the client.

use std::{
    os::unix::fs::PermissionsExt as _,
    sync::{Arc, OnceLock},
};

use serde_json::json;
use spinor::{
    api::new_job::NewJob,
    client::{Client, ClientError},
};
use spinor_consumers::{
    blobs::{Blobs, S3Keys},
    broker::{
        AnyBroker, QueueSpec,
        rabbitmq::{RabbitMq, RabbitSettings},
    },
    consumer::{Consumer, QueueSettings, Shutdown},
    results::{Results, ResultsTarget},
};
use spinor_executors::{Json, Outcome, State};
use tokio::task::JoinSet;

use super::large;
use crate::{
    consumer::stage::{Cast, settings},
    support::{bucket::Bucket, eventually, process::Spinor, site::Site},
};

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_mebibytes_of_args_and_value_come_back_whole_over_rabbitmq_and_a_server() {
    let site = Site::new().await;
    let spinor = Spinor::new(&format!("{}data = 'data'\n[consumer]\nqueues = ['one']\nkinds = ['*']\n", site.toml()));
    let mut front = spinor.start(&["up", "--only", "api,recorder"]);
    front.says("spinor is up", PATIENCE).await;
    let rabbit = RabbitSettings { prefix: site.prefix.clone(), ..RabbitSettings::new(site.broker.clone()) };
    let broker = AnyBroker::RabbitMq(RabbitMq::connect(rabbit).await.unwrap());
    let results = Results::open(&ResultsTarget::MySql(site.results.clone())).await.unwrap();
    let mut settings = settings(2);
    settings.queues =
        vec![QueueSettings { spec: QueueSpec { name: "one".into(), foreign: false }, default_kind: None }];
    let echo = Cast::default().kind("echo", |job, _| Box::pin(async { Outcome::Succeeded(job.args.clone()) }));
    let consumer = Consumer::new(Arc::new(settings), Arc::new(echo.registry()), broker.clone(), None)
        .with_blobs(Blobs::in_results(Arc::new(OnceLock::from(results))));
    let (shutdown, mut tasks) = (Shutdown::default(), JoinSet::new());
    let until = shutdown.clone();
    tasks.spawn(async move { consumer.run(until).await.expect("the consumer runs") });
    let client = Client::unix(spinor.join("data/spinor.sock")).unwrap();
    let mut job = NewJob::new("echo");
    (job.queue, job.args) = (Some("one".to_owned()), Some(large()));
    let accepted = client.publish(&job).await.unwrap();
    let waited = client.wait(accepted.id, PATIENCE, true).await.unwrap();
    assert_eq!(waited.unread, None);
    let report = waited.report.unwrap();
    assert_eq!((report.state, report.value == Some(large())), (State::Succeeded, true));
    let record = client.job(accepted.id).await.unwrap();
    assert_eq!(record.unread, Vec::<String>::new());
    assert!(record.job.as_ref().is_some_and(|job| job.args == large() && job.args_ref.is_some()));
    assert!(record.attempts[0].report.value == Some(large()));
    let (rows,): (i64,) =
        sqlx::query_as("SELECT COUNT(DISTINCT sha256) FROM blobs").fetch_one(&mut site.sql().await).await.unwrap();
    assert_eq!(rows, 1, "args and value are the same bytes of one job");
    shutdown.drain.cancel();
    while tasks.join_next().await.is_some() {}
    spinor_consumers::broker::Broker::close(&broker).await;
    front.terminate();
    assert!(front.wait(PATIENCE).await.success(), "{}", front.stderr());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_args_reach_a_command_and_what_was_damaged_is_said_by_the_api() {
    let spinor = Spinor::new("data = 'data'\nmax_args = '6MiB'\n");
    std::fs::create_dir(spinor.join("blobs")).unwrap();
    let blobs = spinor.join("blobs");
    let toml = format!("data = 'data'\nmax_args = '6MiB'\nblobs = 'file://{}'\n", blobs.display());
    std::fs::write(spinor.join("spinor.toml"), toml).unwrap();
    let mut up = spinor.start(&["up"]);
    up.says("spinor is up", PATIENCE).await;
    let client = Client::unix(spinor.join("data/spinor.sock")).unwrap();
    let said = large().text().to_owned();
    let count = |size: usize| {
        let mut job = NewJob::new("command");
        let args = json!({"argv": ["wc", "-c"], "stdin": said.repeat(2)[..size]});
        job.args = Some(Json::of(&args).unwrap());
        job
    };
    let accepted = client.publish(&count(5 << 20)).await.unwrap();
    let waited = client.wait(accepted.id, PATIENCE, true).await.unwrap();
    assert_eq!(waited.report.unwrap().stdout.head.trim(), (5 << 20).to_string());
    // One that is too large is refused alone, with the key to change.
    let batch = client.publish_batch(&[count(9 << 20), count(10)]).await.unwrap();
    let problem = batch.jobs[0].problem.as_ref().unwrap();
    assert_eq!((problem.status, problem.field.as_deref()), (413, Some("args")));
    assert!(problem.detail.contains("max_args"), "{problem}");
    assert_eq!(batch.jobs[1].problem, None);
    assert!(
        matches!(client.publish(&count(9 << 20)).await, Err(ClientError::Refused(problem)) if problem.status == 413)
    );
    let aside = spinor.join("aside");
    let mut later = count(1 << 20);
    later.delay = Some("1s".to_owned());
    let waits = client.publish(&later).await.unwrap().id;
    std::fs::rename(&blobs, &aside).unwrap();
    eventually("it to be told that the store is away", PATIENCE, async || {
        let why = client.why(waits).await.unwrap();
        why.reason == "blobs" && why.detail.contains(&blobs.display().to_string())
    })
    .await;
    std::fs::rename(&aside, &blobs).unwrap();
    assert_eq!(client.wait(waits, PATIENCE, true).await.unwrap().report.unwrap().state, State::Succeeded);
    let name = accepted.id.simple().to_string();
    let home = blobs.join(&name[30..]).join(&name);
    let file = std::fs::read_dir(&home).unwrap().next().unwrap().unwrap().path();
    std::fs::remove_file(&file).unwrap();
    let record = client.job(accepted.id).await.unwrap();
    assert!(record.unread.len() == 1 && record.unread[0].contains(&accepted.id.to_string()), "{:?}", record.unread);
    assert_eq!(record.job.unwrap().args, Json::null());
    up.terminate();
    assert!(up.wait(PATIENCE).await.success(), "{}", up.stderr());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_args_lie_in_a_bucket_that_is_looked_at_before_anything_starts() {
    let bucket = Bucket::new();
    let toml = |address: &str| format!("data = 'data'\nblobs = {address:?}\nsecrets = 'secrets.toml'\n");
    let mut spinor = Spinor::new(&toml(&bucket.address()));
    let secrets = spinor.join("secrets.toml");
    std::fs::write(&secrets, "").unwrap();
    std::fs::set_permissions(&secrets, std::fs::Permissions::from_mode(0o600)).unwrap();
    let without = spinor.run(&["up"]).await;
    assert!(!without.status.success() && without.stderr.contains("`blobs_access_key`"), "{}", without.stderr);
    spinor.set("AWS_ACCESS_KEY_ID", &bucket.keys.access).set("AWS_SECRET_ACCESS_KEY", "hush");
    let wrong = spinor.run(&["up"]).await;
    assert!(!wrong.status.success() && wrong.stderr.contains("the secret key is not"), "{}", wrong.stderr);
    assert!(!wrong.stderr.contains("hush"), "{}", wrong.stderr);
    // The file counts before the environment.
    let S3Keys { access, secret, .. } = &bucket.keys;
    std::fs::write(&secrets, format!("blobs_access_key = {access:?}\nblobs_secret_key = {secret:?}\n")).unwrap();
    let mut up = spinor.start(&["up"]);
    up.says("spinor is up", PATIENCE).await;
    let client = Client::unix(spinor.join("data/spinor.sock")).unwrap();
    let mut job = NewJob::new("command");
    let words = large().text()[..3 << 20].to_owned();
    job.args = Some(Json::of(&json!({"argv": ["wc", "-c"], "stdin": words})).unwrap());
    let accepted = client.publish(&job).await.unwrap();
    let report = client.wait(accepted.id, PATIENCE, true).await.unwrap().report.unwrap();
    assert_eq!(report.stdout.head.trim(), (3 << 20).to_string(), "{report:?}");
    let record = client.job(accepted.id).await.unwrap();
    assert_eq!(record.unread, Vec::<String>::new());
    let args = record.job.as_ref().and_then(|job| job.args_ref).unwrap();
    assert_eq!(std::fs::metadata(bucket.file(accepted.id, &args)).unwrap().len(), args.size);
    let doctor = spinor.run(&["doctor"]).await;
    assert!(doctor.stdout.contains("its objects can be listed"), "{}", doctor.stdout);
    up.terminate();
    assert!(up.wait(PATIENCE).await.success(), "{}", up.stderr());
    let all = format!("{}{}{}", up.stdout(), up.stderr(), doctor.stdout);
    assert!(!all.contains(secret.as_str()), "{all}");
}
