//! What each operation takes and what it answers, beside its method and path.
//!
//! Owns which types a request and its answers are read and written as; their fields come from the types
//! themselves. Refuses to know the handlers: a test asks each of them.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value};
use spinor_consumers::{
    backup::Manifest,
    results::{
        AuditFilter, AuditRow, Backfilled, DeadLetter, DelayedFilter, Failures, JobRecord, JobRow, NoticeFilter,
        NoticeRow, Page, ReplayRow, RunRecord, RunRow, TokenRow, TriggerRow, UserRow, Waiting,
    },
};
use spinor_executors::StepReport;

use crate::api::{
    Accepted, Asked, BackUp, BatchAnswer, BrokerShown, CancelRequested, ConsumerRow, ConsumersMarked, DeadRecord,
    EditJob, EventFilter, FailureQuery, FailureRecord, Figures, FiguresQuery, FiredTick, GroupRow, KeyRow, KindRow,
    Letters, LimitRow, LockFilter, Locks, MadeToken, Matched, NewBackfill, NewLimit, NewPassword, NewReplay,
    NewReplays, NewRoles, NewRun, NewScale, NewSlots, NewToken, NewTrigger, NewUser, Prune, PrunedSlice, QueuePause,
    QueueRow, Removed, RemovedName, ReplayedJob, RetriedRun, Status, SubmittedRun, TriggerShown, Triggers, WaitMany,
    Waited, WaitedMany, Why, jobs, new_job::NewJob, new_run::NewJobRun, replays, runs, session, triggers, wait,
};

/// Makes the schema of a type, with those it refers to.
pub type Make = fn(&mut SchemaGenerator) -> Schema;

/// What is in an answer.
#[derive(Clone, Copy)]
pub enum Content {
    /// A JSON document.
    Json(Make),
    /// Text of this type.
    Text(&'static str),
    /// Nothing.
    Nothing,
}

/// What an operation takes and answers.
pub struct Shape {
    /// The parameters in the query.
    pub query: Option<Make>,
    /// The body, and whether there has to be one.
    pub body: Option<(Make, bool)>,
    /// What it answers when it did what it was asked.
    pub answers: Vec<(u16, Content)>,
    /// May it be refused because of how things stand?
    pub conflicts: bool,
}

fn named<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

fn either<A: JsonSchema, B: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({"anyOf": [generator.subschema_for::<A>(), generator.subschema_for::<B>()]})
}

impl Shape {
    fn new(status: u16, content: Content) -> Self {
        Self { query: None, body: None, answers: vec![(status, content)], conflicts: false }
    }

    fn of<T: JsonSchema>() -> Self {
        Self::new(200, Content::Json(named::<T>))
    }

    fn made<T: JsonSchema>() -> Self {
        Self::new(201, Content::Json(named::<T>))
    }

    fn taken<T: JsonSchema>() -> Self {
        Self::new(202, Content::Json(named::<T>))
    }

    fn or<T: JsonSchema>(mut self, status: u16) -> Self {
        self.answers.push((status, Content::Json(named::<T>)));
        self
    }

    fn asked<T: JsonSchema>(mut self) -> Self {
        self.query = Some(T::json_schema);
        self
    }

    fn takes<T: JsonSchema>(mut self) -> Self {
        self.body = Some((named::<T>, true));
        self
    }

    fn takes_either<A: JsonSchema, B: JsonSchema>(mut self) -> Self {
        self.body = Some((either::<A, B>, true));
        self
    }

    fn may_take<T: JsonSchema>(mut self) -> Self {
        self.body = Some((named::<T>, false));
        self
    }

    const fn conflicts(mut self) -> Self {
        self.conflicts = true;
        self
    }
}

/// The shape of the operation with this method and path; none when it was forgotten here.
pub fn shape(method: &str, path: &str) -> Option<Shape> {
    let path = path.strip_prefix("/api/v1").unwrap_or(path);
    of_jobs(method, path)
        .or_else(|| of_failures(method, path))
        .or_else(|| of_consumers(method, path))
        .or_else(|| of_runs(method, path))
        .or_else(|| of_triggers(method, path))
        .or_else(|| of_access(method, path))
        .or_else(|| of_the_rest(method, path))
}

fn of_jobs(method: &str, path: &str) -> Option<Shape> {
    Some(match (method, path) {
        ("GET", "/jobs") => Shape::of::<Page<JobRow>>().asked::<jobs::JobQuery>(),
        ("POST", "/jobs") => Shape::new(201, Content::Json(either::<Accepted, BatchAnswer>))
            .or::<Accepted>(200)
            .or::<BatchAnswer>(207)
            .takes_either::<NewJob, Vec<NewJob>>()
            .conflicts(),
        ("POST", "/jobs/wait") => Shape::of::<WaitedMany>().takes::<WaitMany>(),
        ("GET", "/jobs/{id}") => Shape::of::<JobRecord>(),
        ("PATCH", "/jobs/{id}") => Shape::of::<Waiting>().takes::<EditJob>().conflicts(),
        ("POST", "/jobs/{id}/cancel") => Shape::taken::<CancelRequested>().may_take::<Asked>().conflicts(),
        ("GET", "/jobs/{id}/wait") => Shape::of::<Waited>().or::<Waited>(202).asked::<wait::WaitQuery>(),
        ("GET", "/jobs/{id}/why") => Shape::of::<Why>(),
        ("POST", "/jobs/{id}/replay") => Shape::made::<ReplayedJob>().may_take::<NewReplay>().conflicts(),
        ("GET", "/delayed") => Shape::of::<Page<Waiting>>().asked::<DelayedFilter>(),
        _ => return None,
    })
}

fn of_failures(method: &str, path: &str) -> Option<Shape> {
    Some(match (method, path) {
        ("GET", "/dead") => Shape::of::<Page<DeadLetter>>().asked::<Letters>(),
        ("DELETE", "/dead") => Shape::of::<Removed>().asked::<Letters>(),
        ("GET", "/dead/{id}") => Shape::of::<DeadRecord>(),
        ("DELETE", "/dead/{id}") => Shape::of::<Removed>(),
        ("POST", "/dead/{id}/replay") => Shape::made::<ReplayedJob>().may_take::<NewReplay>().conflicts(),
        ("GET", "/failures") => Shape::of::<Failures>().asked::<FailureQuery>(),
        ("GET", "/failures/{fingerprint}") => Shape::of::<FailureRecord>(),
        ("GET", "/replays") => Shape::of::<Page<ReplayRow>>().asked::<replays::ListQuery>(),
        ("POST", "/replays") => Shape::made::<ReplayRow>().or::<Matched>(200).takes::<NewReplays>(),
        ("GET", "/replays/{id}") | ("POST", "/replays/{id}/stop") => Shape::of::<ReplayRow>(),
        ("GET", "/figures") => Shape::of::<Figures>().asked::<FiguresQuery>(),
        _ => return None,
    })
}

fn of_consumers(method: &str, path: &str) -> Option<Shape> {
    Some(match (method, path) {
        ("GET", "/kinds") => Shape::of::<Vec<KindRow>>(),
        ("GET", "/kinds/{kind}") => Shape::of::<KindRow>(),
        ("GET", "/queues") => Shape::of::<Vec<QueueRow>>(),
        ("POST", "/queues/{name}/pause" | "/queues/{name}/resume") => Shape::of::<QueuePause>().may_take::<Asked>(),
        ("GET", "/consumers") => Shape::of::<Vec<ConsumerRow>>(),
        ("GET", "/consumers/groups") => Shape::of::<Vec<GroupRow>>(),
        ("GET", "/consumers/{name}") => Shape::of::<ConsumerRow>(),
        ("POST", "/consumers/{name}/drain" | "/groups/{name}/drain") => {
            Shape::of::<ConsumersMarked>().may_take::<Asked>()
        }
        ("POST", "/consumers/{name}/slots" | "/groups/{name}/slots") => {
            Shape::of::<ConsumersMarked>().takes::<NewSlots>()
        }
        ("POST", "/groups/{name}/scale") => Shape::of::<GroupRow>().takes::<NewScale>(),
        ("GET", "/broker") => Shape::of::<BrokerShown>(),
        ("GET", "/locks") => Shape::of::<Locks>().asked::<LockFilter>(),
        ("PUT", "/limits/{name}") => Shape::of::<LimitRow>().takes::<NewLimit>(),
        ("DELETE", "/limits/{name}") => Shape::of::<LimitRow>().may_take::<Asked>(),
        ("DELETE", "/keys/{key}") => Shape::of::<KeyRow>().may_take::<Asked>(),
        _ => return None,
    })
}

fn of_runs(method: &str, path: &str) -> Option<Shape> {
    Some(match (method, path) {
        ("GET", "/runs") => Shape::of::<Page<RunRow>>().asked::<runs::ListQuery>(),
        ("POST", "/runs") => Shape::made::<SubmittedRun>().takes_either::<NewJobRun, NewRun>(),
        ("GET", "/runs/{id}") => Shape::of::<RunRecord>(),
        ("POST", "/runs/{id}/cancel") => Shape::taken::<CancelRequested>().may_take::<Asked>().conflicts(),
        ("POST", "/runs/{id}/retry") => Shape::taken::<RetriedRun>().may_take::<Asked>().conflicts(),
        ("GET", "/runs/{id}/steps") => Shape::of::<Vec<StepReport>>().asked::<runs::StepQuery>(),
        ("GET", "/nodes") => Shape::of::<Vec<String>>(),
        _ => return None,
    })
}

fn of_triggers(method: &str, path: &str) -> Option<Shape> {
    Some(match (method, path) {
        ("GET", "/triggers") => Shape::of::<Triggers>(),
        ("POST", "/triggers") => Shape::of::<TriggerRow>().takes::<NewTrigger>().conflicts(),
        ("GET", "/triggers/{name}") => Shape::of::<TriggerShown>().asked::<triggers::Shown>(),
        ("PUT", "/triggers/{name}") => Shape::of::<TriggerRow>().takes::<NewTrigger>().conflicts(),
        ("DELETE", "/triggers/{name}") => Shape::of::<TriggerRow>().may_take::<Asked>().conflicts(),
        ("POST", "/triggers/{name}/pause") => Shape::of::<TriggerRow>().may_take::<Asked>().conflicts(),
        ("POST", "/triggers/{name}/resume") => {
            Shape::of::<TriggerRow>().asked::<triggers::Resume>().may_take::<Asked>().conflicts()
        }
        ("POST", "/triggers/{name}/fire") => Shape::of::<FiredTick>().may_take::<Asked>().conflicts(),
        ("POST", "/triggers/{name}/backfill") => Shape::of::<Backfilled>().takes::<NewBackfill>().conflicts(),
        _ => return None,
    })
}

fn of_access(method: &str, path: &str) -> Option<Shape> {
    Some(match (method, path) {
        ("GET", "/users") => Shape::of::<Vec<UserRow>>(),
        ("POST", "/users") => Shape::made::<UserRow>().takes::<NewUser>().conflicts(),
        ("PUT", "/users/{name}/password") => Shape::of::<UserRow>().takes::<NewPassword>(),
        ("PUT", "/users/{name}/roles") => Shape::of::<UserRow>().takes::<NewRoles>(),
        ("DELETE", "/users/{name}" | "/tokens/{name}") => Shape::of::<RemovedName>().may_take::<Asked>(),
        ("GET", "/tokens") => Shape::of::<Vec<TokenRow>>(),
        ("POST", "/tokens") => Shape::made::<MadeToken>().takes::<NewToken>().conflicts(),
        ("GET", "/audit") => Shape::of::<Page<AuditRow>>().asked::<AuditFilter>(),
        ("GET", "/session") => Shape::of::<session::Oneself>(),
        ("POST", "/session") => Shape::made::<session::LoggedIn>().takes::<session::Login>(),
        ("DELETE", "/session") => Shape::new(204, Content::Nothing),
        _ => return None,
    })
}

fn of_the_rest(method: &str, path: &str) -> Option<Shape> {
    Some(match (method, path) {
        ("GET", "/notices") => Shape::of::<Vec<NoticeRow>>().asked::<NoticeFilter>(),
        ("POST", "/data/prune") => Shape::of::<PrunedSlice>().takes::<Prune>(),
        ("POST", "/data/backup") => Shape::of::<Manifest>().takes::<BackUp>(),
        ("GET", "/events") => Shape::new(200, Content::Text("text/event-stream")).asked::<EventFilter>(),
        ("GET", "/pulse") => Shape::new(200, Content::Text("text/event-stream")),
        ("GET", "/openapi.json") => Shape::of::<Map<String, Value>>(),
        ("GET", "/status") => Shape::of::<Status>(),
        ("GET", "/healthz" | "/readyz" | "/metrics") => Shape::new(200, Content::Text("text/plain")),
        _ => return None,
    })
}
