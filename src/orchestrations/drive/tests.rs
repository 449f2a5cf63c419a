//! The driver against a broker of cardboard: nodes that answer inside the publish, lose events,
//! are missing or fail. The real brokers are in the integration tests.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use jiff::Timestamp;
use spinor_consumers::{
    broker::{
        Address, Backlog, Broker, BrokerError, Delivery, Event, Events, Link, Outgoing, PublishError, QueueSpec,
        QueueStats, Receipt, Settlement, Subscription, Topic,
    },
    entry::Entry,
    message::decode,
    results::{JobRow, ResultsError, RunRecord, RunRow, StepFilter},
};
use spinor_executors::{
    Job, Origin, Outcome, Output, Report, State, StepReport, StepState,
    plan::{Plan, Step},
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Driver, Patience};
use crate::orchestrations::{
    compile::{Nodes, compile},
    parse::parse,
    view::{RunEnd, RunRequest, RunView, Runner, Update},
};

#[derive(Clone, Copy, PartialEq)]
enum Manner {
    /// Runs its plan and says so.
    Works,
    /// Runs its plan, and every event is lost.
    Mute,
    /// Its first step fails.
    Fails,
    /// Has a queue, and nobody is on it.
    Away,
    /// Takes its plan and never ends it.
    Hangs,
}

#[derive(Default)]
struct Stage {
    nodes: BTreeMap<String, Manner>,
    listeners: Vec<(Topic, mpsc::Sender<Event>)>,
    entries: Vec<Entry>,
    jobs: Vec<JobRow>,
    steps: Vec<StepReport>,
    refuse_first: bool,
    published: Vec<Uuid>,
}

#[derive(Clone, Default)]
struct Cardboard(Arc<Mutex<Stage>>);

impl Cardboard {
    fn new(nodes: &[(&str, Manner)]) -> Self {
        let cardboard = Self::default();
        cardboard.stage().nodes = nodes.iter().map(|(name, manner)| (format!("node.{name}"), *manner)).collect();
        cardboard
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.0.lock().unwrap()
    }
}

impl Stage {
    fn say(&mut self, event: &Event) {
        for (topic, listener) in &self.listeners {
            if event.matches(topic) {
                let _ = listener.try_send(event.clone());
            }
        }
    }

    fn publish(&mut self, out: &Outgoing) -> Result<(), PublishError> {
        let Address::Work(queue) = &out.to else { panic!("{:?}", out.to) };
        let known = self.nodes.keys().cloned().collect();
        let Some(manner) = self.nodes.get(queue).copied() else {
            return Err(PublishError::Unroutable { queue: queue.clone(), known });
        };
        let job = decode(&out.message, queue, None, Timestamp::now()).unwrap().job;
        self.published.push(job.id);
        if std::mem::take(&mut self.refuse_first) {
            return Err(PublishError::Refused("alarm".to_owned()));
        }
        match manner {
            Manner::Away | Manner::Hangs => {}
            Manner::Works | Manner::Mute | Manner::Fails => self.run(&job, manner),
        }
        Ok(())
    }

    fn run(&mut self, job: &Job, manner: Manner) {
        let plan: Plan = job.args.read().unwrap();
        let mut number = 0;
        for sequence in &plan.sequences {
            for step in &sequence.steps {
                let failed = manner == Manner::Fails;
                let state = match (failed, number) {
                    (true, 0) => StepState::Failed,
                    (true, _) => StepState::Skipped,
                    _ => StepState::Succeeded,
                };
                let report = step_report(job, &plan.node, sequence.part, number, step, state);
                if manner != Manner::Mute {
                    self.say(&Event::Step { report: Box::new(report.clone()) });
                }
                self.steps.push(report);
                number += 1;
            }
        }
        let origin = Origin { consumer: plan.node.clone(), group: "nodes".into(), host: "here".into() };
        let mut report = Report::of(job, &origin, Uuid::now_v7(), Timestamp::now());
        report.end(match manner {
            Manner::Fails => Outcome::failed("step 0.0 failed"),
            _ => Outcome::Succeeded(spinor_executors::Json::null()),
        });
        self.jobs.push(row(job, report.state));
        if manner != Manner::Mute {
            self.say(&Event::Ended { report: Box::new(report) });
        }
    }
}

fn step_report(job: &Job, node: &str, part: u32, number: u32, step: &Step, state: StepState) -> StepReport {
    StepReport {
        job: job.id,
        run: job.run,
        node: node.to_owned(),
        step: number,
        part,
        item: step.item,
        name: step.name.clone(),
        verb: step.action.verb().to_owned(),
        state,
        failure: None,
        exit: None,
        stdout: Output::default(),
        stderr: Output::default(),
        started: Timestamp::now(),
        micros: 1,
    }
}

fn row(job: &Job, state: State) -> JobRow {
    JobRow {
        id: job.id,
        kind: job.kind.clone(),
        queue: job.queue.clone(),
        state,
        attempt: 1,
        replay: 0,
        created: job.created,
        started: state.is_final().then_some(job.created),
        ended: None,
        retry_at: None,
        error: None,
        run: job.run,
        consumer: None,
        version: None,
        fingerprint: None,
        cancel_requested: None,
    }
}

impl Broker for Cardboard {
    async fn declare(&self, _: &[QueueSpec]) -> Result<(), BrokerError> {
        Ok(())
    }

    async fn publish(&self, batch: Vec<Outgoing>) -> Vec<Result<(), PublishError>> {
        let mut stage = self.stage();
        batch.iter().map(|out| stage.publish(out)).collect()
    }

    async fn consume(&self, _: &Address, _: u32) -> Result<Subscription, BrokerError> {
        Err(BrokerError::Closed)
    }

    fn settle(&self, _: Delivery, _: Settlement) -> Receipt {
        Receipt::pair().1
    }

    fn report(&self, lines: Vec<Bytes>) -> Receipt {
        let mut stage = self.stage();
        for line in lines {
            let entry: Entry = serde_json::from_slice(&line).unwrap();
            if let Entry::Queued(job) = &entry
                && stage.jobs.iter().all(|row| row.id != job.id)
            {
                stage.jobs.push(row(job, State::Queued));
            }
            stage.entries.push(entry);
        }
        let (send, receipt) = Receipt::pair();
        let _ = send.send(Ok(()));
        receipt
    }

    fn cast(&self, event: Event) {
        let mut stage = self.stage();
        let Event::Ping { nonce } = event else { return };
        for (queue, manner) in stage.nodes.clone() {
            if manner != Manner::Away {
                let node = queue.strip_prefix("node.").map(str::to_owned);
                stage.say(&Event::Pong { nonce, consumer: queue.clone(), group: "nodes".into(), node });
            }
        }
    }

    async fn listen(&self, topic: Topic) -> Result<Events, BrokerError> {
        let (send, events) = mpsc::channel(1000);
        self.stage().listeners.push((topic, send));
        Ok(Events::new(events))
    }

    fn link(&self) -> watch::Receiver<Link> {
        watch::channel(Link::Up).1
    }

    async fn stats(&self, queues: &[String]) -> Result<Vec<QueueStats>, BrokerError> {
        let stage = self.stage();
        let consumers =
            |queue: &String| u64::from(stage.nodes.get(queue).is_some_and(|manner| *manner != Manner::Away));
        let stats =
            |queue: &String| QueueStats { name: queue.clone(), consumers: consumers(queue), ..Default::default() };
        Ok(queues.iter().map(stats).collect())
    }

    async fn backlog(&self) -> Result<Backlog, BrokerError> {
        Ok(Backlog::default())
    }

    async fn close(&self) -> usize {
        0
    }
}

impl RunView for Cardboard {
    async fn run(&self, id: Uuid) -> Result<Option<RunRecord>, ResultsError> {
        let stage = self.stage();
        let last = stage.entries.iter().rev().find_map(|entry| match entry {
            Entry::Run(run) if run.run == id => Some(run.clone()),
            _ => None,
        });
        Ok(last.map(|run| RunRecord {
            row: RunRow {
                id,
                name: run.name,
                members: run.members,
                steps: run.steps,
                replay: run.replay,
                started: run.started,
                ended: run.ended,
                succeeded: run.succeeded,
                problems: run.problems,
                cancel_requested: None,
            },
            jobs: stage.jobs.iter().map(|row| (row.queue.clone(), row.clone())).collect(),
            member_list: Vec::new(),
        }))
    }

    async fn steps(&self, _: &StepFilter) -> Result<Vec<StepReport>, ResultsError> {
        Ok(self.stage().steps.clone())
    }
}

/// Runs two steps on each of the named nodes.
async fn drive(cardboard: &Cardboard, targets: &str, timeout: Option<Duration>) -> (RunEnd, Vec<Update>) {
    let file = parse("f", &format!("- targets: [{targets}]\n  jobs: [{{RUN: x}}, {{RUN: y}}]\n")).unwrap();
    let plans = compile(&[file], Nodes::default()).unwrap();
    let request =
        RunRequest { id: Uuid::now_v7(), name: "f".into(), plans, expires: Duration::from_secs(600), timeout };
    let mut updates = Vec::new();
    let leave = CancellationToken::new();
    let end = driver(cardboard).run(request, &mut |update| updates.push(update), &leave).await.unwrap();
    (end, updates)
}

fn driver(cardboard: &Cardboard) -> Driver<Cardboard, Cardboard> {
    let millis = Duration::from_millis;
    let patience = Patience { quiet: millis(20), unreachable: millis(50), answer: millis(20), ..Patience::default() };
    Driver::new(cardboard.clone(), cardboard.clone(), vec![]).with_patience(patience)
}

fn problems(updates: &[Update]) -> Vec<&str> {
    updates
        .iter()
        .filter_map(|update| match update {
            Update::Problem(text) => Some(text.as_str()),
            _ => None,
        })
        .collect()
}

#[tokio::test]
async fn a_run_is_announced_seen_live_and_ended_on_record() {
    let cardboard = Cardboard::new(&[("a", Manner::Works), ("b", Manner::Works)]);
    let (end, updates) = drive(&cardboard, "a, b", None).await;
    assert_eq!((end.report.succeeded, end.steps.len(), end.report.members, end.report.steps), (Some(true), 4, 2, 4));
    assert_eq!(updates.iter().filter(|update| matches!(update, Update::Step(_))).count(), 4);
    let stage = cardboard.stage();
    let runs: Vec<_> = stage.entries.iter().filter(|entry| matches!(entry, Entry::Run(_))).collect();
    let [Entry::Run(first), Entry::Run(last)] = runs.as_slice() else { panic!("{runs:?}") };
    assert_eq!((first.ended, last.succeeded), (None, Some(true)));
    let queued = stage.entries.iter().filter_map(|entry| match entry {
        Entry::Queued(job) => Some((job.member.clone(), job.run, job.expires_at.is_some())),
        _ => None,
    });
    let run = Some(end.report.run);
    assert_eq!(queued.collect::<Vec<_>>(), [(Some("a".into()), run, true), (Some("b".into()), run, true)]);
}

#[tokio::test]
async fn a_run_whose_events_are_all_lost_ends_by_the_record() {
    let cardboard = Cardboard::new(&[("a", Manner::Mute), ("b", Manner::Works)]);
    let (end, updates) = drive(&cardboard, "a, b", None).await;
    assert_eq!((end.report.succeeded, end.steps.len()), (Some(true), 4));
    assert_eq!(updates.iter().filter(|update| matches!(update, Update::Step(_))).count(), 2);
}

#[tokio::test]
async fn an_unknown_node_fails_the_run_and_holds_nobody_up() {
    let cardboard = Cardboard::new(&[("a", Manner::Works), ("b", Manner::Works)]);
    let (end, updates) = drive(&cardboard, "a, nowhere, b", None).await;
    let told = "node `nowhere` is unknown: no queue of that name; nodes known: a, b";
    assert_eq!((problems(&updates), end.report.problems.as_slice()), (vec![told], &[told.to_owned()][..]));
    assert_eq!((end.report.succeeded, end.steps.len()), (Some(false), 4));
    let states: Vec<_> = end.members.iter().map(|member| member.state).collect();
    assert_eq!(states, [Some(State::Succeeded), None, Some(State::Succeeded)]);
}

#[tokio::test]
async fn an_unreachable_node_fails_the_run_and_holds_nobody_up() {
    let cardboard = Cardboard::new(&[("a", Manner::Works), ("b", Manner::Away)]);
    let (end, updates) = drive(&cardboard, "a, b", None).await;
    assert_eq!((end.report.succeeded, end.steps.len()), (Some(false), 2));
    assert!(problems(&updates)[0].starts_with("node `b` is unreachable"), "{updates:?}");
    assert_eq!(problems(&updates).len(), 1);
}

#[tokio::test]
async fn a_failed_step_fails_the_run_and_the_other_nodes_finish() {
    let cardboard = Cardboard::new(&[("a", Manner::Fails), ("b", Manner::Works)]);
    let (end, _) = drive(&cardboard, "a, b", None).await;
    assert_eq!((end.report.succeeded, end.report.problems.len(), end.steps.len()), (Some(false), 0, 4));
    assert_eq!(end.members[0].error.as_deref(), Some("step 0.0 failed"));
    assert_eq!(end.members[1].state, Some(State::Succeeded));
}

#[tokio::test]
async fn a_run_that_does_not_end_in_its_time_is_given_up_with_the_nodes_named() {
    let cardboard = Cardboard::new(&[("a", Manner::Works), ("b", Manner::Hangs)]);
    let (end, updates) = drive(&cardboard, "a, b", Some(Duration::from_millis(100))).await;
    assert_eq!(problems(&updates), ["not ended within 0.1 s: `b`; what runs there goes on"]);
    assert_eq!((end.report.succeeded, end.report.ended.is_some()), (Some(false), true));
}

#[tokio::test]
async fn a_refused_plan_is_published_again_with_the_same_id() {
    let cardboard = Cardboard::new(&[("a", Manner::Works)]);
    cardboard.stage().refuse_first = true;
    let (end, _) = drive(&cardboard, "a", None).await;
    assert_eq!(end.report.succeeded, Some(true));
    let published = cardboard.stage().published.clone();
    assert_eq!((published.len(), published[0]), (2, published[1]));
}

#[tokio::test]
async fn who_leaves_ends_nothing() {
    let cardboard = Cardboard::new(&[("a", Manner::Hangs)]);
    let file = parse("f", "- targets: [a]\n  jobs: [{RUN: x}]\n").unwrap();
    let plans = compile(&[file], Nodes::default()).unwrap();
    let expires = Duration::from_secs(600);
    let request = RunRequest { id: Uuid::now_v7(), name: "f".into(), plans, expires, timeout: None };
    let leave = CancellationToken::new();
    let end = driver(&cardboard)
        .run(
            request,
            &mut |update| {
                if matches!(update, Update::Published) {
                    leave.cancel();
                }
            },
            &leave,
        )
        .await
        .unwrap();
    assert!(end.left && end.report.ended.is_none());
    let ended = |entry: &Entry| matches!(entry, Entry::Run(run) if run.ended.is_some());
    assert!(!cardboard.stage().entries.iter().any(ended));
}

#[tokio::test]
async fn a_run_waits_for_the_nodes_of_its_own_process_to_be_there() {
    let cardboard = Cardboard::new(&[("a", Manner::Away)]);
    let late = cardboard.clone();
    let mut driver = driver(&cardboard);
    driver.local = vec!["a".to_owned()];
    driver.patience.unreachable = Duration::from_secs(30);
    let plans = compile(&[parse("f", "- jobs: [RUN: x]\n").unwrap()], Nodes { chosen: &[], answering: &driver.local });
    let expires = Duration::from_secs(600);
    let request = RunRequest { id: Uuid::now_v7(), name: "f".into(), plans: plans.unwrap(), expires, timeout: None };
    let leave = CancellationToken::new();
    let mut watch = |_| {};
    let run = driver.run(request, &mut watch, &leave);
    let appear = async { late.stage().nodes.insert("node.a".to_owned(), Manner::Works) };
    let (end, _) = tokio::join!(run, appear);
    assert_eq!(end.unwrap().report.succeeded, Some(true));
}

#[tokio::test]
async fn the_nodes_that_answer_are_found_by_a_ping() {
    let cardboard = Cardboard::new(&[("b", Manner::Works), ("a", Manner::Works), ("c", Manner::Away)]);
    assert_eq!(driver(&cardboard).answering().await.unwrap(), ["a", "b"]);
}
