//! The guardian, with a consumer that is really killed.

use std::{
    io::{BufRead, BufReader, Lines},
    os::unix::process::CommandExt,
    process::{Child, ChildStdout, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::Known;
use crate::process::tests::{is_alive, is_gone};

/// The example `guarded`, built beside the tests; its first line is its guardian's number.
fn guarded(words: &[&str]) -> (Child, Lines<BufReader<ChildStdout>>, String) {
    let own = std::env::current_exe().expect("the test's own path");
    let example = own.parent().and_then(|deps| deps.parent()).expect("target/debug").join("examples/guarded");
    let mut command = Command::new(&example);
    let mut child = command
        .args(words)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error} (`cargo test` without `--lib` builds it)", example.display()));
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let guardian = line(&mut lines);
    (child, lines, guardian)
}

fn line(lines: &mut Lines<BufReader<ChildStdout>>) -> String {
    lines.next().expect("a line").expect("text")
}

fn pid(number: &str) -> Pid {
    Pid::from_raw(number.parse().expect("a number")).expect("a process number")
}

/// Starts three processes in three ways and says their numbers when they have lived a moment.
const FAMILY: &str = "
    sleep 300 & a=$!
    env -u SPINOR_RUN sleep 300 & b=$!
    c=$(setsid sh -c 'sleep 300 >/dev/null 2>&1 & echo $!')
    sleep 0.2; echo $a; echo $b; echo $c; wait";

#[test]
fn when_a_consumer_is_killed_all_its_processes_go_and_then_its_guardian() {
    let (mut consumer, mut lines, guardian) = guarded(&[FAMILY]);
    let family = [(); 3].map(|()| line(&mut lines));
    // Neither a signal to it nor one to the consumer's group moves the guardian.
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        kill_process(pid(&guardian), signal).expect("it lives");
    }
    assert!(is_alive(&guardian) && family.iter().all(|member| is_alive(member)), "{family:?}");
    kill_process_group(Pid::from_child(&consumer), Signal::KILL).expect("it lives");
    consumer.wait().expect("it was ours");
    assert!(family.iter().all(|member| is_gone(member)), "{family:?}");
    assert!(is_gone(&guardian));
}

#[test]
fn a_daemon_outlives_a_consumer_that_stops_in_good_order() {
    let (mut consumer, mut lines, guardian) = guarded(&["--dismiss", "sleep 300 >/dev/null 2>&1 & echo $!"]);
    let daemon = line(&mut lines);
    assert!(consumer.wait().is_ok_and(|status| status.success()));
    assert!(is_gone(&guardian) && is_alive(&daemon));
    kill_process(pid(&daemon), Signal::KILL).expect("ours to end");
}

#[test]
fn only_groups_that_have_not_ended_are_remembered() {
    let mut known = Known::default();
    let boot = uuid::Uuid::nil();
    for line in [&format!("boot {boot}"), "+12 SPINOR_RUN=x/y", "+13 SPINOR_RUN=x/z", "-12", "+torn", "rubbish"] {
        known.hear(line);
    }
    assert_eq!(known, Known { boot: Some(boot), groups: [(13, "SPINOR_RUN=x/z".to_owned())].into() });
    known.hear("bye");
    assert_eq!(known.boot, None);
}
