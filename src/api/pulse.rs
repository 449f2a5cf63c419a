//! `/pulse`: what happened in each second, as server-sent events.
//!
//! Owns the counting: a page that shows rates, or wants to know that there is something new to read, gets one line a
//! second however fast the jobs go. Counted from the lossy events of all consumers; refuses to keep what was.

use std::{convert::Infallible, time::Duration};

use axum::{
    extract::State,
    response::sse::{Event as SentEvent, KeepAlive, Sse},
};
use futures_util::{Stream, stream};
use serde::{Deserialize, Serialize};
use spinor_consumers::broker::{Broker, Event, Events, Topic};
use spinor_executors::State as JobState;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::{ApiState, LinkState, Problem};

const SECOND: Duration = Duration::from_secs(1);

/// One second.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// Executions that started.
    pub started: u64,
    /// Executions that succeeded.
    pub succeeded: u64,
    /// Executions that ended otherwise, and are tried again.
    pub retrying: u64,
    /// Executions that ended otherwise, and are the job's last.
    pub failed: u64,
    /// Steps of plans that ended.
    pub steps: u64,
    /// The link to the broker: `up`, `blocked`, `down` or `closed`.
    pub link: String,
}

impl Beat {
    fn count(&mut self, event: &Event) {
        match event {
            Event::Started { .. } => self.started += 1,
            Event::Step { .. } => self.steps += 1,
            Event::Ended { report } => match report.state {
                JobState::Succeeded => self.succeeded += 1,
                state if state.is_final() => self.failed += 1,
                _ => self.retrying += 1,
            },
            _ => {}
        }
    }
}

/// `GET /pulse`.
pub(super) async fn stream(
    State(state): State<ApiState>,
) -> Result<Sse<impl Stream<Item = Result<SentEvent, Infallible>>>, Problem> {
    let events = state.broker.listen(Topic::All).await?;
    let mut each = interval_at(Instant::now() + SECOND, SECOND);
    each.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let beats = stream::unfold((events, each, state), |(mut events, mut each, state)| async move {
        let mut beat = tokio::select! {
            beat = second(&mut events, &mut each) => beat?,
            () = state.shutdown.cancelled() => return None,
        };
        beat.link = LinkState::from(&*state.broker.link().borrow()).state;
        let sent = SentEvent::default().event("beat").data(serde_json::to_string(&beat).unwrap_or_default());
        Some((Ok(sent), (events, each, state)))
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
