//! The jobs of a run: what each does, and which end is its own.
//!
//! Each job's own process writes when it starts and when it is done, in one write, and waits until
//! that is on disk. Owns the scripts; refuses to publish.

use std::time::Duration;

use serde_json::json;
use spinor::api::new_job::{NewJob, Retry};
use spinor_executors::Json;
use uuid::Uuid;

use super::ledgers::Accepted;
use crate::recorder::entries::Draw;

/// The queue of ordinary jobs.
pub const QUEUE: &str = "one";
/// The queue of those that rather get lost than run twice.
pub const ONCE_QUEUE: &str = "once";
/// The node that runs the plans, and its queue.
pub const NODE: &str = "n1";

/// A job to be offered, and what must become of it.
pub struct Offer {
    pub job: NewJob,
    pub wanted: Accepted,
    /// Somebody wants it to end, so long after it was published.
    pub cancel: Option<Duration>,
}

/// The shell's part that writes a line: `say S` or `say E`.
const SAY: &str = "say() { read up idle < /proc/uptime; echo \"$1 $JOB ${STEP:-0} $SPINOR_RUN $PPID $up\" >> executions; sync -d executions; }\n";
/// A second attempt finds what the first has left.
const ONCE: &str = "mkdir tries/$JOB 2>/dev/null";
/// Holds a process in a session of its own while it runs, so long that it is held.
const LONG: &str = "setsid sleep 600 & sleep 3.$TENTHS; kill $!";
/// Where everything is one process every kill hits, and who is hit too often is parked.
const NOT_SO_LONG: &str = "setsid sleep 600 & sleep 1.$TENTHS; kill $!";
/// Longer than a cancel takes.
const ENDLESS: &str = "sleep 15";

/// One job of the mix; `many`: there are several consumers, and some run theirs at most once.
pub fn draw(draw: &mut Draw, many: bool) -> Offer {
    match draw.below(100) {
        0..46 => script("short", "", draw).wanted(1, "succeeded"),
        46..56 => script("50 ms", "sleep 0.05", draw).wanted(1, "succeeded"),
        56..60 => {
            let mut offer = script("at most once", "sleep 0.$TENTHS", draw).wanted(1, "succeeded");
            if many {
                offer.job.queue = Some(ONCE_QUEUE.to_owned());
                offer.wanted.at_most_once = true;
            }
            offer
        }
        60..62 => script("cancelled", if many { ENDLESS } else { NOT_SO_LONG }, draw).cancelled(Duration::from_secs(1)),
        62..64 => {
            let mut offer = script("cancelled before its time", "", draw).cancelled(Duration::ZERO);
            offer.job.delay = Some("10s".to_owned());
            offer
        }
        64..71 => script("seconds", if many { LONG } else { NOT_SO_LONG }, draw).wanted(1, "succeeded"),
        71..80 => {
            script("fails first", &format!("{ONCE} && {{ say E; exit 3; }}"), draw).retried(3).wanted(4, "succeeded")
        }
        80..86 => script("fails for good", "say E; exit 4", draw).retried(2).wanted(3, "failed"),
        86..90 => script("not retried", "say E; exit 5", draw).wanted(1, "failed"),
        90..94 => {
            let mut offer = script("expires", "", draw);
            offer.job.delay = Some("2s".to_owned());
            offer.job.expires = Some("1s".to_owned());
            offer.wanted(0, "expired")
        }
        94..98 => large(draw),
        _ => plan(draw),
    }
}

fn script(what: &str, body: &str, draw: &mut Draw) -> Offer {
    let id = Uuid::now_v7();
    let text = format!("{SAY}say S\n{body}\nsay E");
    let env = json!({"JOB": id.to_string(), "TENTHS": draw.below(10).to_string()});
    new(what, id, "command", QUEUE, &json!({"shell": text, "env": env}))
}

/// Its standard input is larger than what a frame, or an event, carries.
fn large(draw: &mut Draw) -> Offer {
    let id = Uuid::now_v7();
    let size = 200_000 + draw.below(300_000);
    let text = format!("{SAY}say S\ntest $(wc -c) -eq {size} || exit 6\nsay E");
    let args = json!({"shell": text, "env": {"JOB": id.to_string()}, "stdin": "x".repeat(size)});
    new("large args", id, "command", QUEUE, &args).wanted(1, "succeeded")
}

/// Three steps that may be repeated when a crash cuts them.
fn plan(draw: &mut Draw) -> Offer {
    let id = Uuid::now_v7();
    let step = |number: u32, body: &str| {
        let script = format!("{SAY}say S\n{body}\nsay E");
        let env = json!({"JOB": id.to_string(), "STEP": number.to_string()});
        json!({"item": number, "verb": "RUN", "script": script, "env": env, "timeout_ms": 60_000, "on_interrupt": "run"})
    };
    let pause = format!("sleep 0.{}", draw.below(9));
    let steps = json!([step(0, ""), step(1, &pause), step(2, "")]);
    let args = json!({"node": NODE, "sequences": [{"part": 0, "steps": steps}]});
    let mut offer = new("plan", id, "spinor.plan", &format!("node.{NODE}"), &args).wanted(1, "succeeded");
    offer.wanted.steps = 3;
    offer
}

fn new(what: &str, id: Uuid, kind: &str, queue: &str, args: &serde_json::Value) -> Offer {
    let mut job = NewJob::new(kind);
    job.queue = Some(queue.to_owned());
    job.id = Some(id);
    job.args = Some(Json::of(args).expect("JSON"));
    let wanted = Accepted {
        id,
        what: what.to_owned(),
        sure: false,
        offered: 0.0,
        answered: 0.0,
        end: String::new(),
        attempts: 1,
        steps: 1,
        at_most_once: false,
    };
    Offer { job, wanted, cancel: None }
}

impl Offer {
    fn retried(mut self, max: u32) -> Self {
        let retry = Retry { max, first: Some("1s".to_owned()), factor: Some(1.0), jitter: Some(0.0) };
        self.job.retry = Some(retry);
        self
    }

    /// Its own end is that of who was not heard.
    fn cancelled(mut self, after: Duration) -> Self {
        self.cancel = Some(after);
        self.wanted(1, "succeeded")
    }

    fn wanted(mut self, attempts: u32, end: &str) -> Self {
        self.wanted.attempts = attempts;
        self.wanted.end = end.to_owned();
        self
    }
}
