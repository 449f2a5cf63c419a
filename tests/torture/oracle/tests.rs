//! Each rule, broken in ledgers made by hand; and what must not count as broken.

use uuid::Uuid;

use super::*;
use crate::torture::ledgers::{Cancel, Left, Letter, Row};

/// One job of two attempts that ran as it should: at 10 s and at 12 s, by consumer 7.
fn balanced() -> Ledgers {
    let job = Uuid::from_u128(1);
    let mut ledgers = Ledgers {
        accepted: vec![Accepted {
            id: job,
            what: "test".into(),
            sure: true,
            offered: 1.0,
            answered: 1.1,
            end: "succeeded".into(),
            attempts: 2,
            steps: 1,
            at_most_once: false,
        }],
        jobs: vec![Row { job, state: "succeeded".into() }],
        ..Ledgers::default()
    };
    executed(&mut ledgers, 10.0, 7, Some((1, "retrying", false)));
    executed(&mut ledgers, 12.0, 7, Some((2, "succeeded", false)));
    ledgers
}

/// One more execution of half a second; with a row it was recorded.
fn executed(ledgers: &mut Ledgers, at: Seconds, consumer: u32, row: Option<(u32, &str, bool)>) {
    let job = ledgers.accepted[0].id;
    let execution = Uuid::from_u128(100 + ledgers.lines.len() as u128);
    let line = Line { start: true, job, step: 0, boot: Uuid::from_u128(9), execution, consumer, at };
    ledgers.lines.push(line.clone());
    if let Some((attempt, state, maybe_rerun)) = row {
        ledgers.lines.push(Line { start: false, at: at + 0.5, ..line });
        ledgers.attempts.push(Attempt { job, attempt, execution, state: state.into(), maybe_rerun });
    }
}

fn struck(ledgers: &mut Ledgers, fault: &str, pid: Option<u32>, begun: Seconds, ended: Seconds) {
    let (fault, part, wall) = (fault.into(), "part".into(), String::new());
    ledgers.strikes.push(Strike { fault, part, pid, begun, ended, wall });
}

fn broken(ledgers: &Ledgers) -> Vec<Rule> {
    problems(ledgers).iter().map(|problem| problem.rule).collect()
}

#[test]
fn what_balances_has_no_problem() {
    assert_eq!(problems(&balanced()), []);
}

#[test]
fn a_job_without_its_end_is_lost() {
    let mut gone = balanced();
    gone.jobs.clear();
    assert_eq!(broken(&gone), [Rule::Lost]);
    let mut stuck = balanced();
    stuck.jobs[0].state = "retrying".into();
    assert_eq!(broken(&stuck), [Rule::Lost]);
    let mut never = balanced();
    never.lines.clear();
    never.attempts.clear();
    assert_eq!(broken(&never), [Rule::Lost]);
}

#[test]
fn one_that_may_not_have_been_taken_may_be_gone_but_not_half_done() {
    let mut ledgers = balanced();
    ledgers.accepted[0].sure = false;
    ledgers.jobs.clear();
    assert_eq!(broken(&ledgers), [Rule::Lost], "it ran");
    ledgers.lines.clear();
    ledgers.attempts.clear();
    assert_eq!(broken(&ledgers), []);
}

#[test]
fn another_end_or_a_second_one_is_found() {
    let mut wrong = balanced();
    wrong.jobs[0].state = "failed".into();
    assert_eq!(broken(&wrong), [Rule::WrongEnd]);
    let mut twice = balanced();
    twice.jobs.push(twice.jobs[0].clone());
    assert_eq!(broken(&twice), [Rule::SecondEnd]);
    let mut both = balanced();
    both.attempts[0].state = "failed".into();
    assert!(broken(&both).contains(&Rule::SecondEnd));
}

#[test]
fn what_must_not_run_is_found_when_it_did() {
    let mut ledgers = balanced();
    (ledgers.accepted[0].attempts, ledgers.accepted[0].end) = (0, "succeeded".into());
    assert!(broken(&ledgers).contains(&Rule::WrongEnd));
}

#[test]
fn an_attempt_above_the_policy_is_found() {
    let mut ledgers = balanced();
    ledgers.accepted[0].attempts = 1;
    assert_eq!(broken(&ledgers), [Rule::BeyondPolicy]);
}

#[test]
fn a_second_execution_needs_a_fault_that_struck_the_first_and_a_row_that_says_so() {
    let mut ledgers = balanced();
    executed(&mut ledgers, 11.0, 8, Some((1, "retrying", false)));
    assert_eq!(broken(&ledgers), [Rule::Unexplained], "two rows of one attempt say so, and nothing explains it");
    for (fault, pid, begun) in [
        ("kill", Some(8), 9.0),
        ("kill", Some(7), 40.0),
        ("restart", Some(7), 10.2),
        ("broker-kill", None, 60.0),
        ("database-kill", None, 10.2),
    ] {
        let mut elsewhere = ledgers.clone();
        // Consumer 8's own execution begins at 11.
        struck(&mut elsewhere, fault, pid, begun, begun + 0.1);
        assert_eq!(broken(&elsewhere), [Rule::Unexplained], "{fault}");
    }
    for (fault, pid) in [("kill", Some(7)), ("cut", Some(7)), ("broker-kill", None), ("close-connections", None)] {
        let mut explained = ledgers.clone();
        struck(&mut explained, fault, pid, 10.2, 10.3);
        assert_eq!(broken(&explained), [], "{fault}");
    }
}

#[test]
fn a_cut_execution_is_explained_by_the_kill_of_its_consumer_and_its_rerun_is_marked() {
    let mut ledgers = balanced();
    executed(&mut ledgers, 9.0, 6, None);
    assert_eq!(broken(&ledgers), [Rule::Unexplained, Rule::Unmarked]);
    struck(&mut ledgers, "kill", Some(6), 9.2, 9.3);
    assert_eq!(broken(&ledgers), [Rule::Unmarked]);
    ledgers.attempts[0].maybe_rerun = true;
    assert_eq!(broken(&ledgers), []);
}

#[test]
fn the_cut_double_of_an_execution_whose_report_arrived_leaves_nothing_to_mark() {
    let mut ledgers = balanced();
    executed(&mut ledgers, 13.0, 8, None);
    struck(&mut ledgers, "kill", Some(8), 13.2, 13.3);
    struck(&mut ledgers, "cut", Some(7), 12.1, 12.9);
    assert_eq!(broken(&ledgers), []);
    executed(&mut ledgers, 14.0, 9, Some((2, "succeeded", true)));
    assert_eq!(broken(&ledgers), []);
}

#[test]
fn one_that_waited_in_hand_behind_a_lost_link_may_start_after_its_double() {
    let mut ledgers = balanced();
    executed(&mut ledgers, 9.0, 8, None);
    struck(&mut ledgers, "kill", Some(8), 9.2, 9.3);
    assert_eq!(broken(&ledgers), [Rule::Unmarked]);
    struck(&mut ledgers, "cut", Some(7), 8.2, 9.1);
    assert_eq!(broken(&ledgers), []);
}

#[test]
fn an_answer_that_an_alarm_held_back_dies_with_its_consumer() {
    let mut ledgers = balanced();
    executed(&mut ledgers, 10.8, 8, Some((1, "retrying", true)));
    let kill = |ledgers: &mut Ledgers| struck(ledgers, "kill", Some(7), 22.0, 22.1);
    let mut alone = ledgers.clone();
    kill(&mut alone);
    assert_eq!(broken(&alone), [Rule::Unexplained], "its answer was long given");
    struck(&mut ledgers, "memory-alarm", None, 10.3, 23.0);
    assert_eq!(broken(&ledgers), [Rule::Unexplained], "an alarm alone repeats nothing");
    kill(&mut ledgers);
    assert_eq!(broken(&ledgers), []);
}

#[test]
fn a_publish_that_was_struck_may_have_been_sent_twice() {
    let mut ledgers = balanced();
    executed(&mut ledgers, 10.8, 8, Some((1, "retrying", false)));
    struck(&mut ledgers, "broker-kill", None, 1.0, 1.2);
    assert_eq!(broken(&ledgers), []);
}

#[test]
fn at_most_once_is_not_excused_by_any_fault() {
    let mut ledgers = balanced();
    ledgers.accepted[0].at_most_once = true;
    ledgers.accepted[0].attempts = 1;
    ledgers.attempts[1].attempt = 1;
    ledgers.attempts[0].state = "succeeded".into();
    ledgers.attempts[1].maybe_rerun = true;
    struck(&mut ledgers, "kill", Some(7), 10.2, 10.3);
    assert_eq!(broken(&ledgers), [Rule::AtMostOnce]);
}

#[test]
fn what_nobody_published_or_ran_is_found() {
    let mut ghost = balanced();
    ghost.jobs.push(Row { job: Uuid::from_u128(2), state: "succeeded".into() });
    assert_eq!(broken(&ghost), [Rule::Invented]);
    let mut lie = balanced();
    lie.attempts[1].execution = Uuid::from_u128(77);
    assert!(broken(&lie).contains(&Rule::Invented));
}

#[test]
fn a_plan_goes_on_where_it_was_cut_and_repeats_no_step_for_nothing() {
    let mut ledgers = balanced();
    (ledgers.accepted[0].steps, ledgers.accepted[0].attempts) = (2, 1);
    ledgers.attempts.remove(0);
    (ledgers.attempts[0].attempt, ledgers.attempts[0].maybe_rerun) = (1, true);
    ledgers.lines.iter_mut().skip(2).for_each(|line| line.step = 1);
    assert_eq!(broken(&ledgers), [], "two executions, each with a step of its own");
    executed(&mut ledgers, 14.0, 7, None);
    assert_eq!(broken(&ledgers), [Rule::Unexplained]);
    struck(&mut ledgers, "kill", Some(7), 10.2, 10.3);
    assert_eq!(broken(&ledgers), []);
}

#[test]
fn a_job_is_parked_only_after_its_consumers_were_killed_again_and_again_and_its_letter_is_kept() {
    let mut ledgers = balanced();
    let job = ledgers.accepted[0].id;
    ledgers.lines.clear();
    ledgers.attempts.clear();
    ledgers.jobs[0].state = "dead".into();
    for death in 1..PARKED as u32 {
        executed(&mut ledgers, f64::from(10 * death), death, None);
        struck(&mut ledgers, "kill", Some(death), f64::from(10 * death) + 0.2, f64::from(10 * death) + 0.3);
    }
    ledgers.letters.push(Letter { job, reason: "crashes: 2 consumers died".into() });
    assert_eq!(broken(&ledgers), [Rule::WrongEnd, Rule::Left], "one death too few");
    executed(&mut ledgers, 90.0, 9, None);
    struck(&mut ledgers, "kill", Some(9), 90.2, 90.3);
    assert_eq!(problems(&ledgers), []);
    ledgers.letters[0].reason = "no consumer serves it".into();
    assert_eq!(broken(&ledgers), [Rule::Left]);
    ledgers.letters.clear();
    assert_eq!(broken(&ledgers), [Rule::WrongEnd], "nothing is left of it");
}

#[test]
fn what_is_left_at_the_end_is_a_problem() {
    let mut ledgers = balanced();
    ledgers.left.push(Left { what: "process 12 is alive".into() });
    assert_eq!(broken(&ledgers), [Rule::Left]);
}

/// A job of one attempt of half a second at 10 s, cancelled at that time.
fn cancelled(at: Seconds, state: &str) -> Ledgers {
    let mut ledgers = balanced();
    ledgers.accepted[0].attempts = 1;
    ledgers.lines.truncate(2);
    ledgers.attempts.truncate(1);
    ledgers.attempts[0].state = state.into();
    ledgers.jobs[0].state = state.into();
    ledgers.cancels.push(Cancel { job: ledgers.accepted[0].id, asked: at, answered: at, sure: true });
    ledgers
}

#[test]
fn a_cancel_that_was_accepted_is_obeyed_within_its_bound() {
    assert_eq!(problems(&cancelled(9.0, "cancelled")), [], "it may have been on its way");
    assert_eq!(problems(&cancelled(9.0, "succeeded")), [], "it was done before it was heard");
    let mut never = cancelled(2.0, "cancelled");
    never.lines.clear();
    never.attempts.clear();
    assert_eq!(problems(&never), []);
    let mut late = cancelled(-1.0, "succeeded");
    assert_eq!(broken(&late), [Rule::LostCancel]);
    struck(&mut late, "state-kill", None, 1.0, 3.0);
    assert_eq!(problems(&late), [], "nobody could know");
    let mut unsure = cancelled(-1.0, "succeeded");
    unsure.cancels[0].sure = false;
    assert_eq!(problems(&unsure), []);
    let mut forgotten = cancelled(9.0, "succeeded");
    forgotten.lines.truncate(1);
    assert_eq!(broken(&forgotten), [Rule::LostCancel], "it was never done");
    let mut nobody = cancelled(9.0, "cancelled");
    nobody.cancels.clear();
    assert_eq!(broken(&nobody), [Rule::WrongEnd]);
}

#[test]
fn one_that_was_given_up_as_lost_may_report_late_and_stays_lost() {
    let mut late = cancelled(9.0, "succeeded");
    late.cancels.clear();
    late.accepted[0].at_most_once = true;
    late.jobs[0].state = "lost".into();
    let mut given_up = late.attempts[0].clone();
    (given_up.state, given_up.execution) = ("lost".into(), Uuid::nil());
    late.attempts.push(given_up);
    assert_eq!(broken(&late), [Rule::WrongEnd, Rule::SecondEnd], "nothing was struck");
    struck(&mut late, "freeze", Some(7), 10.2, 53.0);
    assert_eq!(problems(&late), []);
    late.jobs[0].state = "succeeded".into();
    assert_eq!(broken(&late), [Rule::SecondEnd], "the state moved on from its end");
}

#[test]
fn each_strike_explains_one_more_execution() {
    let mut ledgers = balanced();
    for (at, consumer) in [(20.0, 8), (21.0, 9)] {
        executed(&mut ledgers, at, consumer, Some((1, "retrying", true)));
    }
    ledgers.accepted[0].attempts = 1;
    ledgers.attempts.retain(|row| row.attempt == 1);
    ledgers.attempts[0].state = "succeeded".into();
    ledgers.lines.retain(|line| (line.at - 12.0).abs() > 0.6);
    struck(&mut ledgers, "close-connections", None, 10.1, 10.2);
    assert_eq!(broken(&ledgers), [Rule::Unexplained]);
    struck(&mut ledgers, "kill", Some(7), 10.3, 10.4);
    assert_eq!(problems(&ledgers), []);
}

#[test]
fn what_runs_at_most_once_may_be_lost_by_a_strike_alone() {
    let mut lost = cancelled(9.0, "lost");
    lost.cancels.clear();
    lost.attempts.clear();
    lost.lines.truncate(1);
    assert_eq!(broken(&lost), [Rule::WrongEnd], "it had rather run twice");
    lost.accepted[0].at_most_once = true;
    assert_eq!(broken(&lost), [Rule::WrongEnd], "nothing was struck");
    struck(&mut lost, "kill", Some(7), 10.2, 10.3);
    assert_eq!(problems(&lost), []);
}
