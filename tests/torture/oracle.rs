//! What the ledgers prove. Pure: the same ledgers, the same problems.
//!
//! Owns the rules. Refuses to know the seed, the plan and the switches: a strike is what the fault
//! log says it is, a job what its publisher asked for.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::ledgers::{Accepted, Attempt, Cancel, Ledgers, Letter, Line, Seconds, Strike};

const FINAL: [&str; 7] = ["succeeded", "failed", "discarded", "cancelled", "expired", "dead", "lost"];
/// An execution's answer may be on its way so long when nothing is in its way.
const SETTLE: Seconds = 5.0;
/// After a fault of the link or the broker it may take so long until the link is back (15 s
/// between two tries, and a connect).
const BACK: Seconds = 25.0;
/// What came over a lost link waits in hand so long at most before it starts.
const HAND: Seconds = 6.0;
/// A kill that ends an execution comes within the longest job of the mix and the machine's delays.
const LONGEST: Seconds = 60.0;
/// A cancel is obeyed within this: consumers ask State every 3 s, and a process gets its moment to end.
const OBEYED: Seconds = 10.0;
/// A job may be parked when so many of its executions ended with their consumer: four starts have to,
/// and one may be cut before its process writes a line.
const PARKED: usize = 3;
/// The jobs' clock has hundredths, and a fault is written down around its signal.
const SLACK: Seconds = 0.5;

/// One thing that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The rule that is broken.
    pub rule: Rule,
    /// The case, in words.
    pub text: String,
}

/// The rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Accepted, and no end on record.
    Lost,
    /// An end other than the job's own.
    WrongEnd,
    /// Recorded twice, or with two different ends.
    SecondEnd,
    /// More executions than attempts, and no fault that explains it.
    Unexplained,
    /// More executions than attempts, and the record does not say so.
    Unmarked,
    /// More attempts than its policy grants.
    BeyondPolicy,
    /// Twice, though it had rather be lost.
    AtMostOnce,
    /// A cancel that was accepted was not obeyed.
    LostCancel,
    /// Nobody published it, or what is recorded did not happen.
    Invented,
    /// A process, a part or a message in a place where none should be.
    Left,
}

/// Everything that is wrong.
pub fn problems(ledgers: &Ledgers) -> Vec<Problem> {
    let ends: BTreeMap<(Uuid, u32), Seconds> =
        ledgers.lines.iter().filter(|line| !line.start).map(|line| ((line.execution, line.step), line.at)).collect();
    let starts = group(ledgers.lines.iter().filter(|line| line.start).map(|line| (line.job, line)));
    let rows = group(ledgers.jobs.iter().map(|row| (row.job, row.state.as_str())));
    let attempts = group(ledgers.attempts.iter().map(|row| (row.job, row)));
    let letters = group(ledgers.letters.iter().map(|letter| (letter.job, letter)));
    let cancels: BTreeMap<Uuid, &Cancel> = ledgers.cancels.iter().map(|cancel| (cancel.job, cancel)).collect();
    let mut problems = Vec::new();
    let mut known = BTreeSet::new();
    for accepted in &ledgers.accepted {
        known.insert(accepted.id);
        Case {
            accepted,
            starts: of(&starts, accepted.id),
            ends: &ends,
            rows: of(&rows, accepted.id),
            attempts: of(&attempts, accepted.id),
            letters: of(&letters, accepted.id),
            cancel: cancels.get(&accepted.id).copied(),
            strikes: &ledgers.strikes,
            problems: &mut problems,
        }
        .judge();
    }
    let seen = starts.keys().chain(rows.keys()).chain(attempts.keys()).chain(letters.keys()).collect::<BTreeSet<_>>();
    let strangers = seen.into_iter().filter(|job| !known.contains(*job));
    problems.extend(strangers.map(|job| Problem { rule: Rule::Invented, text: format!("{job} was never published") }));
    problems.extend(ledgers.left.iter().map(|left| Problem { rule: Rule::Left, text: left.what.clone() }));
    problems
}

/// One job in all ledgers.
struct Case<'a> {
    accepted: &'a Accepted,
    starts: &'a [&'a Line],
    ends: &'a BTreeMap<(Uuid, u32), Seconds>,
    rows: &'a [&'a str],
    attempts: &'a [&'a Attempt],
    letters: &'a [&'a Letter],
    cancel: Option<&'a Cancel>,
    strikes: &'a [Strike],
    problems: &'a mut Vec<Problem>,
}

impl Case<'_> {
    fn says(&mut self, rule: Rule, text: &str) {
        let text = format!("{} ({}): {text}", self.accepted.id, self.accepted.what);
        self.problems.push(Problem { rule, text });
    }

    fn judge(mut self) {
        self.has_its_end();
        self.has_no_letter_without_reason();
        self.ends_once();
        self.keeps_to_its_policy();
        self.obeys();
        self.happened_as_recorded();
        self.ran_no_more_than_explained();
    }

    fn has_its_end(&mut self) {
        match self.rows {
            [] if self.accepted.sure => self.says(Rule::Lost, "accepted and not on record"),
            [] if !self.starts.is_empty() => self.says(Rule::Lost, "executed and not on record"),
            [] => {}
            [state] if !FINAL.contains(state) => self.says(Rule::Lost, &format!("it stays {state}")),
            [state] if *state != self.accepted.end && !self.may_end_as(state) => {
                self.says(Rule::WrongEnd, &format!("{state} instead of {}", self.accepted.end));
            }
            [_] => {}
            more => self.says(Rule::SecondEnd, &format!("{} rows", more.len())),
        }
        let ran = !self.starts.is_empty();
        if self.rows == ["succeeded"] && !ran {
            self.says(Rule::Lost, "it succeeded and never ran");
        }
        if ran && self.accepted.attempts == 0 {
            self.says(Rule::WrongEnd, "it ran and must not");
        }
    }

    /// Ends that are not its own.
    fn may_end_as(&self, state: &str) -> bool {
        match state {
            "cancelled" => self.cancel.is_some(),
            "lost" => self.accepted.at_most_once && self.something_was_struck(),
            "dead" => !self.letters.is_empty() && self.may_be_parked(),
            _ => false,
        }
    }

    /// It looks like a job that kills its consumers.
    fn may_be_parked(&self) -> bool {
        let struck = self.starts.iter().filter(|line| self.is_struck(line));
        struck.map(|line| line.execution).collect::<BTreeSet<_>>().len() >= PARKED
    }

    fn has_no_letter_without_reason(&mut self) {
        let parked = self.rows == ["dead"] && self.may_be_parked();
        for letter in self.letters {
            if !parked || !letter.reason.starts_with("crashes:") {
                self.says(Rule::Left, &format!("a dead letter: {}; {}", letter.reason, self.history()));
            }
        }
    }

    /// Between its start and the end of its life something was struck that may have cost its answer.
    fn something_was_struck(&self) -> bool {
        match self.starts {
            [] => self.strikes.iter().any(|strike| strike.ended + BACK >= self.accepted.offered),
            lines => lines.iter().any(|line| self.is_struck(line)),
        }
    }

    /// What was cancelled does not start any more, and what runs ends.
    fn obeys(&mut self) {
        let Some(cancel) = self.cancel.filter(|cancel| cancel.sure) else { return };
        let late = |at: Seconds, line: &Line| at > cancel.answered + OBEYED && !self.could_not_know(at, line);
        let started = self.starts.iter().filter(|line| late(line.at, line)).count();
        let end = |line: &&&Line| self.ends.get(&(line.execution, line.step)).copied();
        let went_on = self.starts.iter().filter(|line| end(line).is_some_and(|at| late(at, line))).count();
        let ended = self.starts.iter().any(|line| end(&line).is_some());
        if started > 0 || went_on > 0 {
            let history = self.history();
            let text = format!(
                "cancelled at {:.2}; {started} starts and {went_on} ends after that: {history}",
                cancel.answered
            );
            self.says(Rule::LostCancel, &text);
        }
        if self.rows == [self.accepted.end.as_str()] && !ended {
            self.says(Rule::LostCancel, "cancelled, never done, and not recorded as cancelled");
        }
    }

    /// State was away, or the consumer stood still, a moment ago.
    fn could_not_know(&self, at: Seconds, line: &Line) -> bool {
        self.strikes.iter().any(|strike| {
            let hides = match strike.fault.as_str() {
                "state-kill" | "state-freeze" => true,
                "freeze" => strike.pid == Some(line.consumer),
                _ => false,
            };
            hides && strike.begun <= at && strike.ended + OBEYED >= at
        })
    }

    fn ends_once(&mut self) {
        let finals: BTreeSet<&str> =
            self.attempts.iter().map(|row| row.state.as_str()).filter(|state| FINAL.contains(state)).collect();
        // Given up as lost, and then its consumer was heard again: its row stands beside, the state stays.
        let late = finals.contains("lost") && finals.len() == 2 && self.rows == ["lost"] && self.may_end_as("lost");
        if finals.len() > 1 && !late {
            self.says(Rule::SecondEnd, &format!("executions ended it as {finals:?}"));
        }
    }

    fn keeps_to_its_policy(&mut self) {
        let most = self.attempts.iter().map(|row| row.attempt).max().unwrap_or_default();
        let granted = self.accepted.attempts.max(1);
        if most > granted {
            self.says(Rule::BeyondPolicy, &format!("attempt {most} of at most {granted}"));
        }
        let executions: BTreeSet<Uuid> = self.starts.iter().map(|line| line.execution).collect();
        if self.accepted.at_most_once && executions.len() > 1 {
            self.says(Rule::AtMostOnce, &format!("executed {} times", executions.len()));
        }
    }

    /// A recorded execution has written its line. One of a plan may have found nothing left to do, one
    /// that was cancelled may have been ended before.
    fn happened_as_recorded(&mut self) {
        let ran: BTreeSet<Uuid> = self.starts.iter().map(|line| line.execution).collect();
        let invented = self
            .attempts
            .iter()
            .filter(|row| !row.execution.is_nil() && row.state != "cancelled" && !ran.contains(&row.execution));
        if self.accepted.steps == 1 {
            for execution in invented.map(|row| row.execution).collect::<Vec<_>>() {
                self.says(Rule::Invented, &format!("execution {execution} is on record and wrote nothing"));
            }
        }
    }

    fn ran_no_more_than_explained(&mut self) {
        let repeats = self.repeats();
        if repeats == 0 {
            return;
        }
        // With each strike at an execution it may come again, and so may what it published: each
        // attempt once more.
        let struck: usize = self.starts.iter().map(|line| self.strikes_at(line)).sum();
        let doors = usize::from(self.its_publish_was_struck());
        let explained = (struck + doors) * self.accepted.attempts.max(1) as usize;
        if repeats > explained {
            let text = format!(
                "{repeats} executions more than its attempts, {explained} explained by {struck} strikes: {}",
                self.history()
            );
            self.says(Rule::Unexplained, &text);
        }
        if !self.is_told() && self.must_be_told() {
            let text = format!("executed again, and no row says so: {}", self.history());
            self.says(Rule::Unmarked, &text);
        }
    }

    fn is_told(&self) -> bool {
        let mut seen = BTreeSet::new();
        self.attempts.iter().any(|row| row.maybe_rerun || !seen.insert(row.attempt))
    }

    /// An execution that was cut leaves no row; the one recorded after it has to tell. A double of a
    /// struck execution whose own report arrived has none after it.
    fn must_be_told(&self) -> bool {
        let recorded = |line: &Line| self.attempts.iter().any(|row| row.execution == line.execution);
        let cut = self.starts.iter().filter(|line| !recorded(line));
        cut.into_iter().any(|cut| {
            let mut others = self.starts.iter().filter(|line| recorded(line));
            let double = others.clone().any(|line| {
                self.is_struck(line) && (line.at <= cut.at || self.waited_behind_a_lost_link(line, cut.at))
            });
            !double && others.any(|line| line.at > cut.at)
        })
    }

    /// It came before that time over a link that was lost, and started all the same, later.
    fn waited_behind_a_lost_link(&self, line: &Line, before: Seconds) -> bool {
        let mine = |strike: &&Strike| loses_link(strike) && strike.pid.is_none_or(|pid| pid == line.consumer);
        let mut strikes = self.strikes.iter().filter(mine);
        strikes.any(|strike| strike.begun <= before + SLACK && strike.ended + HAND >= line.at)
    }

    /// Executions above one for each attempt (of a plan: of its most repeated step).
    fn repeats(&self) -> usize {
        if self.accepted.steps > 1 {
            let mut steps: BTreeMap<u32, usize> = BTreeMap::new();
            self.starts.iter().for_each(|line| *steps.entry(line.step).or_default() += 1);
            return steps.into_values().max().unwrap_or_default().saturating_sub(1);
        }
        let executions: BTreeSet<Uuid> = self.starts.iter().map(|line| line.execution).collect();
        let end = self.attempts.iter().filter(|row| FINAL.contains(&row.state.as_str())).map(|row| row.attempt).min();
        // What comes after an end is no attempt of its own.
        let attempts: BTreeSet<u32> = self
            .attempts
            .iter()
            .filter(|row| !row.execution.is_nil() && end.is_none_or(|end| row.attempt <= end))
            .map(|row| row.attempt)
            .collect();
        executions.len().saturating_sub(attempts.len().max(1))
    }

    fn is_struck(&self, line: &Line) -> bool {
        self.strikes_at(line) > 0
    }

    /// How often its consumer, or its way to the broker, was struck while it ran or while its answer
    /// was on its way.
    fn strikes_at(&self, line: &Line) -> usize {
        let begun = line.at - SLACK;
        let end = self.ends.get(&(line.execution, line.step));
        let mut until = end.map_or(line.at + LONGEST, |end| end + SETTLE);
        let mine = |strike: &Strike| strike.pid == Some(line.consumer);
        // While the broker takes nothing an answer waits, and can still be lost.
        let mut delayed = false;
        for strike in self.strikes.iter().filter(|strike| delays(strike) && (strike.pid.is_none() || mine(strike))) {
            if strike.begun <= until && strike.ended + HAND >= begun {
                until = until.max(strike.ended + BACK);
                delayed = true;
            }
        }
        let overlaps = |strike: &Strike, after: Seconds| strike.begun <= until && strike.ended + after >= begun;
        let hits = |strike: &&Strike| match strike.fault.as_str() {
            "kill" | "freeze" if mine(strike) => overlaps(strike, SLACK),
            // A stop in good order explains a repetition only where answers had to wait.
            "restart" if mine(strike) => delayed && overlaps(strike, SLACK),
            "cut" | "tear" | "lose-confirms" | "lose-requests" if mine(strike) => overlaps(strike, HAND),
            "broker-kill" | "broker-freeze" | "close-connections" => overlaps(strike, HAND),
            _ => false,
        };
        self.strikes.iter().filter(hits).count()
    }

    /// A publish whose confirm is lost is sent again under the same id.
    fn its_publish_was_struck(&self) -> bool {
        let (begun, ended) = (self.accepted.offered - SLACK, self.accepted.answered + SLACK);
        let doors = ["broker-kill", "broker-freeze", "close-connections", "memory-alarm", "disk-alarm", "door-kill"];
        let hit = |strike: &Strike| strike.begun <= ended && strike.ended + HAND >= begun;
        self.strikes.iter().any(|strike| doors.contains(&strike.fault.as_str()) && hit(strike))
    }

    /// For the reader of a problem.
    fn history(&self) -> String {
        let line = |line: &&Line| {
            let end = self.ends.get(&(line.execution, line.step)).map_or("-".to_owned(), |end| format!("{end:.2}"));
            let row = self.attempts.iter().find(|row| row.execution == line.execution);
            let row = row.map_or("no row".to_owned(), |row| {
                format!("attempt {} {}{}", row.attempt, row.state, if row.maybe_rerun { " maybe_rerun" } else { "" })
            });
            format!("{:.2}..{end} by {} ({row})", line.at, line.consumer)
        };
        self.starts.iter().map(line).collect::<Vec<_>>().join(", ")
    }
}

/// Does it keep answers from being taken?
fn delays(strike: &Strike) -> bool {
    loses_link(strike) || matches!(strike.fault.as_str(), "memory-alarm" | "disk-alarm" | "unbind")
}

/// Does it end connections to the broker?
fn loses_link(strike: &Strike) -> bool {
    matches!(
        strike.fault.as_str(),
        "broker-kill" | "broker-freeze" | "close-connections" | "cut" | "tear" | "lose-confirms" | "lose-requests"
    )
}

fn group<T>(items: impl Iterator<Item = (Uuid, T)>) -> BTreeMap<Uuid, Vec<T>> {
    let mut groups: BTreeMap<Uuid, Vec<T>> = BTreeMap::new();
    for (job, item) in items {
        groups.entry(job).or_default().push(item);
    }
    groups
}

fn of<T>(groups: &BTreeMap<Uuid, Vec<T>>, job: Uuid) -> &[T] {
    groups.get(&job).map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests;
