//! Real programs: one that behaves, in shell, and one that does not, in Python.

use std::{sync::Arc, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::{Draft, Drafts, Places, Program, Programs};
use crate::{
    Bounds, Cancelled, Cause, Context, Emission, Executor, Failure, Job, Json, Kept, KindPattern, Outcome, Progress,
    Ready, Stream, Unready,
};

const HERE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/programs/tests");

fn kinds(names: &[&str]) -> Vec<KindPattern> {
    names.iter().flat_map(|name| KindPattern::new(*name)).collect()
}

fn program(with: impl FnOnce(&mut Program)) -> Programs {
    let mut program = Program::new(vec!["python3".to_owned(), format!("{HERE}/rude.py")], kinds(&["rude"]));
    with(&mut program);
    Programs::new(program, &Places::new(8))
}

fn context() -> Context {
    let mut context = Context::new(Uuid::now_v7(), None);
    context.soft_to_hard = Duration::from_millis(200);
    context
}

fn job(args: impl Into<String>) -> Job {
    Job::new("rude", "q", Json::new(args.into()).expect("JSON"))
}

async fn run_in(programs: &Programs, args: impl Into<String>, context: &Context) -> (Outcome, Kept) {
    let outcome = programs.run(&job(args), context).await;
    (outcome, context.take_kept())
}

async fn run(programs: &Programs, args: impl Into<String>) -> (Outcome, Kept) {
    run_in(programs, args, &context()).await
}

async fn value(programs: &Programs, args: impl Into<String>) -> serde_json::Value {
    match run(programs, args).await.0 {
        Outcome::Succeeded(value) => value.read().expect("JSON"),
        other => panic!("{other:?}"),
    }
}

async fn failure(programs: &Programs, args: impl Into<String>) -> Failure {
    match run(programs, args).await.0 {
        Outcome::Failed(failure) => failure,
        other => panic!("{other:?}"),
    }
}

async fn pid(programs: &Programs) -> u64 {
    value(programs, r#"{"do":"pid"}"#).await.as_u64().expect("a number")
}

async fn ready(programs: &Programs, kind: &str) -> Result<Ready, Unready> {
    programs.ready(kind).expect("it is not always ready").await
}

async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < end, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn runs(pid: u64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

#[tokio::test]
async fn a_program_in_shell_runs_jobs_one_after_the_other_in_one_process() {
    let plain = Program::new(vec!["sh".to_owned(), format!("{HERE}/plain.sh")], kinds(&["pl*"]));
    let programs = Programs::new(plain, &Places::new(1));
    let job = Job::new("plain", "q", Json::new(r#"{"a": "é"}"#).expect("JSON"));
    let mut pids = Vec::new();
    for _ in 0..3 {
        let context = context();
        let Outcome::Succeeded(pid) = programs.run(&job, &context).await else { panic!("it succeeds") };
        pids.push(pid);
        assert!(context.take_kept().stdout.head.contains(r#""args":{"a": "é"}"#), "what it prints is the job's");
    }
    assert!(pids.windows(2).all(|two| two[0] == two[1]), "{pids:?}");
    let offers = programs.offers();
    assert_eq!((offers.len(), offers[0].kind.as_str(), offers[0].program.as_str()), (1, "plain", "plain 1"));
    assert!(ready(&programs, "plainer").await.is_err_and(|why| why.0.contains("it serves plain")));
    programs.close().await;
    assert_eq!(programs.live(), 0);
}

#[tokio::test]
async fn a_program_is_told_all_of_the_job_and_its_words_are_the_jobs() {
    let programs = program(|_| {});
    let mut context = context();
    context.limits = Some(crate::Timeout { soft: Duration::from_millis(1500), hard: Duration::from_secs(2) });
    context.last_attempt = true;
    let (told, _) = run_in(&programs, r#"{"do":"tell"}"#, &context).await;
    let Outcome::Succeeded(told) = told else { panic!("{told:?}") };
    let told: serde_json::Value = told.read().expect("JSON");
    assert_eq!(
        (&told["job"]["kind"], &told["job"]["attempt"], &told["job"]["replay"]),
        (&"rude".into(), &1.into(), &0.into())
    );
    assert_eq!((&told["soft_seconds"], &told["hard_seconds"]), (&1.5.into(), &2.0.into()));
    assert_eq!((&told["last_attempt"], &told["maybe_rerun"]), (&true.into(), &false.into()));

    let (emissions, mut heard) = mpsc::channel(100);
    let context = Context::new(Uuid::now_v7(), Some(emissions));
    let (_, kept) = run_in(&programs, r#"{"do":"print"}"#, &context).await;
    assert_eq!(kept.stdout.head, "{\"type\":\"result\"} 7\n\n");
    assert_eq!(
        kept.stderr.head.lines().collect::<std::collections::BTreeSet<_>>(),
        ["WARNING by the socket", "to the other"].into()
    );
    drop(context);
    let (mut live, mut progress) = (0, Vec::new());
    while let Some(emission) = heard.recv().await {
        match emission {
            Emission::Output(Stream::Stdout | Stream::Stderr, _) => live += 1,
            Emission::Progress(told) => progress.push(told),
            Emission::Steps(_) => {}
        }
    }
    assert!(live >= 2);
    assert_eq!(progress, [Progress { done: 1.0, of: Some(4.0), note: "on its way".into() }]);

    for (says, is) in [
        (
            r#"{"outcome":"retry","after":1.5,"reason":"busy"}"#,
            Outcome::Retry { after: Some(Duration::from_millis(1500)), reason: "busy".into() },
        ),
        (r#"{"outcome":"discard","reason":"old"}"#, Outcome::Discard { reason: "old".into() }),
        (r#"{"outcome":"failed","message":"no","cause":"args"}"#, Outcome::Failed(Failure::args("no"))),
        (r#"{"outcome":"failed","message":"no","detail":"line 1"}"#, Outcome::failed("no")),
    ] {
        assert_eq!(run(&programs, format!(r#"{{"do":"say","result":{says}}}"#)).await.0, is);
    }
    let bytes = 3 << 20;
    let big = value(&programs, format!(r#"{{"do":"big","bytes":{bytes}}}"#)).await;
    assert_eq!(big.as_str().map(str::len), Some(bytes));
    assert_eq!(programs.live(), 1, "all of it was one process");
}

#[tokio::test]
async fn whatever_a_program_does_is_its_jobs_failure_and_the_next_one_runs() {
    let programs = program(|_| {});
    let mut last = pid(&programs).await;
    for (what, word) in [
        ("half", "the middle of a frame"),
        ("length", "begin with the length"),
        ("json", "no JSON"),
        ("other", "does not run"),
        ("exit", "exit code 3): going down"),
        ("signal", "signal 9"),
        ("close", "ended in the middle"),
    ] {
        let failure = failure(&programs, format!(r#"{{"do":"{what}"}}"#)).await;
        assert!(failure.cause == Cause::Crash && failure.message.contains(word), "{what}: {failure:?}");
        let now = pid(&programs).await;
        assert_ne!(now, last, "{what}: another process runs the next");
        eventually("the rude one is gone", || !runs(last)).await;
        last = now;
    }
    // One that goes between its choice and the job's start costs the job nothing.
    let held = ready(&programs, "rude").await.expect("one is free");
    kill_process(Pid::from_raw(i32::try_from(last).expect("small")).expect("not 0"), Signal::KILL).expect("it lives");
    eventually("it is gone", || !runs(last)).await;
    let bringing = context();
    bringing.bring(held);
    let (outcome, _) = run_in(&programs, r#"{"do":"pid"}"#, &bringing).await;
    assert!(matches!(outcome, Outcome::Succeeded(_)), "{outcome:?}");

    let (said, _) = run(&programs, r#"{"do":"say","result":{"outcome":"fine"}}"#).await;
    assert!(matches!(said, Outcome::Failed(why) if why.message.contains("`fine`")));
    // A second result is seen when nothing runs, and harms no job.
    let last = pid(&programs).await;
    value(&programs, r#"{"do":"twice"}"#).await;
    eventually("it is replaced", || !runs(last)).await;
    assert_ne!(pid(&programs).await, last);
    let (_, kept) = run(&programs, r#"{"do":"flood"}"#).await;
    assert_eq!(kept.stdout.bytes, 64 * 65536);
    assert!(kept.stdout.head.len() + kept.stdout.tail.len() <= 32 * 1024);
}

#[tokio::test]
async fn a_job_that_is_to_end_is_asked_first_and_then_ended_with_its_process() {
    let programs = program(|_| {});
    let mut ends = Vec::new();
    for what in ["long", "hang", "finish"] {
        let mut context = context();
        if what == "finish" {
            // It has to have begun by then, also on a busy machine.
            context.soft_to_hard = Duration::from_secs(2);
        }
        let context = Arc::new(context);
        let (canceller, asked) = (context.canceller(), Arc::clone(&context));
        let (programs, args) = (programs.clone(), format!(r#"{{"do":"{what}"}}"#));
        let before = pid(&programs).await;
        let running = TaskTracker::new().spawn(async move { programs.run(&job(args), &asked).await });
        eventually("it runs", || Arc::strong_count(&context) > 1).await;
        canceller.cancel(Cancelled::Person("ann: not needed".into()));
        ends.push((running.await.expect("no panic"), before));
    }
    assert_eq!(ends[0].0, Outcome::failed("heeded: cancelled"));
    assert_eq!(ends[0].1, ends[1].1, "one that heeds stays");
    assert!(matches!(&ends[1].0, Outcome::Failed(why) if why.cause == Cause::Cancelled), "{:?}", ends[1].0);
    assert!(!runs(ends[1].1), "one that does not is gone");
    assert!(matches!(&ends[2].0, Outcome::Succeeded(_)), "done at the last moment is done: {:?}", ends[2].0);
    assert!(!runs(ends[2].1), "it goes all the same");
    // Nobody waits for it any more: it ends with all that belongs to it.
    let last = pid(&programs).await;
    let unwanted = tokio::time::timeout(Duration::from_millis(100), run(&programs, r#"{"do":"hang"}"#)).await;
    assert!(unwanted.is_err());
    eventually("it is gone", || !runs(last)).await;
}

#[tokio::test]
async fn one_that_answers_no_ping_is_hung_whether_it_runs_a_job_or_not() {
    let quick =
        |program: &mut Program| (program.ping, program.pong) = (Duration::from_millis(50), Duration::from_millis(400));
    let programs = program(quick);
    value(&programs, r#"{"do":"pid"}"#).await;
    let hung = failure(&programs, r#"{"do":"hang"}"#).await;
    assert!(hung.cause == Cause::Crash && hung.message.contains("no ping"), "{hung:?}");
    let deaf = program(|program| {
        quick(program);
        program.run.push("deaf".to_owned());
    });
    let first = pid(&deaf).await;
    eventually("it is ended", || !runs(first)).await;
    assert_ne!(pid(&deaf).await, first);
}

#[tokio::test]
async fn memory_is_bounded_during_a_job_and_recycled_after_one() {
    let programs = program(|program| program.recycle_memory = Some(64 << 20));
    let mut bounded = context();
    bounded.bounds = Bounds { memory: Some(64 << 20), files: None };
    let (ended, _) = run_in(&programs, r#"{"do":"leak","mib":128,"stay":true}"#, &bounded).await;
    assert!(matches!(&ended, Outcome::Failed(why) if why.cause == Cause::Memory), "{ended:?}");
    let large = value(&programs, r#"{"do":"leak","mib":128}"#).await.as_u64().expect("a number");
    eventually("it is replaced", || !runs(large)).await;
    let programs = program(|program| program.recycle_jobs = 2);
    let pids = [pid(&programs).await, pid(&programs).await, pid(&programs).await];
    assert!(pids[0] == pids[1] && pids[1] != pids[2], "{pids:?}");
}

#[tokio::test]
async fn as_many_run_as_jobs_wait_and_the_warmest_goes_first() {
    let programs = program(|program| {
        (program.min, program.max, program.idle) = (1, 3, Duration::from_millis(300));
    });
    programs.open();
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let programs = programs.clone();
        running.spawn(async move { pid(&programs).await });
    }
    let pids: std::collections::BTreeSet<u64> = running.join_all().await.into_iter().collect();
    assert!((1..=3).contains(&pids.len()), "{pids:?}");
    let held: Vec<_> =
        [ready(&programs, "rude").await, ready(&programs, "rude").await, ready(&programs, "rude").await].into();
    assert!(held.iter().all(Result::is_ok) && programs.live() == 3);
    assert!(tokio::time::timeout(Duration::from_millis(50), ready(&programs, "rude")).await.is_err(), "a fourth waits");
    drop(held);
    let warm = pid(&programs).await;
    assert_eq!(pid(&programs).await, warm);
    eventually("what is not needed leaves", || programs.live() == 1).await;
    assert!(runs(pid(&programs).await));
    let forked = value(&programs, r#"{"do":"fork"}"#).await.as_u64().expect("a number");
    assert!(runs(forked), "what a job leaves behind is left alone");
    programs.close().await;
    assert!(!runs(forked), "until the process ends");
}

#[tokio::test]
async fn two_programs_share_the_places_of_one_consumer() {
    let places = Places::new(1);
    let mut both = Vec::new();
    for _ in 0..2 {
        let program = Program::new(vec!["python3".to_owned(), format!("{HERE}/rude.py")], kinds(&["rude"]));
        both.push(Programs::new(program, &places));
    }
    let first = pid(&both[0]).await;
    pid(&both[1]).await;
    eventually("the idle one made room", || !runs(first)).await;
    assert_eq!((both[0].live(), both[1].live()), (0, 1));
}

#[tokio::test]
async fn one_that_cannot_start_says_why_and_is_tried_again() {
    for (word, why) in [("broken", "no module named images"), ("newer", "version 2"), ("late", "within")] {
        let programs = program(|program| {
            program.run.push(word.to_owned());
            program.start_timeout = Duration::from_millis(if word == "late" { 300 } else { 20_000 });
        });
        let unready = ready(&programs, "rude").await.err().map(|unready| unready.0).unwrap_or_default();
        assert!(unready.contains(why) && unready.contains("rude.py"), "{word}: {unready}");
        assert!(ready(&programs, "rude").await.is_err(), "at once");
        let offers = programs.offers();
        assert!(offers.len() == 1 && offers[0].trouble.as_ref().is_some_and(|told| told.contains(why)), "{offers:?}");
    }
    let missing = Programs::new(Program::new(vec!["/no/such/program".into()], kinds(&["rude"])), &Places::new(1));
    assert!(
        ready(&missing, "rude").await.is_err_and(|why| why.0.contains("exit code 127") && why.0.contains("not found"))
    );

    let scratch = std::env::temp_dir().join(format!("spinor-once-{}", Uuid::now_v7()));
    std::fs::write(&scratch, "").expect("a file");
    let programs = program(|program| program.run.extend(["once".to_owned(), scratch.display().to_string()]));
    assert!(ready(&programs, "rude").await.is_err());
    std::fs::remove_file(&scratch).expect("it is there");
    eventually("it is tried again by the clock", || programs.offers().iter().all(|offer| offer.trouble.is_none()))
        .await;
    pid(&programs).await;
    std::fs::remove_file(&scratch).expect("it is there");
}

struct Read;

impl Drafts for Read {
    fn read(&self, jobs: &[u8]) -> Result<Vec<Draft>, String> {
        let kinds: Vec<String> = serde_json::from_slice(jobs).map_err(|error| format!("[0].kind: {error}"))?;
        Ok(kinds
            .into_iter()
            .map(|kind| Draft { job: Job::new(kind, "q", Json::null()), delay: None, journaled: true })
            .collect())
    }
}

#[tokio::test]
async fn what_a_job_publishes_is_kept_with_its_success_and_refused_by_name() {
    let programs = program(|_| {});
    let publish = async |jobs: &str| {
        let context = context().with_drafts(Some(Arc::new(Read)));
        let (outcome, kept) = run_in(&programs, format!(r#"{{"do":"publish","jobs":{jobs}}}"#), &context).await;
        let Outcome::Succeeded(told) = outcome else { panic!("{outcome:?}") };
        (told.read::<serde_json::Value>().expect("JSON"), kept.publish)
    };
    let (told, kept) = publish(r#"["a","b"]"#).await;
    assert_eq!(kept.iter().map(|draft| draft.job.kind.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!((&told["number"], &told["ids"][1]), (&7.into(), &kept[1].job.id.to_string().into()));
    let (told, kept) = publish("[7]").await;
    assert!(kept.is_empty() && told["error"].as_str().is_some_and(|why| why.starts_with("[0].kind")), "{told}");
}
