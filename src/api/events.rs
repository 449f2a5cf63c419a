//! `/events`: what happens, live, as server-sent events.
//!
//! Lossy by contract: a slow reader loses events and nothing waits for it. Owns the form, and that a stream ends once its
//! reader may not read it any more.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, Method},
    response::sse::{Event as SentEvent, KeepAlive, Sse},
};
use futures_util::{Stream, stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use spinor_consumers::{
    access::Role,
    broker::{Broker, Event, Topic},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use uuid::Uuid;

use super::{
    ApiState, Problem,
    caller::{Caller, How},
    guard, jobs, query_of, runs,
};

/// Who reads is looked at again after this, and when users and tokens were read again.
const AGAIN: Duration = Duration::from_secs(10);

/// Whose events; everybody's when empty.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EventFilter {
    /// Of one job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<Uuid>,
    /// Of the members of one run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<Uuid>,
}

/// `GET /events`.
pub(super) async fn stream(
    State(state): State<ApiState>,
    caller: Caller,
    headers: HeaderMap,
    query: Result<Query<EventFilter>, QueryRejection>,
) -> Result<Sse<impl Stream<Item = Result<SentEvent, Infallible>>>, Problem> {
    let asked = query_of(query)?;
    may(&state, &caller, asked).await?;
    let topic = match asked {
        EventFilter { job: Some(_), run: Some(_) } => {
            return Err(Problem::field("run", "give a job or a run, not both"));
        }
        EventFilter { job: Some(job), .. } => Topic::Job(job),
        EventFilter { run: Some(run), .. } => Topic::Run(run),
        EventFilter { .. } => Topic::All,
    };
    let events = state.broker.listen(topic).await?;
    // A stream that is open must not keep the process from ending.
    let hidden = Arc::clone(state.schemas.hidden());
    let reader =
        Reader { changes: state.access.changes(), state, headers, how: caller.how(), asked, looked: Instant::now() };
    let stream = stream::unfold((events, hidden, reader), |(mut events, hidden, mut reader)| async move {
        let shutdown = reader.state.shutdown.clone();
        let mut event = tokio::select! {
            event = events.next() => event?,
            () = reader.is_refused() => return None,
            () = shutdown.cancelled() => return None,
        };
        if let Event::Ended { report } = &mut event {
            report.whole.iter_mut().for_each(|job| hidden.hide_in(job));
        }
        Some((Ok(sent(&event)), (events, hidden, reader)))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))))
}

/// Refuses events of what the caller may not read.
async fn may(state: &ApiState, caller: &Caller, asked: EventFilter) -> Result<(), Problem> {
    match asked {
        EventFilter { job: Some(job), run: None } => jobs::check(state, caller, Role::Viewer, job).await,
        EventFilter { run: Some(run), job: None } => runs::check(state, caller, Role::Viewer, run).await,
        EventFilter { .. } => caller.everywhere(Role::Viewer),
    }
}

/// Who reads a stream, by what it showed.
struct Reader {
    state: ApiState,
    headers: HeaderMap,
    how: How,
    asked: EventFilter,
    changes: watch::Receiver<()>,
    looked: Instant,
}

impl Reader {
    /// Resolves once the reader may not read this any more. Cancel-safe: what was not looked at is looked at then.
    async fn is_refused(&mut self) {
        if self.how == How::Socket {
            return std::future::pending().await;
        }
        loop {
            tokio::select! {
                changed = self.changes.changed() => if changed.is_err() { return },
                () = sleep_until(self.looked + AGAIN) => {}
            }
            // Until the look has ended the next one is due: an event may come in its way.
            self.looked = Instant::now().checked_sub(AGAIN).unwrap_or(self.looked);
            let may = match guard::known(&self.state, &self.headers, &Method::GET).await {
                Ok(caller) => may(&self.state, &caller, self.asked).await,
                Err(problem) => Err(problem),
            };
            self.looked = Instant::now();
            // A record that does not answer takes nothing away.
            if may.is_err_and(|problem| matches!(problem.status, 401 | 403)) {
                return;
            }
        }
    }
}

fn sent(event: &Event) -> SentEvent {
    let name = match event {
        Event::Started { .. } => "started",
        Event::Output { .. } => "output",
        Event::Progress { .. } => "progress",
        Event::Step { .. } => "step",
        Event::Ended { .. } => "ended",
        Event::Ping { .. } => "ping",
        Event::Pong { .. } => "pong",
        Event::Watch { .. } => "watch",
        Event::Watched { .. } => "watched",
        Event::Recorded { .. } => "recorded",
        Event::WhoHolds { .. } => "who_holds",
        Event::Holds { .. } => "holds",
        Event::Marked { .. } => "marked",
        Event::Ordered { .. } => "ordered",
        Event::Laned { .. } => "laned",
    };
    // JSON on one line: it holds no newline, which the form forbids.
    SentEvent::default().event(name).data(serde_json::to_string(event).unwrap_or_default())
}
