//! Real processes: output, ends, trees, what holds a pipe.

use std::{fs, path::Path, time::Duration};

use rustix::{
    event::PollFd,
    process::{Pid, PidfdFlags, pidfd_open},
};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::{Ended, EndedBy, MARKER, Spawn, run};
use crate::{Cancelled, Cause, Context, Emission, Stream};

fn context() -> Context {
    let mut context = Context::new(Uuid::now_v7(), None);
    context.soft_to_hard = Duration::from_millis(300);
    context
}

async fn sh(script: &str, context: &Context) -> Ended {
    run(Spawn::shell(script), context).await.expect("it starts")
}

/// Waits until the process is gone, by its own event.
pub(crate) fn is_gone(pid: &str) -> bool {
    let pid = Pid::from_raw(pid.trim().parse().expect("a number")).expect("a process number");
    let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { return true };
    let bound = rustix::event::Timespec { tv_sec: 10, tv_nsec: 0 };
    rustix::event::poll(&mut [PollFd::new(&pidfd, rustix::event::PollFlags::IN)], Some(&bound)).is_ok_and(|n| n == 1)
}

pub(crate) fn is_alive(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{}/stat", pid.trim()))
        .is_ok_and(|stat| !stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z')))
}

/// Runs a script that prints one line when it is ready, and cancels it then.
async fn cancelled_when_ready(script: &str, why: Cancelled) -> Ended {
    let (to, mut from) = mpsc::channel(16);
    let mut context = Context::new(Uuid::now_v7(), Some(to));
    context.soft_to_hard = Duration::from_millis(300);
    context.limit_to_hard = Some(Duration::from_secs(20));
    let canceller = context.canceller();
    let cancel = async {
        while let Some(emission) = from.recv().await {
            if matches!(emission, Emission::Output(Stream::Stdout, _)) {
                return canceller.cancel(why);
            }
        }
    };
    tokio::join!(sh(script, &context), cancel).0
}

#[tokio::test]
async fn both_streams_are_captured_apart_and_the_exit_code_is_kept() {
    let ended = sh("echo out; echo err >&2; exit 3", &context()).await;
    assert_eq!((ended.stdout.head.as_str(), ended.stderr.head.as_str()), ("out\n", "err\n"));
    assert_eq!((ended.exit.and_then(|exit| exit.code), ended.by.clone()), (Some(3), EndedBy::Itself));
    let failure = ended.failure().expect("3 is a failure");
    assert_eq!((failure.cause, failure.message.as_str()), (Cause::Exit, "exit code 3: err"));
    assert_eq!(sh("true", &context()).await.failure(), None);
}

#[tokio::test]
async fn a_strangers_signal_is_told_from_an_exit() {
    let ended = sh("kill -9 $$", &context()).await;
    assert_eq!(ended.exit.and_then(|exit| exit.signal), Some(9));
    assert_eq!(ended.failure().map(|failure| failure.cause), Some(Cause::Signal));
}

#[tokio::test]
async fn a_flood_is_kept_head_and_tail_with_the_middle_counted() {
    let mut context = context();
    context.keep_output = 1000;
    let ended = sh("echo begin; head -c 3000000 /dev/zero | tr '\\0' x; echo; echo end", &context).await;
    let out = ended.stdout;
    assert_eq!((out.head.len(), out.tail.len()), (500, 500));
    assert!(out.head.starts_with("begin\nxxx") && out.tail.ends_with("xxx\nend\n"));
    assert_eq!((out.bytes, out.dropped), (3_000_011, 2_999_011));
}

#[tokio::test]
async fn live_output_arrives_whole_and_in_order() {
    let (to, mut from) = mpsc::channel(1000);
    let context = Context::new(Uuid::now_v7(), Some(to));
    let ended = sh("seq 1 20000", &context).await;
    drop(context);
    let mut live = Vec::new();
    while let Some(Emission::Output(Stream::Stdout, bytes)) = from.recv().await {
        live.extend_from_slice(&bytes);
    }
    let expected: String = (1..=20_000).map(|n| format!("{n}\n")).collect();
    assert!(String::from_utf8(live).is_ok_and(|live| live == expected));
    assert_eq!(ended.stdout.bytes, expected.len() as u64);
}

#[tokio::test]
async fn output_that_is_no_text_is_readable() {
    let ended = sh("printf 'caf\\303'; sleep 0.1; printf '\\251 \\377'", &context()).await;
    assert_eq!(ended.stdout.head, "café \\xff");
}

#[tokio::test]
async fn standard_input_comes_from_the_job_and_ends() {
    let text = "line\n".repeat(100_000);
    let spawn = Spawn { stdin: text.clone().into(), ..Spawn::shell("wc -c") };
    let ended = run(spawn, &context()).await.expect("it starts");
    assert_eq!(ended.stdout.head.trim(), text.len().to_string());
    assert_eq!(sh("cat", &context()).await.stdout.bytes, 0);
}

#[tokio::test]
async fn a_child_leads_its_group_and_carries_the_marker() {
    let context = context();
    let ended = sh("echo $$; ps -o pgid= -p $$ 2>/dev/null || cut -d' ' -f5 /proc/$$/stat; echo $SPINOR_RUN", &context);
    let ended = ended.await;
    let lines: Vec<_> = ended.stdout.head.lines().map(str::trim).collect();
    assert_eq!(lines[0], lines[1]);
    assert_eq!(lines[2], format!("{}/{}", super::boot(), context.execution));
    assert_eq!(MARKER, "SPINOR_RUN");
}

#[tokio::test]
async fn a_program_or_directory_that_is_not_there_is_named_and_never_helped_by_a_retry() {
    let spawn = Spawn { program: "no-such-program".to_owned(), ..Spawn::default() };
    let failure = run(spawn, &context()).await.expect_err("it cannot start").failure();
    assert_eq!(failure.cause, Cause::Args);
    assert!(failure.message.contains("`no-such-program`"), "{}", failure.message);
    let spawn = Spawn { cwd: Some("/no/such/place".into()), ..Spawn::shell("true") };
    let failure = run(spawn, &context()).await.expect_err("it cannot start").failure();
    assert!(failure.cause == Cause::Args && failure.message.contains("/no/such/place"), "{}", failure.message);
}

#[tokio::test]
async fn a_limit_ends_the_whole_tree_also_what_forked_twice_into_its_own_session() {
    let script = "setsid sh -c 'sleep 300 >/dev/null 2>&1 & echo $!' ; sleep 300 & echo $!; wait";
    let spawn = Spawn { limit: Some(Duration::from_millis(400)), ..Spawn::shell(script) };
    let ended = run(spawn, &context()).await.expect("it starts");
    assert_eq!(ended.by, EndedBy::Limit(Duration::from_millis(400)));
    assert_eq!(ended.failure().map(|failure| failure.cause), Some(Cause::Timeout));
    let pids: Vec<_> = ended.stdout.head.lines().collect();
    assert_eq!(pids.len(), 2);
    assert!(pids.iter().all(|pid| is_gone(pid)), "{pids:?}");
}

#[tokio::test]
async fn a_process_that_is_asked_may_clean_up_and_say_so() {
    let script = "trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.01; done";
    let ended = cancelled_when_ready(script, Cancelled::Person("anna: enough".to_owned())).await;
    assert_eq!(ended.stdout.head, "ready\nbye\n");
    assert_eq!(ended.exit.and_then(|exit| exit.code), Some(7));
    let failure = ended.failure().expect("it was cancelled");
    assert_eq!((failure.cause, failure.message.as_str()), (Cause::Cancelled, "cancelled: anna: enough"));
}

#[tokio::test]
async fn past_its_soft_limit_a_process_has_until_its_hard_one_and_a_cancelled_one_has_not() {
    let script = "trap 'sleep 1; echo bye; exit 7' TERM; echo ready; while :; do sleep 0.01; done";
    let ended = cancelled_when_ready(script, Cancelled::Timeout).await;
    assert_eq!(ended.exit.and_then(|exit| exit.code), Some(7));
    let ended = cancelled_when_ready(script, Cancelled::Drain).await;
    assert_eq!(ended.exit.and_then(|exit| exit.signal), Some(9));
}

#[tokio::test]
async fn what_ignores_sigterm_is_killed_with_all_its_children() {
    let script = "trap '' TERM; sleep 300 & echo $!; while :; do sleep 0.05; done";
    let ended = cancelled_when_ready(script, Cancelled::Drain).await;
    assert_eq!(ended.exit.and_then(|exit| exit.signal), Some(9));
    assert_eq!(ended.left, Vec::<String>::new());
    assert!(is_gone(ended.stdout.head.lines().next().expect("its child's number")));
}

#[tokio::test]
async fn a_background_child_that_holds_the_output_is_ended_after_a_moment() {
    let ended = sh("sleep 300 & echo $!; exit 0", &context()).await;
    assert_eq!((ended.failure(), ended.left.len()), (None, 0));
    assert!(is_gone(&ended.stdout.head));
}

#[tokio::test]
async fn a_daemon_that_let_go_of_the_output_is_left_alone_beside_one_that_did_not() {
    let ended = sh("sleep 300 >/dev/null 2>&1 & echo $!; sleep 301 & echo $!", &context()).await;
    let [daemon, holder] = [0, 1].map(|line| ended.stdout.head.lines().nth(line).expect("a number"));
    assert!(is_gone(holder) && is_alive(daemon));
    let pid = Pid::from_raw(daemon.parse().expect("a number")).expect("a process number");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("ours to end");
}

#[tokio::test]
async fn a_process_that_closes_its_output_is_still_waited_for() {
    let ended = sh("exec >&- 2>&-; sleep 0.3; exit 5", &context()).await;
    assert_eq!(ended.exit.and_then(|exit| exit.code), Some(5));
}

#[tokio::test]
async fn a_dropped_run_ends_its_tree() {
    let (to, mut from) = mpsc::channel(16);
    let context = Context::new(Uuid::now_v7(), Some(to));
    let script = "setsid sleep 300 >/dev/null 2>&1 & echo $!; echo $$; sleep 300";
    let mut running = Box::pin(sh(script, &context));
    let mut said = Vec::new();
    while said.iter().filter(|byte| **byte == b'\n').count() < 2 {
        tokio::select! {
            _ = &mut running => panic!("it sleeps for minutes"),
            emission = from.recv() => if let Some(Emission::Output(_, bytes)) = emission { said.extend_from_slice(&bytes) },
        }
    }
    drop(running);
    let said = String::from_utf8(said).expect("numbers");
    assert!(said.lines().all(is_gone), "{said}");
}

#[tokio::test]
async fn what_is_cancelled_before_it_starts_does_not_start() {
    let context = context();
    context.canceller().cancel(Cancelled::Person("nobody".to_owned()));
    let mark = std::env::temp_dir().join(context.execution.to_string());
    let ended = sh(&format!("touch {}", mark.display()), &context).await;
    assert_eq!((ended.exit, Path::new(&mark).exists()), (None, false));
}

#[tokio::test]
async fn a_tree_that_takes_too_much_memory_is_ended_with_the_figures_named() {
    let mut context = context();
    context.bounds.memory = Some(48 << 20);
    // The memory is a grandchild's, in a session of its own, and the first process waits for it.
    let ended = sh("setsid sh -c 'x=$(head -c 200000000 /dev/zero | tr \\\\0 x); sleep 60' & wait", &context).await;
    let failure = ended.failure().expect("it may not go on");
    assert_eq!(failure.cause, Cause::Memory, "{}", failure.message);
    assert!(failure.message.contains("limit of 48 MiB"), "{}", failure.message);
    assert_eq!(ended.left, Vec::<String>::new());
}

#[tokio::test]
async fn a_tree_within_its_memory_is_left_alone() {
    let mut context = context();
    context.bounds.memory = Some(256 << 20);
    let ended = sh("x=$(head -c 1000000 /dev/zero | tr '\\0' x); sleep 0.5; echo ${#x}", &context).await;
    assert_eq!((ended.failure(), ended.stdout.head.trim()), (None, "1000000"));
}

#[tokio::test]
async fn open_files_are_bounded_by_the_kernel() {
    let mut context = context();
    context.bounds.files = Some(16);
    // The limit is there before the second command of the script.
    let ended = sh("sleep 0.1; ulimit -n", &context).await;
    assert_eq!(ended.stdout.head.trim(), "16");
}
