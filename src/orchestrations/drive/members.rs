//! The members of a run: one for each node, with what is known of it.
//!
//! Owns the state of each and the run's problems. Hears events, reads the record; whichever
//! comes first counts, since both say the same. Refuses to ask anybody.

use std::{collections::HashMap, time::Duration};

use spinor_consumers::{broker::Event, results::RunRecord};
use spinor_executors::State;
use tokio::time::Instant;
use uuid::Uuid;

use super::about;
use crate::orchestrations::{
    compile::Ready,
    view::{self, Update, Watch},
};

/// All members of one run.
pub struct Members {
    all: Vec<One>,
    by_job: HashMap<Uuid, usize>,
    problems: Vec<String>,
}

struct One {
    node: String,
    job: Uuid,
    steps: u32,
    /// Its final state.
    ended: Option<State>,
    error: Option<String>,
    /// Nothing is expected of it any more, though it did not end.
    given_up: bool,
    /// It gave a sign of life in this run.
    heard: bool,
    /// Its queue has been without a consumer since.
    gone: Option<Instant>,
    /// Its absence in the middle was told.
    gone_told: bool,
}

impl One {
    const fn done(&self) -> bool {
        self.ended.is_some() || self.given_up
    }
}

impl Members {
    /// One for each plan, with the ids of their jobs.
    pub fn new(plans: &[Ready]) -> Self {
        let all: Vec<One> = plans
            .iter()
            .map(|ready| One {
                node: ready.plan.node.clone(),
                job: Uuid::now_v7(),
                steps: ready.steps,
                ended: None,
                error: None,
                given_up: false,
                heard: false,
                gone: None,
                gone_told: false,
            })
            .collect();
        let by_job = all.iter().enumerate().map(|(index, one)| (one.job, index)).collect();
        Self { all, by_job, problems: Vec::new() }
    }

    /// The job's id of the plan at this place.
    pub fn id(&self, index: usize) -> Uuid {
        self.all[index].job
    }

    /// The node of the plan at this place.
    pub fn node(&self, index: usize) -> &str {
        &self.all[index].node
    }

    /// Is nothing more expected of anybody?
    pub fn all_done(&self) -> bool {
        self.all.iter().all(One::done)
    }

    /// Did every plan succeed, and nothing else go wrong?
    pub fn all_succeeded(&self) -> bool {
        self.problems.is_empty() && self.all.iter().all(|one| one.ended == Some(State::Succeeded))
    }

    /// What went wrong outside the members.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// The nodes of which something is still expected.
    pub fn waiting(&self) -> impl Iterator<Item = &str> {
        self.all.iter().filter(|one| !one.done()).map(|one| one.node.as_str())
    }

    /// Node, steps and final state of those that ended.
    pub fn ended(&self) -> impl Iterator<Item = (&str, u32, State)> {
        self.all.iter().filter_map(|one| Some((one.node.as_str(), one.steps, one.ended?)))
    }

    /// Nothing more is expected of this one, and why.
    pub fn give_up(&mut self, index: usize, why: String, watch: Watch<'_>) {
        self.all[index].given_up = true;
        self.problem(why, watch);
    }

    /// The run's time is over: who did not end is given up.
    pub fn out_of_time(&mut self, timeout: Duration, watch: Watch<'_>) {
        let late: Vec<String> = self.waiting().map(|node| format!("`{node}`")).collect();
        let seconds = timeout.as_secs_f64();
        self.problem(format!("not ended within {seconds} s: {}; what runs there goes on", late.join(", ")), watch);
        for one in &mut self.all {
            one.given_up |= one.ended.is_none();
        }
    }

    fn problem(&mut self, what: String, watch: Watch<'_>) {
        watch(Update::Problem(what.clone()));
        self.problems.push(what);
    }

    /// Takes an event over.
    pub fn hear(&mut self, event: Event, watch: Watch<'_>) {
        let Some(index) = about(&event).and_then(|job| self.by_job.get(&job).copied()) else { return };
        let one = &mut self.all[index];
        one.heard = true;
        match event {
            Event::Step { report } => watch(Update::Step(report)),
            Event::Output { stream, text, .. } => watch(Update::Output { node: one.node.clone(), stream, text }),
            Event::Ended { report } if report.state.is_final() => {
                let error = report.failure.map(|failure| failure.message);
                self.end_one(index, report.state, error, watch);
            }
            _ => {}
        }
    }

    /// Takes over what the record says of each member.
    pub fn read(&mut self, record: Option<&RunRecord>, watch: Watch<'_>) {
        for (_, row) in record.map_or(&[][..], |record| &record.jobs) {
            let Some(index) = self.by_job.get(&row.id).copied() else { continue };
            self.all[index].heard |= row.started.is_some();
            if row.state.is_final() {
                self.end_one(index, row.state, row.error.clone(), watch);
            }
        }
    }

    fn end_one(&mut self, index: usize, state: State, error: Option<String>, watch: Watch<'_>) {
        let one = &mut self.all[index];
        if one.ended.is_none() {
            one.ended = Some(state);
            one.error = error;
            watch(Update::Member { node: one.node.clone(), state });
        }
    }

    /// Somebody is on the node's queue now, or nobody.
    pub fn seen(&mut self, node: &str, there: bool, now: Instant) {
        for one in self.all.iter_mut().filter(|one| one.node == node) {
            if there {
                one.gone = None;
                one.gone_told = false;
            } else {
                one.gone.get_or_insert(now);
            }
        }
    }

    /// Is somebody waited for who has been gone for so long, and was that not told?
    pub fn any_gone_since(&self, now: Instant, long: Duration) -> bool {
        self.all.iter().any(|one| !one.gone_told && is_gone(one, now, long))
    }

    /// Gives up those that have been gone for so long without any sign of life; tells of those
    /// that left in the middle, whose plans wait for them.
    pub fn give_up_on_gone(&mut self, now: Instant, long: Duration, watch: Watch<'_>) {
        for index in 0..self.all.len() {
            let one = &mut self.all[index];
            if one.gone_told || !is_gone(one, now, long) {
                continue;
            }
            one.gone_told = true;
            let node = one.node.clone();
            if one.heard {
                watch(Update::Note(format!("node `{node}` is gone; its plan waits for it and then goes on")));
            } else {
                let seconds = long.as_secs_f64();
                let why = format!("node `{node}` is unreachable: nobody is on its queue for {seconds} s");
                self.give_up(index, format!("{why}; its plan expires there"), watch);
            }
        }
    }

    /// What is known of each at the end.
    pub fn end(self) -> Vec<view::Member> {
        self.all.into_iter().map(|one| view::Member { node: one.node, state: one.ended, error: one.error }).collect()
    }
}

fn is_gone(one: &One, now: Instant, long: Duration) -> bool {
    !one.done() && one.gone.is_some_and(|since| now.duration_since(since) >= long)
}
