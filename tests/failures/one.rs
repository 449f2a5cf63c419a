//! One job at a time: started anew as it was, mended, out of rubbish; and what is refused.

use serde_json::json;
use spinor::{
    api::{Asked, Letters, NewReplay, NewReplays, Problem},
    client::ClientError,
};
use spinor_consumers::results::JobFilter;
use spinor_executors::{Json, State};
use uuid::Uuid;

use super::{PATIENCE, ask, drained, ended, everything, installation, needy, publish};
use crate::support::{eventually, eventually_some};

fn refused<T>(answer: Result<T, ClientError>) -> Problem {
    match answer {
        Err(ClientError::Refused(problem)) => *problem,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was not refused"),
    }
}

fn with(args: &str) -> NewReplay {
    NewReplay { args: Some(Json::new(args.to_owned()).unwrap()), ..NewReplay::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ended_job_starts_anew_as_it_was_or_mended_and_keeps_all_its_attempts() {
    let spinor = installation("");
    let (up, client) = everything(&spinor).await;
    let id = publish(&client, &needy()).await;
    ended(&client, id, "failed", 0).await;
    let again = client.replay(id, &NewReplay::default()).await.unwrap();
    assert_eq!((again.id, again.queue.as_str(), again.replay), (id, "default", 1));
    ended(&client, id, "failed", 1).await;
    let args = r#"{"argv": ["echo", "mended"]}"#;
    let done = spinor.run(&["jobs", "replay", &id.to_string(), "--args", args, "--wait"]).await.expect_success();
    assert!(done.stdout.starts_with("mended\n"), "{done:?}");
    let record = client.job(id).await.unwrap();
    assert_eq!((record.row.state, record.row.replay, record.row.fingerprint), (State::Succeeded, 2, None));
    assert_eq!(record.job.unwrap().args.text(), args);
    let attempts: Vec<_> =
        record.attempts.iter().map(|it| (it.report.replay, it.report.attempt, it.report.state)).collect();
    assert_eq!(attempts, [(0, 1, State::Failed), (1, 1, State::Failed), (2, 1, State::Succeeded)]);
    assert_eq!(record.attempts[0].report.version.as_deref(), Some(spinor_executors::VERSION));
    // What has succeeded may be wanted again, too.
    client.replay(id, &NewReplay::default()).await.unwrap();
    ended(&client, id, "succeeded", 3).await;
    drained(up).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rubbish_is_read_mended_and_becomes_a_job_or_the_refusal_names_what_is_missing() {
    let spinor = installation("");
    let (up, client) = everything(&spinor).await;
    let letters = rubbish(&spinor, &up).await;
    let (up, client) = (letters.0, {
        drop(client);
        super::client(&spinor)
    });
    let [nameless, torn] = letters.1;
    let shown = ask(&spinor, &["dead", "show", &torn.to_string()]).await;
    assert_eq!((&shown["body"], &shown["kind"], &shown["is_job"]), (&json!("{torn"), &json!("command"), &json!(false)));
    assert!(shown["reason"].as_str().unwrap().starts_with("the body is no JSON"), "{shown}");
    assert!(shown["consumer"].as_str().unwrap().starts_with("default@"), "{shown}");
    assert_eq!(
        (&shown["version"], shown["fingerprint"].as_str().map(str::len)),
        (&json!(spinor_executors::VERSION), Some(16))
    );
    assert_eq!(refused(client.replay_dead(torn, &NewReplay::default()).await).field.as_deref(), Some("args"));
    assert_eq!(refused(client.replay_dead(nameless, &NewReplay::default()).await).field.as_deref(), Some("kind"));
    let odd = NewReplay { kind: Some("no kind".into()), ..NewReplay::default() };
    assert_eq!(refused(client.replay_dead(nameless, &odd).await).field.as_deref(), Some("kind"));
    let nowhere = NewReplay { queue: Some("nowhere".into()), ..with(r#"{"argv":["true"]}"#) };
    let problem = refused(client.replay_dead(torn, &nowhere).await);
    assert!(problem.field.as_deref() == Some("queue") && problem.known == ["default"], "{problem:?}");
    let problem = refused(client.replay_dead(torn, &with(r#"{"argv":"true"}"#)).await);
    assert_eq!((problem.status, problem.field.as_deref()), (422, Some("args.argv")), "{problem:?}");
    client.replay_dead(torn, &with(r#"{"argv":["true"]}"#)).await.unwrap();
    ended(&client, torn, "succeeded", 1).await;
    spinor.run(&["dead", "replay", &nameless.to_string(), "--kind", "noop", "--wait"]).await.expect_success();
    // What was started anew is no dead letter any more.
    eventually("the letters to be gone", PATIENCE, async || {
        client.dead(&Letters::default()).await.unwrap().rows.is_empty()
    })
    .await;
    assert_eq!(refused(client.letter(torn).await).status, 404);
    drained(up).await;
}

/// Puts a message without a kind and one with a torn body on the queue, and awaits their letters. Only
/// a broker's own client can: the embedded one is opened while nobody else has it.
async fn rubbish(
    spinor: &crate::support::process::Spinor,
    up: &crate::support::process::Process,
) -> (crate::support::process::Process, [Uuid; 2]) {
    use spinor_consumers::{
        broker::{
            Address, Broker as _, Outgoing,
            embedded::{Embedded, EmbeddedSettings},
        },
        message::{Message, Properties},
    };
    up.terminate();
    let settings = EmbeddedSettings { dir: spinor.join("data/broker"), search: false, socket: None };
    let broker = eventually_some("the broker's directory to be free", PATIENCE, async || {
        Embedded::open(settings.clone()).await.ok()
    })
    .await;
    let ids = [Uuid::now_v7(), Uuid::now_v7()];
    let [nameless, torn] = [None, Some("command".to_owned())];
    let message = |id: Uuid, kind, body: &'static str| Outgoing {
        to: Address::Work("default".into()),
        message: Message {
            properties: Properties { id: Some(id.to_string()), kind, ..Properties::default() },
            body: body.into(),
        },
        must: true,
    };
    let sent = broker.publish(vec![message(ids[0], nameless, "{}"), message(ids[1], torn, "{torn")]).await;
    assert!(sent.iter().all(Result::is_ok), "{sent:?}");
    broker.close().await;
    let (up, client) = everything(spinor).await;
    eventually("both to be dead letters", PATIENCE, async || {
        client.dead(&Letters::default()).await.unwrap().rows.len() == 2
    })
    .await;
    (up, ids)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_are_counted_before_they_are_removed_and_what_names_nothing_is_refused() {
    let spinor = installation("");
    let (up, _) = everything(&spinor).await;
    let (up, [nameless, torn]) = rubbish(&spinor, &up).await;
    let listed = ask(&spinor, &["dead", "ls", "--kind", "command"]).await;
    assert_eq!((listed["rows"].as_array().map(Vec::len), &listed["rows"][0]["job"]), (Some(1), &json!(torn)));
    let counted = spinor.run(&["dead", "rm", "--reason", "the message has no", "--dry-run"]).await.expect_success();
    assert_eq!(counted.stdout, "1 dead letter would be removed; --yes removes them\n");
    assert_eq!(spinor.run(&["dead", "rm"]).await.code(), 2);
    assert_eq!(spinor.run(&["dead", "rm", "--all", "--yes", &torn.to_string()]).await.code(), 2);
    let gone = ask(&spinor, &["dead", "rm", &nameless.to_string()]).await;
    assert_eq!(gone["letters"], 1);
    assert_eq!(spinor.run(&["dead", "rm", &nameless.to_string()]).await.code(), 1);
    // Without --yes they are counted.
    assert_eq!(ask(&spinor, &["dead", "rm", "--all"]).await["dry_run"], true);
    assert_eq!(ask(&spinor, &["dead", "rm", "--all", "--yes"]).await["letters"], 1);
    assert_eq!(ask(&spinor, &["dead", "ls"]).await["rows"], json!([]));
    drained(up).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_start_anew_is_refused_with_the_field_or_the_reason() {
    let spinor = installation("[queues.lonely]\njournal = 'full'\n");
    let (up, client) = everything(&spinor).await;
    let mut waiting = needy();
    waiting.queue = Some("lonely".to_owned());
    let id = publish(&client, &waiting).await;
    let problem = refused(client.replay(id, &NewReplay::default()).await);
    assert!(problem.status == 409 && problem.detail.contains("queued"), "{problem:?}");
    assert_eq!(refused(client.replay(Uuid::now_v7(), &NewReplay::default()).await).status, 404);
    assert_eq!(refused(client.letter(Uuid::now_v7()).await).status, 404);
    assert_eq!(refused(client.failure("0123456789abcdef").await).status, 404);
    assert_eq!(refused(client.failure("nonsense").await).field.as_deref(), Some("fingerprint"));
    assert_eq!(refused(client.replay_row(Uuid::now_v7()).await).status, 404);
    assert_eq!(refused(client.stop_replay(Uuid::now_v7()).await).status, 404);
    let table = [
        (NewReplays::default(), "all"),
        (NewReplays { rate: Some("fast".into()), all: true, ..NewReplays::default() }, "rate"),
        (NewReplays { states: vec!["queued".into()], ..NewReplays::default() }, "states"),
        (NewReplays { since: Some("soon".into()), ..NewReplays::default() }, "since"),
        (NewReplays { fingerprint: Some("x".into()), ..NewReplays::default() }, "fingerprint"),
        (NewReplays { by: Some("x\n".repeat(3)), all: true, ..NewReplays::default() }, "by"),
    ];
    for (new, field) in table {
        assert_eq!(refused(client.order_replay(&new).await).field.as_deref(), Some(field), "{new:?}");
    }
    for (command, part) in [
        (&["failures", "replay"][..], "all"),
        (&["failures", "show", "../jobs"], "no fingerprint"),
        (&["failures", "ls", "--state", "queued"], "expected one of"),
        (&["dead", "ls", "--since", "tomorrow"], "how long ago"),
        (&["jobs", "replay", "nobody"], "no id"),
    ] {
        let done = spinor.run(command).await;
        assert!(done.code() == 2 && done.stderr.contains(part), "{command:?}: {done:?}");
    }
    assert_eq!(client.jobs(&JobFilter::default()).await.unwrap().rows.len(), 1);
    drained(up).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replays_at_once_make_one_job() {
    let spinor = installation("");
    let (up, client) = everything(&spinor).await;
    let mut job = needy();
    let script = "if [ ! -e mended ]; then exit 3; fi; echo run >> ledger; while [ ! -e go ]; do sleep 0.05; done";
    job.args = Some(Json::of(&json!({"shell": script})).unwrap());
    let id = publish(&client, &job).await;
    ended(&client, id, "failed", 0).await;
    std::fs::write(spinor.join("mended"), "").unwrap();
    let anew = NewReplay::default();
    let answers = tokio::join!(client.replay(id, &anew), client.replay(id, &anew), client.replay(id, &anew));
    let mut accepted = 0;
    for answer in [answers.0, answers.1, answers.2] {
        match answer {
            Ok(replayed) => {
                assert_eq!(replayed.replay, 1);
                accepted += 1;
            }
            // It came when the record knew of the first.
            Err(ClientError::Refused(problem)) => assert_eq!(problem.status, 409, "{problem:?}"),
            Err(other) => panic!("{other}"),
        }
    }
    assert!(accepted > 0);
    std::fs::write(spinor.join("go"), "").unwrap();
    ended(&client, id, "succeeded", 1).await;
    eventually("the queue to be empty", PATIENCE, async || {
        let queues = client.queues().await.unwrap();
        queues.iter().all(|queue| queue.stats.ready == 0 && queue.stats.unacked.unwrap_or(0) == 0)
    })
    .await;
    assert_eq!(std::fs::read_to_string(spinor.join("ledger")).unwrap(), "run\n");
    assert_eq!(client.job(id).await.unwrap().attempts.len(), 2);
    drained(up).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_job_that_starts_anew_is_not_cancelled_again() {
    let spinor = installation("");
    let (up, client) = everything(&spinor).await;
    let mut job = needy();
    job.args = Some(Json::new(r#"{"argv": ["sleep", "600"]}"#).unwrap());
    let id = publish(&client, &job).await;
    client.cancel_job(id, &Asked::default()).await.unwrap();
    ended(&client, id, "cancelled", 0).await;
    client.replay(id, &with(r#"{"argv": ["true"]}"#)).await.unwrap();
    ended(&client, id, "succeeded", 1).await;
    drained(up).await;
}
