//! `/events`: what happens, live, as server-sent events.
//!
//! Lossy by contract: a slow reader loses events and nothing waits for it. Owns only the form.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::{Query, State, rejection::QueryRejection},
    response::sse::{Event as SentEvent, KeepAlive, Sse},
};
use futures_util::{Stream, stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use spinor_consumers::{
    access::Role,
    broker::{Broker, Event, Topic},
};
use uuid::Uuid;

use super::{ApiState, Problem, caller::Caller, jobs, query_of, runs};

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
    query: Result<Query<EventFilter>, QueryRejection>,
) -> Result<Sse<impl Stream<Item = Result<SentEvent, Infallible>>>, Problem> {
    let asked = query_of(query)?;
    match asked {
        EventFilter { job: Some(job), run: None } => jobs::check(&state, &caller, Role::Viewer, job).await?,
        EventFilter { run: Some(run), job: None } => runs::check(&state, &caller, Role::Viewer, run).await?,
        EventFilter { .. } => caller.everywhere(Role::Viewer)?,
    }
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
    let stream = stream::unfold((events, hidden, state.shutdown), |(mut events, hidden, shutdown)| async move {
        let mut event = tokio::select! {
            event = events.next() => event?,
            () = shutdown.cancelled() => return None,
        };
        if let Event::Ended { report } = &mut event {
            report.whole.iter_mut().for_each(|job| hidden.hide_in(job));
        }
        Some((Ok(sent(&event)), (events, hidden, shutdown)))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))))
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
