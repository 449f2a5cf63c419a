//! A consumer and triggers on one broker, no recorder anywhere, and a ledger the jobs write.

use std::{
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use jiff::Timestamp;
use spinor_consumers::{
    blobs::Blobs,
    broker::{Address, AnyBroker, Broker, Subscription},
    consumer::{Agreed, Consumer, Shutdown},
    entry::{Entry, RunReport},
    marks::Marks,
    next::{Member, NewRun, Next, OnFailure, job_id},
    results::MemberRow,
    state::{State as Store, StateTarget},
    trigger::Trigger,
};
use spinor_executors::{Cause, Failure, Job, Json, Outcome, RetryPolicy};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    conformance::fixture::{Fixture, acked, consume, declare, take},
    consumer::stage::{Cast, QUEUE, settings},
    recorder::Record,
    support::{eventually, scratch::Scratch},
};

/// A bound against hanging, no measure.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// One execution.
#[derive(Clone, Debug)]
pub struct Line {
    pub member: String,
    pub args: serde_json::Value,
    pub at: Instant,
}

type Ledger = Arc<Mutex<Vec<Line>>>;

/// All of it.
pub struct Stage {
    pub broker: AnyBroker,
    pub record: Record,
    pub blobs: Blobs,
    agreed: Agreed,
    ledger: Ledger,
    entries: Subscription,
    heard: Vec<RunReport>,
    shutdown: Shutdown,
    triggers: CancellationToken,
    tasks: JoinSet<()>,
    _scratch: Scratch,
}

impl Stage {
    /// Without a trigger yet.
    pub async fn quiet(fixture: &impl Fixture, record: Record, slots: usize) -> Self {
        let scratch = Scratch::new("runs");
        let broker = fixture.broker();
        declare(&broker, &[QUEUE]).await;
        let blobs = Blobs::in_results(Arc::new(OnceLock::from(record.results.clone())));
        let state = Store::open(&StateTarget::Sqlite(scratch.join("state.db"))).await.unwrap();
        let agreed = Agreed { state: Arc::new(OnceLock::from(state)), marks: Arc::new(Marks::default()) };
        let ledger = Ledger::default();
        let mut settings = settings(slots);
        settings.unknown_kind_grace = Duration::from_millis(100);
        let registry = cast(&ledger, &record).registry();
        let consumer = Consumer::new(Arc::new(settings), Arc::new(registry), broker.clone(), None)
            .with_blobs(blobs.clone())
            .with_agreed(agreed.clone());
        let (shutdown, mut tasks) = (Shutdown::default(), JoinSet::new());
        let until = shutdown.clone();
        tasks.spawn(async move { consumer.run(until).await.expect("the consumer starts") });
        let entries = consume(&broker, Address::Results, 100).await;
        let triggers = CancellationToken::new();
        Self {
            broker,
            record,
            blobs,
            agreed,
            ledger,
            entries,
            heard: Vec::new(),
            shutdown,
            triggers,
            tasks,
            _scratch: scratch,
        }
    }

    /// With one trigger.
    pub async fn new(fixture: &impl Fixture, record: Record) -> Self {
        let mut stage = Self::quiet(fixture, record, 4).await;
        stage.trigger();
        stage
    }

    /// One trigger more.
    pub fn trigger(&mut self) {
        let marks = Arc::clone(&self.agreed.marks);
        let trigger = Trigger::new(self.broker.clone(), self.record.results.clone(), self.blobs.clone(), marks);
        let stop = self.triggers.clone();
        self.tasks.spawn(async move { trigger.run(stop).await.expect("the trigger runs") });
    }

    pub async fn say(&self, next: Next) {
        self.broker.publish(vec![next.outgoing()]).await.remove(0).expect("published");
    }

    /// The report of a run's end.
    pub async fn ended(&mut self, run: Uuid, replay: u32) -> RunReport {
        loop {
            let is_it = |report: &RunReport| report.run == run && report.replay == replay && report.ended.is_some();
            if let Some(found) = self.heard.iter().find(|report| is_it(report)) {
                return found.clone();
            }
            let pack = tokio::time::timeout(PATIENCE, take(&mut self.entries)).await.expect("the run ends in time");
            for line in pack.message.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                if let Entry::Run(report) = serde_json::from_slice(line).expect("an entry") {
                    self.heard.push(*report);
                }
            }
            acked(&self.broker, pack).await;
        }
    }

    pub async fn members(&self, run: Uuid) -> Vec<MemberRow> {
        self.record.results.members(run).await.expect("the members")
    }

    /// How each member stands, as `name state, ...`.
    pub async fn states(&self, run: Uuid) -> String {
        let of = |member: &MemberRow| format!("{} {}", member.name, member.state);
        self.members(run).await.iter().map(of).collect::<Vec<_>>().join(", ")
    }

    /// Awaits a member's replay.
    pub async fn replayed(&self, run: Uuid, name: &str, replay: u32) {
        eventually("the replay to be stored", PATIENCE, async || {
            self.members(run).await.iter().any(|member| member.name == name && member.replay == replay)
        })
        .await;
    }

    pub fn ledger(&self) -> Vec<Line> {
        self.ledger.lock().unwrap().clone()
    }

    /// The members that were executed, in order.
    pub fn executed(&self) -> Vec<String> {
        self.ledger().into_iter().map(|line| line.member).collect()
    }

    /// How often each of these was executed.
    pub fn counts(&self, members: &[&str]) -> Vec<usize> {
        let executed = self.executed();
        members.iter().map(|member| executed.iter().filter(|name| name == member).count()).collect()
    }

    /// The args of a member's last execution.
    pub fn args(&self, member: &str) -> serde_json::Value {
        self.ledger().into_iter().rev().find(|line| line.member == member).expect("it was executed").args
    }

    pub async fn end(mut self) {
        self.triggers.cancel();
        self.shutdown.drain.cancel();
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        tokio::time::timeout(PATIENCE, ended).await.expect("all end in time");
        self.record.end().await;
    }
}

fn cast(ledger: &Ledger, record: &Record) -> Cast {
    let noted = {
        let ledger = Arc::clone(ledger);
        move |job: &Job| {
            let member = job.member.clone().unwrap_or_default();
            let args = job.args.read().expect("args are JSON");
            ledger.lock().unwrap().push(Line { member, args, at: Instant::now() });
        }
    };
    let note = noted.clone();
    let cast = Cast::default().noop().kind("echo", move |job, _| {
        note(job);
        Box::pin(async { Outcome::Succeeded(job.args.clone()) })
    });
    let note = noted.clone();
    // Fails the first time, whatever its attempts; a replay succeeds.
    let cast = cast.kind("fail", move |job, _| {
        note(job);
        let fails = job.replay == 0;
        let failure = Failure { cause: Cause::Args, message: "out of paper".to_owned() };
        Box::pin(async move { if fails { Outcome::Failed(failure) } else { Outcome::Succeeded(Json::null()) } })
    });
    let note = noted.clone();
    let cast = cast.kind("second", move |job, _| {
        note(job);
        let fails = job.attempt == 1;
        Box::pin(async move { if fails { Outcome::failed("once more") } else { Outcome::Succeeded(Json::null()) } })
    });
    let note = noted.clone();
    let cast = cast.kind("large", move |job, _| {
        note(job);
        Box::pin(async { Outcome::Succeeded(Json::of(&"x".repeat(100_000)).expect("JSON")) })
    });
    let results = record.results.clone();
    // Succeeds once the members that its args name have ended.
    cast.kind("gate", move |job, _| {
        noted(job);
        let results = results.clone();
        Box::pin(async move {
            let wanted: Vec<String> = job.args.read().expect("names");
            let run = job.run.expect("a run");
            let mut look = tokio::time::interval(Duration::from_millis(20));
            loop {
                look.tick().await;
                let members = results.members(run).await.unwrap_or_default();
                let ended = members.iter().filter(|row| !["waiting", "due", "published"].contains(&row.state.as_str()));
                let ended: Vec<&String> = ended.map(|row| &row.name).collect();
                if wanted.iter().all(|name| ended.contains(&name)) {
                    break;
                }
            }
            Outcome::Succeeded(Json::null())
        })
    })
}

/// A member of the stage's queue.
pub fn member(name: &str, kind: &str, needs: &[&str], args: &str) -> Member {
    let mut job = Job::new(kind, QUEUE, Json::new(args.to_owned()).expect("JSON"));
    job.retry = RetryPolicy::new(2, Duration::from_millis(100), 1.0, 0.0).ok();
    Member {
        name: name.to_owned(),
        needs: needs.iter().map(|need| (*need).to_owned()).collect(),
        job,
        delay_ms: None,
        expires_ms: None,
        bare: false,
        compensate: None,
    }
}

/// The same with what undoes it.
pub fn undone(mut member: Member, args: &str) -> Member {
    let name = format!("compensate:{}", member.name);
    member.compensate = Some(Box::new(self::member(&name, "echo", &[], args)));
    member
}

/// A completion that gets how each member ended.
pub fn closing(name: &str) -> Option<Box<Member>> {
    Some(Box::new(Member { bare: true, ..member(name, "echo", &[], "null") }))
}

pub fn run(on_failure: OnFailure, members: Vec<Member>) -> NewRun {
    NewRun {
        run: Uuid::now_v7(),
        name: "a run".to_owned(),
        on_failure,
        started: Timestamp::now(),
        members,
        then: closing("then"),
        finally: closing("finally"),
        note: None,
    }
}

/// The id of a member's job.
pub fn id(run: Uuid, member: &str) -> Uuid {
    job_id(run, member)
}
