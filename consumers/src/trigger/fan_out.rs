//! The kind `spinor.each`: a job that asks for the items of an instant, by SQL or by a command.
//!
//! Owns the job, which the clock publishes in the place of the run, and the executor, which leaves the run with its
//! success. What is asked, and the job for each item, are in the configuration of who runs it and in no message, which
//! brings the instant alone. Refuses to publish: the consumer does, with its answer.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use spinor_executors::{BoxFuture, Context, Executor, Failure, Job, Json, Outcome, RetryPolicy, Timeout, lines_of};

use super::each;
use crate::{
    database::{Keys, rows::rows_of},
    message::MAX_BODY,
    results::{Previous, ResultsTarget, Tick},
    schedule::{Asks, Spec},
};

/// The kind.
pub const FAN_OUT_KIND: &str = "spinor.each";

/// A failure is tried again so often, the first time after this.
const RETRIES: (u32, Duration) = (3, Duration::from_secs(5));

const KEYS: Keys = Keys {
    address: "each.database",
    password: "each_password",
    authority: "the parameter `ssl-ca` in `each.database`",
};

/// Where the items of a trigger come from.
#[derive(Clone)]
pub struct ItemSource {
    /// Who is asked.
    pub asked: Asked,
    /// At most so many items are taken.
    pub limit: usize,
    /// The trigger: what it fires for each of them.
    pub spec: Spec,
}

/// Who is asked for items.
#[derive(Clone)]
pub enum Asked {
    /// A database, read only: an item for each row.
    Sql {
        /// Which.
        database: ResultsTarget,
        /// The question.
        sql: String,
    },
    /// A program: an item for each line it writes, as JSON.
    Command(Vec<String>),
}

/// Asks for the items of the triggers of a file.
pub struct FanOut {
    sources: BTreeMap<String, ItemSource>,
}

/// What the message brings: which instant of which trigger, and how the one before ended.
#[derive(Serialize, Deserialize)]
struct Asking {
    name: String,
    instant: Timestamp,
    previous: Option<Previous>,
}

/// The value of a success.
#[derive(Serialize)]
struct Told {
    items: usize,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cut: bool,
}

/// The job of an instant whose items are asked for.
pub(super) fn job(tick: &Tick, asks: &Asks) -> Result<Job, String> {
    let Tick { name, instant, previous, .. } = tick.clone();
    let asking = Json::of(&Asking { name, instant, previous }).map_err(|error| error.to_string())?;
    let mut job = Job::new(FAN_OUT_KIND, &asks.queue, asking);
    let limit = Duration::from_millis(asks.timeout_ms);
    job.timeout = Some(Timeout { soft: limit, hard: limit });
    job.retry = RetryPolicy::new(RETRIES.0, RETRIES.1, 2.0, 0.2).ok();
    job.priority = tick.spec.job.priority;
    Ok(job)
}

impl FanOut {
    /// By the name of the trigger.
    pub const fn new(sources: BTreeMap<String, ItemSource>) -> Self {
        Self { sources }
    }

    async fn ask(&self, job: &Job, context: &Context) -> Result<Outcome, Failure> {
        let asking: Asking = job.args.read().map_err(|error| Failure::args(error.to_string()))?;
        let source = self.sources.get(&asking.name).ok_or_else(|| {
            let why = "has no `each` with `sql` or `command` for it; it needs that part of the file, too";
            Failure::args(format!("trigger `{}`: the configuration of this consumer {why}", asking.name))
        })?;
        let limit = job.timeout.map_or(Duration::from_secs(30), |timeout| timeout.hard);
        let (texts, cut) = match &source.asked {
            Asked::Command(argv) => {
                let lines = lines_of(argv, source.limit, MAX_BODY, context).await?;
                (lines.lines, lines.cut)
            }
            Asked::Sql { database, sql } => {
                let bounds = (source.limit, MAX_BODY);
                let rows = tokio::select! {
                    rows = rows_of(database, &KEYS, sql, bounds, limit) => rows,
                    () = context.cancelled() => Err("the question was given up".to_owned()),
                };
                let rows = rows.map_err(failed)?;
                (rows.rows, rows.cut)
            }
        };
        let items = texts.into_iter().enumerate().map(|(at, text)| {
            Json::new(text).map_err(|error| failed(format!("line {} of its output is no JSON: {error}", at + 1)))
        });
        let items = items.collect::<Result<Vec<Json>, Failure>>()?;
        let Asking { name, instant, previous } = asking;
        let (spec, schedule) = (source.spec.clone(), uuid::Uuid::nil());
        let tick = Tick { schedule, name, instant, time: None, job: job.id, spec, previous };
        if cut {
            tracing::warn!(trigger = tick.name, instant = %tick.instant, items = items.len(), "There were more items than a trigger takes; the others have no job.");
        }
        // Nothing to be done is an end like any other.
        if !items.is_empty() {
            let note = cut.then(|| format!("cut: only the first {} items have jobs, there were more", items.len()));
            let run = each::run(&tick, &items, note).map_err(Failure::args)?;
            context.keep(|kept| kept.begins = Some(Box::new(run)));
        }
        let told = Told { items: items.len(), cut };
        Json::of(&told).map(Outcome::Succeeded).map_err(|error| failed(error.to_string()))
    }
}

fn failed(message: String) -> Failure {
    Failure { cause: spinor_executors::Cause::Error, message }
}

impl Executor for FanOut {
    fn run<'a>(&'a self, job: &'a Job, context: &'a Context) -> BoxFuture<'a, Outcome> {
        Box::pin(async { self.ask(job, context).await.unwrap_or_else(Outcome::Failed) })
    }
}
