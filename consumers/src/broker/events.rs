//! Lossy events: what people watch live. Nothing may depend on one arriving.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use spinor_executors::{Progress, Report, StepReport, Stream};
use tokio::sync::{Notify, mpsc};
use uuid::Uuid;

/// What to listen to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// Everything of every job.
    All,
    /// One job.
    Job(Uuid),
    /// The members of one run.
    Run(Uuid),
    /// Pings and commands to consumers, and their answers.
    Control,
    /// Which jobs somebody waits for: what recorders listen to.
    Watches,
    /// What recorders answer to that.
    Recorded,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
// Tag and content beside each other: a value inside stays raw text when it is read.
#[serde(tag = "event", content = "of", rename_all = "snake_case")]
pub enum Event {
    /// An execution started.
    Started {
        /// The job.
        job: Uuid,
        /// Its run.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        run: Option<Uuid>,
        /// The attempt.
        attempt: u32,
        /// The consumer.
        consumer: String,
    },
    /// Live output, readable text.
    Output {
        /// The job.
        job: Uuid,
        /// Its run.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        run: Option<Uuid>,
        /// Which stream.
        stream: Stream,
        /// The text; bytes that are no UTF-8 as `\xNN`.
        text: String,
    },
    /// Progress.
    Progress {
        /// The job.
        job: Uuid,
        /// Its run.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        run: Option<Uuid>,
        /// How far.
        progress: Progress,
    },
    /// A step of a plan ended.
    Step {
        /// What is also recorded.
        report: Box<StepReport>,
    },
    /// An execution ended.
    Ended {
        /// What is also recorded.
        #[serde(deserialize_with = "buffered")]
        report: Box<Report>,
    },
    /// Who is there? On `Control`.
    Ping {
        /// Echoed in the answer.
        nonce: Uuid,
    },
    /// Does the consumer with this boot id run this attempt? On `Control`.
    WhoHolds {
        /// The boot id.
        holder: Uuid,
        /// The job.
        job: Uuid,
        /// Its replay.
        replay: u32,
        /// Its attempt.
        attempt: u32,
    },
    /// I have this boot id, and I do, or do not. On `Control`.
    Holds {
        /// The boot id.
        holder: Uuid,
        /// The job.
        job: Uuid,
        /// Its replay.
        replay: u32,
        /// Its attempt.
        attempt: u32,
        /// Does it run there?
        running: bool,
    },
    /// The marks changed: whoever obeys them reads what is new. On `Control`.
    Marked {
        /// The version of the newest.
        version: u64,
    },
    /// A replay was ordered or stopped: who works on replays looks. On `Control`.
    Ordered {
        /// The replay.
        replay: Uuid,
    },
    /// A work queue has this lane now: whoever consumes the queue takes from it too. On `Control`.
    Laned {
        /// The lane's name: its queue's, with its suffix.
        name: String,
    },
    /// I am. On `Control`.
    Pong {
        /// Of the ping.
        nonce: Uuid,
        /// The consumer's id.
        consumer: String,
        /// Its group.
        group: String,
        /// Its node name, when it is a node.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        node: Option<String>,
    },
    /// Somebody waits for the end of these jobs. On `Watches`, again every few seconds while it lasts.
    Watch {
        /// The jobs, not too many.
        jobs: Vec<Uuid>,
    },
    /// From now on the ends of these jobs will be told; one that ended before is in the record. On
    /// `Recorded`.
    Watched {
        /// The jobs.
        jobs: Vec<Uuid>,
    },
    /// The ends of these jobs, which somebody waits for, are in the record. On `Recorded`.
    Recorded {
        /// The jobs.
        jobs: Vec<Uuid>,
    },
}

impl Event {
    /// The one job and run an event belongs to, if it does.
    pub fn subject(&self) -> (Option<Uuid>, Option<Uuid>) {
        match self {
            Self::Started { job, run, .. } | Self::Output { job, run, .. } | Self::Progress { job, run, .. } => {
                (Some(*job), *run)
            }
            Self::Step { report } => (Some(report.job), report.run),
            Self::Ended { report } => (Some(report.job), report.run),
            Self::Ping { .. }
            | Self::Pong { .. }
            | Self::Marked { .. }
            | Self::Ordered { .. }
            | Self::Laned { .. }
            | Self::Watch { .. }
            | Self::Watched { .. }
            | Self::Recorded { .. }
            | Self::WhoHolds { .. }
            | Self::Holds { .. } => (None, None),
        }
    }

    /// Does a listener of this topic hear it?
    pub fn matches(&self, topic: &Topic) -> bool {
        let (job, run) = self.subject();
        match topic {
            Topic::All => job.is_some(),
            Topic::Job(wanted) => job == Some(*wanted),
            Topic::Run(wanted) => run == Some(*wanted),
            Topic::Control => matches!(
                self,
                Self::Ping { .. }
                    | Self::Pong { .. }
                    | Self::Marked { .. }
                    | Self::Ordered { .. }
                    | Self::Laned { .. }
                    | Self::WhoHolds { .. }
                    | Self::Holds { .. }
            ),
            Topic::Watches => matches!(self, Self::Watch { .. }),
            Topic::Recorded => matches!(self, Self::Watched { .. } | Self::Recorded { .. }),
        }
    }
}

/// A report inside a tagged enum comes out of serde's buffer, where the text of its value is gone;
/// it is made anew. Good enough to watch: the record keeps the text.
fn buffered<'de, D: Deserializer<'de>>(from: D) -> Result<Box<Report>, D::Error> {
    serde_json::from_value(serde_json::Value::deserialize(from)?).map_err(D::Error::custom)
}

/// A stream of events; ends when the broker is closed.
#[derive(Debug)]
pub struct Events(Source);

#[derive(Debug)]
enum Source {
    Channel(mpsc::Receiver<Event>),
    Ring(Arc<Ring>),
}

impl Events {
    /// For brokers: whatever comes through a channel.
    pub const fn new(events: mpsc::Receiver<Event>) -> Self {
        Self(Source::Channel(events))
    }

    /// For brokers: a ring that keeps the newest `capacity` events, and the way into it.
    pub fn ring(capacity: usize) -> (EventSink, Self) {
        let ring = Arc::new(Ring { capacity, state: Mutex::default(), wake: Notify::new() });
        (EventSink(Arc::clone(&ring)), Self(Source::Ring(ring)))
    }

    /// The next event. Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        match &mut self.0 {
            Source::Channel(events) => events.recv().await,
            Source::Ring(ring) => ring.next().await,
        }
    }

    /// How many events this listener lost because it was too slow, as far as its broker knows.
    pub fn lost(&self) -> u64 {
        match &self.0 {
            Source::Channel(_) => 0,
            Source::Ring(ring) => ring.lock().lost,
        }
    }
}

/// The way into a listener's ring; dropping it ends the stream.
#[derive(Debug)]
pub struct EventSink(Arc<Ring>);

impl EventSink {
    /// Hands an event over, at the cost of the oldest when the ring is full; `false` when nobody
    /// listens any more.
    pub fn offer(&self, event: Event) -> bool {
        if !self.is_heard() {
            return false;
        }
        let mut state = self.0.lock();
        if state.events.len() >= self.0.capacity {
            state.events.pop_front();
            state.lost += 1;
        }
        state.events.push_back(event);
        drop(state);
        self.0.wake.notify_one();
        true
    }
}

impl EventSink {
    /// Does anybody listen still?
    pub fn is_heard(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

impl Drop for EventSink {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.wake.notify_one();
    }
}

#[derive(Debug)]
struct Ring {
    capacity: usize,
    state: Mutex<RingState>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct RingState {
    events: VecDeque<Event>,
    ended: bool,
    lost: u64,
}

impl Ring {
    fn lock(&self) -> MutexGuard<'_, RingState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn next(&self) -> Option<Event> {
        loop {
            // One listener, one stored wake-up: an offer between the look and the wait is kept.
            {
                let mut state = self.lock();
                if let Some(event) = state.events.pop_front() {
                    return Some(event);
                }
                if state.ended {
                    return None;
                }
            }
            self.wake.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use spinor_executors::{Job, Json, Origin, Outcome, Report};
    use uuid::Uuid;

    use super::{Event, Topic};

    #[test]
    fn consumers_hear_who_asks_for_a_holder_and_the_answer() {
        let (holder, job) = (Uuid::now_v7(), Uuid::now_v7());
        let asked = Event::WhoHolds { holder, job, replay: 0, attempt: 1 };
        let answer = Event::Holds { holder, job, replay: 0, attempt: 1, running: true };
        assert!(asked.matches(&Topic::Control) && answer.matches(&Topic::Control));
    }

    #[test]
    fn the_end_of_an_execution_is_heard_with_its_value() -> Result<(), serde_json::Error> {
        let job = Job::new("noop", "default", Json::empty());
        let origin = Origin { consumer: "c".into(), group: "g".into(), host: "h".into() };
        let mut report = Report::of(&job, &origin, Uuid::now_v7(), Timestamp::now());
        report.end(Outcome::Succeeded(Json::new(r#"{"width":7}"#)?));
        let event = Event::Ended { report: Box::new(report) };
        assert_eq!(serde_json::from_slice::<Event>(&serde_json::to_vec(&event)?)?, event);
        Ok(())
    }
}
