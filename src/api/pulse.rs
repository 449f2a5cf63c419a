//! `/pulse`: what happened in each second, as server-sent events.
//!
//! Owns the counting: a page that shows rates, or wants to know that there is something new to read, gets one line a
//! second however fast the jobs go. Ends are counted in the record, since consumers tell of no execution that only
//! flashes by; starts and steps from their lossy events. All who listen to this process get the same line, which is made
//! once, and nothing is counted while nobody listens. Refuses to keep what was.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::State,
    response::sse::{Event as SentEvent, KeepAlive, Sse},
};
use futures_util::{Stream, stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use spinor_consumers::{
    broker::{Broker, Event, Events, Topic},
    results::{Changes, Results},
};
use spinor_executors::State as JobState;
use tokio::{
    sync::{
        Mutex,
        broadcast::{self, error::RecvError},
    },
    time::{Instant, Interval, MissedTickBehavior, interval_at},
};

use super::{ApiState, LinkState, Problem};

const SECOND: Duration = Duration::from_secs(1);
/// Who is more seconds behind loses some.
const BEHIND: usize = 8;

/// One second.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Beat {
    /// Executions that started, of those that go on for a moment.
    pub started: u64,
    /// Steps of plans that ended.
    pub steps: u64,
    /// What was recorded; absent while the record does not answer.
    #[serde(flatten)]
    pub recorded: Option<Recorded>,
    /// The link to the broker: `up`, `blocked`, `down` or `closed`.
    pub link: String,
}

/// Jobs that came to their end, or to another attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Recorded {
    /// Jobs that succeeded.
    pub succeeded: u64,
    /// Jobs that wait for another attempt.
    pub retrying: u64,
    /// Jobs that ended otherwise.
    pub failed: u64,
}

impl Beat {
    const fn count(&mut self, event: &Event) {
        match event {
            Event::Started { .. } => self.started += 1,
            Event::Step { .. } => self.steps += 1,
            _ => {}
        }
    }
}

/// How far the record was counted.
#[derive(Default)]
struct Counted(Option<i64>);

impl Counted {
    /// What came since the last time. After a time without an answer it begins anew: what was missed is no rate.
    async fn more(&mut self, results: &Results) -> Option<Recorded> {
        let looked = tokio::time::timeout(SECOND, async {
            match self.0 {
                Some(after) => results.changes_after(after).await,
                None => results.newest_change().await.map(|newest| Changes { newest, ..Changes::default() }),
            }
        });
        let Ok(Ok(changes)) = looked.await else {
            self.0 = None;
            return None;
        };
        self.0.replace(changes.newest)?;
        let mut recorded = Recorded::default();
        for (state, jobs) in changes.states {
            match state {
                JobState::Succeeded => recorded.succeeded += jobs,
                JobState::Retrying => recorded.retrying += jobs,
                // That somebody cancelled it is no failure.
                JobState::Cancelled => {}
                state if state.is_final() => recorded.failed += jobs,
                _ => {}
            }
        }
        Some(recorded)
    }
}

/// The one count that all streams of this process share; it runs while somebody listens.
#[derive(Clone, Default)]
pub struct Pulse(Arc<Mutex<Option<broadcast::Sender<Arc<str>>>>>);

impl Pulse {
    /// The seconds from now on; the first who listens starts the count.
    async fn listen(&self, state: &ApiState) -> Result<broadcast::Receiver<Arc<str>>, Problem> {
        let mut going = self.0.lock().await;
        if let Some(sender) = going.as_ref() {
            return Ok(sender.subscribe());
        }
        let (events, mut counted) = (state.broker.listen(Topic::All).await?, Counted::default());
        // So that the first second is counted, too.
        counted.more(&state.results).await;
        let (sender, receiver) = broadcast::channel(BEHIND);
        *going = Some(sender);
        state.tasks.spawn(self.clone().run(state.clone(), events, counted));
        Ok(receiver)
    }

    async fn run(self, state: ApiState, mut events: Events, mut counted: Counted) {
        let mut each = interval_at(Instant::now() + SECOND, SECOND);
        each.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let beat = tokio::select! {
                beat = second(&mut events, &mut each) => beat,
                () = state.shutdown.cancelled() => None,
            };
            let Some(mut beat) = beat else { break };
            beat.recorded = counted.more(&state.results).await;
            beat.link = LinkState::from(&*state.broker.link().borrow()).state;
            let text: Arc<str> = serde_json::to_string(&beat).unwrap_or_default().into();
            let mut going = self.0.lock().await;
            // Nobody can begin to listen meanwhile.
            if going.as_ref().is_none_or(|sender| sender.send(text).is_err()) {
                *going = None;
                return;
            }
        }
        *self.0.lock().await = None;
    }
}

/// `GET /pulse`.
pub(super) async fn stream(
    State(state): State<ApiState>,
) -> Result<Sse<impl Stream<Item = Result<SentEvent, Infallible>>>, Problem> {
    let beats = state.pulse.listen(&state).await?;
    let beats = stream::unfold((beats, state.shutdown), |(mut beats, shutdown)| async move {
        let beat = loop {
            tokio::select! {
                beat = beats.recv() => match beat {
                    Ok(beat) => break beat,
                    // A slow reader loses seconds.
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return None,
                },
                () = shutdown.cancelled() => return None,
            }
        };
        Some((Ok(SentEvent::default().event("beat").data(&*beat)), (beats, shutdown)))
    });
    Ok(Sse::new(beats).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))))
}

async fn second(events: &mut Events, each: &mut Interval) -> Option<Beat> {
    let mut beat = Beat::default();
    loop {
        tokio::select! {
            biased;
            _ = each.tick() => return Some(beat),
            event = events.next() => beat.count(&event?),
        }
    }
}
