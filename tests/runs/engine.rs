//! What follows what, on both brokers and both dialects, with no recorder.

use spinor_consumers::{
    broker::{Address, Broker, Outgoing},
    message::{self, header},
    next::{Again, NewRun, Next, OnFailure},
};
use spinor_executors::{HeaderValue, Job};
use tokio::time::Instant;

use super::stage::{Stage, closing, id, member, run, undone};
use crate::{
    conformance::{
        fixture::{Fixture, bounded},
        on_embedded::OnEmbedded,
        on_rabbitmq::OnRabbitMq,
    },
    consumer::stage::QUEUE,
    recorder::Record,
};

macro_rules! each {
    ($($case:ident,)*) => {
        mod embedded_and_sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let fixture = super::OnEmbedded::install(false).await;
                super::bounded(super::$case(&fixture, super::Record::sqlite().await)).await;
            })*
            use super::Fixture as _;
        }
        mod rabbitmq_and_a_server {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let fixture = super::OnRabbitMq::install(false).await;
                super::bounded(super::$case(&fixture, super::Record::server().await)).await;
            })*
            use super::Fixture as _;
        }
    };
}

each!(
    two_members_that_fail_mean_what_the_policy_says_and_a_retry_goes_on_from_there,
    values_come_in_the_args_however_large_they_are_and_stay_there_for_a_second_attempt,
    ten_replays_of_a_member_fire_its_completion_once,
    a_member_that_never_runs_ends_all_the_same,
    what_a_dead_trigger_left_is_published_once_by_two_others,
);

/// Two that fail, what needs them and what does not.
fn two_fail(on_failure: OnFailure) -> NewRun {
    let members = vec![
        undone(member("ok", "echo", &[], r#"{"n": 7}"#), r#"{"was": {"$from": "ok"}}"#),
        member("x", "fail", &[], "null"),
        member("y", "fail", &[], "null"),
        undone(member("gate", "gate", &[], r#"["ok", "x", "y"]"#), "null"),
        member("after-x", "echo", &["x", "ok"], "null"),
        member("after-after-x", "echo", &["after-x"], "null"),
        member("late", "echo", &["gate"], "null"),
    ];
    run(on_failure, members)
}

async fn two_members_that_fail_mean_what_the_policy_says_and_a_retry_goes_on_from_there(
    fixture: &impl Fixture,
    record: Record,
) {
    let mut stage = Stage::new(fixture, record).await;
    let ran = "ok succeeded, x failed, y failed, gate succeeded, after-x skipped, after-after-x skipped";
    let table = [
        (OnFailure::GoOn, format!("{ran}, late succeeded, then skipped, finally succeeded")),
        (
            OnFailure::Compensate,
            format!(
                "{ran}, late skipped, compensate:ok succeeded, compensate:gate succeeded, then skipped, finally succeeded"
            ),
        ),
        (OnFailure::Stop, format!("{ran}, late skipped, then skipped, finally succeeded")),
    ];
    let mut last = None;
    for (policy, expected) in table {
        let before = stage.executed().len();
        let new = two_fail(policy);
        let run = new.run;
        // The same run again is the same run.
        stage.say(Next::Run(Box::new(new.clone()))).await;
        stage.say(Next::Run(Box::new(new))).await;
        let report = stage.ended(run, 0).await;
        assert_eq!((report.succeeded, report.members), (Some(false), 7), "{report:?}");
        assert_eq!(stage.states(run).await, expected, "{policy:?}");
        let executed = stage.executed().split_off(before);
        let started = expected.split(", ").filter(|word| !word.ends_with("skipped")).count();
        assert_eq!(executed.len(), started, "each once: {executed:?}");
        assert_eq!(executed.last().map(String::as_str), Some("finally"));
        if policy == OnFailure::Compensate {
            assert_eq!(executed[4..6], ["compensate:gate", "compensate:ok"], "the last that ended first");
            assert_eq!(stage.args("compensate:ok")["was"]["n"], 7);
        }
        let told = stage.args("finally");
        assert_eq!(told["members"]["x"]["error"], "out of paper");
        assert_eq!((&told["succeeded"], &told["members"]["ok"]["value"]["n"]), (&false.into(), &7.into()));
        last = Some(run);
    }
    let run = last.expect("three runs");
    let names = ["ok", "x", "y", "gate", "after-x", "after-after-x", "late", "then", "finally"];
    let before = stage.counts(&names);
    for _ in 0..2 {
        stage.say(Next::Again(Again { run, replay: 1, after_ms: None })).await;
    }
    assert_eq!(stage.ended(run, 1).await.succeeded, Some(true));
    assert!(!stage.states(run).await.contains("skipped"), "{}", stage.states(run).await);
    let more: Vec<usize> = stage.counts(&names).iter().zip(before).map(|(now, before)| now - before).collect();
    assert_eq!(more, [0, 1, 1, 0, 1, 1, 1, 1, 1], "what succeeded is not done again");
    stage.end().await;
}

async fn values_come_in_the_args_however_large_they_are_and_stay_there_for_a_second_attempt(
    fixture: &impl Fixture,
    record: Record,
) {
    let mut stage = Stage::new(fixture, record).await;
    let members = vec![
        member("small", "echo", &[], r#"{"x": 1.50}"#),
        member("large", "large", &[], "null"),
        member("both", "second", &["small", "large"], r#"{"all": {"$from": "*"}, "how": [{"$state": "small"}]}"#),
        member("one", "echo", &["large"], r#"{"$from": "large"}"#),
    ];
    let new = run(OnFailure::Stop, members);
    let id = new.run;
    stage.say(Next::Run(Box::new(new))).await;
    assert_eq!(stage.ended(id, 0).await.succeeded, Some(true), "{}", stage.states(id).await);
    assert_eq!(stage.counts(&["both"]), [2]);
    for line in stage.ledger().iter().filter(|line| line.member == "both") {
        let length = |value: &serde_json::Value| value.as_str().map(str::len);
        assert_eq!(length(&line.args["all"]["large"]), Some(100_000));
        assert_eq!((&line.args["all"]["small"]["x"], &line.args["how"][0]), (&1.5.into(), &"succeeded".into()));
    }
    assert_eq!(stage.args("one").as_str().map(str::len), Some(100_000));
    // What follows everything gets the large value twice.
    assert_eq!(stage.args("then")["members"]["one"]["value"].as_str().map(str::len), Some(100_000));
    stage.end().await;
}

async fn ten_replays_of_a_member_fire_its_completion_once(fixture: &impl Fixture, record: Record) {
    let mut stage = Stage::new(fixture, record).await;
    let members: Vec<_> = ["a", "b", "c"].iter().map(|name| member(name, "echo", &[], "1")).collect();
    let joined = member("join", "echo", &["a", "b", "c"], r#"{"$from": "*"}"#);
    let new = run(OnFailure::Stop, members.into_iter().chain([joined]).collect());
    let id_of_run = new.run;
    stage.say(Next::Run(Box::new(new))).await;
    stage.ended(id_of_run, 0).await;
    for replay in 1..=10 {
        stage.broker.publish(vec![by_hand(id_of_run, "a", replay)]).await.remove(0).expect("published");
    }
    stage.replayed(id_of_run, "a", 10).await;
    // A last run of the same trigger: whatever those ends fired has been fired by now.
    let marker = run(OnFailure::Stop, vec![member("marker", "echo", &[], "null")]);
    let marked = marker.run;
    stage.say(Next::Run(Box::new(marker))).await;
    stage.ended(marked, 0).await;
    assert_eq!(stage.counts(&["a", "join"]), [11, 1]);
    assert_eq!(stage.counts(&["then", "finally"]), [2, 2], "one each of two runs");
    stage.end().await;
}

/// A member's job as a person starts it anew.
fn by_hand(run: uuid::Uuid, name: &str, replay: u32) -> Outgoing {
    let mut job: Job = member(name, "echo", &[], "1").job;
    (job.id, job.run, job.member, job.next, job.replay) =
        (id(run, name), Some(run), Some(name.to_owned()), true, replay);
    let mut message = message::encode(&job, true);
    message.properties.headers.insert(header::CLAIM.to_owned(), HeaderValue::Bool(true));
    Outgoing { to: Address::Work(QUEUE.to_owned()), message, must: true }
}

async fn a_member_that_never_runs_ends_all_the_same(fixture: &impl Fixture, record: Record) {
    let mut stage = Stage::new(fixture, record).await;
    let mut nowhere = member("nowhere", "echo", &[], "null");
    nowhere.job.queue = "nowhere".to_owned();
    let mut late = member("late", "echo", &[], "null");
    late.expires_ms = Some(0);
    let members = vec![
        nowhere,
        late,
        member("stranger", "unheard", &[], "null"),
        member("lost", "echo", &["late"], "null"),
        member("fine", "echo", &[], "null"),
    ];
    let new = run(OnFailure::GoOn, members);
    let id = new.run;
    stage.say(Next::Run(Box::new(new))).await;
    assert_eq!(stage.ended(id, 0).await.succeeded, Some(false));
    let expected =
        "nowhere dead, late expired, stranger dead, lost skipped, fine succeeded, then skipped, finally succeeded";
    assert_eq!(stage.states(id).await, expected);
    let errors: Vec<String> = stage.members(id).await.into_iter().filter_map(|member| member.error).collect();
    assert!(errors[0].contains("nowhere") && errors[2].contains("unheard"), "{errors:?}");
    stage.end().await;
}

async fn what_a_dead_trigger_left_is_published_once_by_two_others(fixture: &impl Fixture, record: Record) {
    let mut stage = Stage::quiet(fixture, record, 4).await;
    let members = vec![member("a", "echo", &[], "null"), member("b", "echo", &["a"], "null")];
    let new = run(OnFailure::Stop, members);
    let id = new.run;
    // Stored, and neither told nor published: so far a trigger came.
    let left = stage.record.results.follow(&[Next::Run(Box::new(new))], &|_| None).await.unwrap();
    assert_eq!((left.tell.len(), left.due.len()), (1, 1));
    stage.trigger();
    stage.trigger();
    assert_eq!(stage.ended(id, 0).await.succeeded, Some(true));
    assert_eq!(stage.counts(&["a", "b", "then", "finally"]), [1, 1, 1, 1]);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_members_are_one_fan_in() {
    let fixture = OnEmbedded::install(false).await;
    let mut stage = Stage::quiet(&fixture, Record::sqlite().await, 16).await;
    stage.trigger();
    let names: Vec<String> = (0..9_999).map(|number| format!("m{number}")).collect();
    let mut members: Vec<_> = names.iter().map(|name| member(name, "echo", &[], "null")).collect();
    let needs: Vec<&str> = names.iter().map(String::as_str).collect();
    members.push(member("join", "echo", &needs, r#"{"$state": "*"}"#));
    let mut new = run(OnFailure::Stop, members);
    (new.then, new.finally) = (None, closing("finally"));
    let (id, since) = (new.run, Instant::now());
    stage.say(Next::Run(Box::new(new))).await;
    let report = stage.ended(id, 0).await;
    let rows = stage.members(id).await;
    let ledger = stage.ledger();
    let last =
        ledger.iter().filter(|line| line.member.starts_with('m')).map(|line| line.at).max().expect("members ran");
    let join = ledger.iter().find(|line| line.member == "join").expect("it ran").at;
    println!(
        "10 000 members, embedded, {:?} in all: the join ran {:?} after the last of them",
        since.elapsed(),
        join - last
    );
    assert_eq!((report.succeeded, rows.len()), (Some(true), 10_001));
    assert_eq!(stage.args("join").as_object().map(serde_json::Map::len), Some(9_999));
    assert_eq!(stage.counts(&["join", "finally"]), [1, 1]);
    stage.end().await;
}
