//! `/status` for people, `/healthz` and `/readyz` for supervisors, `/metrics` for Prometheus.

use std::{fmt::Write as _, sync::atomic::Ordering, time::Duration};

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use spinor_consumers::{
    broker::{Broker, Link},
    recorder::RecorderHealth,
    results::{JobFilter, Leader},
};

use super::{
    Answer, ApiState, Info, PartRow, Problem, QueueRow, figures, groups, kinds, parts, queues, steer, triggers,
};
use crate::{
    config::{BrokerChoice, ResultsChoice, SearchChoice, StateChoice},
    scaling::GroupState,
};

/// What runs here, and how it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// The process that answers.
    #[serde(flatten)]
    pub info: Info,
    /// The broker, without a password.
    pub broker: String,
    /// The link to it.
    pub link: LinkState,
    /// The results database, without a password.
    pub results: String,
    /// Why the results database does not answer; absent when it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub results_problem: Option<String>,
    /// Where state lives, without a password.
    #[serde(default)]
    pub state: String,
    /// Why state does not answer; absent when it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_problem: Option<String>,
    /// The search index, without a password.
    pub search: String,
    /// The data directory.
    pub data: String,
    /// The queues; empty when the broker does not answer.
    pub queues: Vec<QueueRow>,
    /// Kinds that a consumer has and cannot serve, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub troubles: Vec<String>,
    /// Recorders and triggers; empty when the broker does not answer.
    #[serde(default)]
    pub parts_alive: Vec<PartRow>,
    /// Who fires triggers; absent before the first, and while the results database does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<Leader>,
    /// The groups whose consumers this process sees to.
    #[serde(default)]
    pub groups: Vec<GroupState>,
}

/// The link to the broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LinkState {
    /// `up`, `blocked`, `down` or `closed`.
    pub state: String,
    /// The broker's word or the last error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl From<&Link> for LinkState {
    fn from(link: &Link) -> Self {
        let (state, why) = match link {
            Link::Up => ("up", None),
            Link::Blocked { why } => ("blocked", Some(why.clone())),
            Link::Down { why } => ("down", Some(why.clone())),
            Link::Closed => ("closed", None),
        };
        Self { state: state.to_owned(), why }
    }
}

/// `GET /status`.
pub(super) async fn status(State(state): State<ApiState>) -> Answer<Status> {
    let link = LinkState::from(&*state.broker.link().borrow());
    let bound = Duration::from_secs(2);
    let consumers = async { Ok(steer::state_of(&state)?.consumers().await?) };
    // Side by side: what is away together is waited for once.
    let (results_problem, state_problem, queues, alive, parts_alive, leader) = tokio::join!(
        results_problem(&state),
        state_problem(&state),
        within(bound, queues::rows(&state)),
        within(bound, consumers),
        within(bound, async { Ok(parts::rows(&state).await) }),
        within(bound, async { Ok(state.results.leader().await?) }),
    );
    let alive = alive.unwrap_or_default();
    let config = &state.config;
    Ok(Json(Status {
        info: (*state.info).clone(),
        broker: match &config.broker {
            BrokerChoice::Embedded => "embedded".to_owned(),
            BrokerChoice::RabbitMq(endpoint) => endpoint.to_string(),
        },
        link,
        results: match &config.results {
            ResultsChoice::Sqlite => "sqlite".to_owned(),
            ResultsChoice::MySql(endpoint) => endpoint.to_string(),
        },
        results_problem,
        state: match &config.state {
            StateChoice::Results => "results".to_owned(),
            StateChoice::Redis(endpoint) => endpoint.to_string(),
        },
        state_problem,
        search: match &config.search {
            SearchChoice::Off => "off".to_owned(),
            SearchChoice::Http { endpoint, .. } => endpoint.to_string(),
        },
        data: std::path::absolute(&config.data).unwrap_or_else(|_| config.data.clone()).display().to_string(),
        queues: queues.unwrap_or_default(),
        troubles: kinds::troubles(&alive),
        parts_alive: parts_alive.unwrap_or_default(),
        leader: leader.ok().flatten(),
        groups: state.groups.iter().map(|group| group.borrow().clone()).collect(),
    }))
}

async fn within<T>(time: Duration, work: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
    tokio::time::timeout(time, work)
        .await
        .unwrap_or_else(|_| Err(Problem::new(503, "No answer", "no answer within 2 s")))
}

async fn results_problem(state: &ApiState) -> Option<String> {
    let filter = JobFilter { limit: 1, ..JobFilter::default() };
    let look = async { state.results.jobs(&filter).await.map_err(Problem::from) };
    within(Duration::from_secs(2), look).await.err().map(|problem| problem.detail)
}

async fn state_problem(state: &ApiState) -> Option<String> {
    match state.state.get() {
        Some(state) => match tokio::time::timeout(Duration::from_secs(2), state.check()).await {
            Ok(checked) => checked.err().map(|error| error.to_string()),
            Err(_) => Some("no answer within 2 s".to_owned()),
        },
        None => Some("it has not answered since the start".to_owned()),
    }
}

/// `GET /healthz`: the process answers.
pub(super) async fn healthz() -> Response {
    (StatusCode::OK, "ok\n").into_response()
}

/// `GET /readyz`: jobs can be published and looked up.
pub(super) async fn readyz(State(state): State<ApiState>) -> Result<Response, Problem> {
    let link = LinkState::from(&*state.broker.link().borrow());
    if link.state != "up" {
        let why = link.why.map(|why| format!(": {why}")).unwrap_or_default();
        return Err(Problem::new(503, "Not ready", format!("the link to the broker is {}{why}", link.state)));
    }
    if let Some(RecorderHealth::Waiting { why }) = state.recorder.as_ref().map(|view| view.health().borrow().clone()) {
        return Err(Problem::new(503, "Not ready", format!("the recorder waits for the results database: {why}")));
    }
    match results_problem(&state).await {
        Some(why) => Err(Problem::new(503, "Not ready", why)),
        None => Ok((StatusCode::OK, "ready\n").into_response()),
    }
}

/// `GET /metrics`.
pub(super) async fn metrics(State(state): State<ApiState>) -> Response {
    let mut text = String::new();
    let mut line = |name: &str, kind: &str, help: &str, samples: &[(String, u64)]| {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in samples {
            let _ = writeln!(text, "{name}{labels} {value}");
        }
    };
    let one = |value: u64| vec![(String::new(), value)];
    let counters = &state.counters;
    line(
        "spinor_jobs_published_total",
        "counter",
        "Jobs this process published and the broker confirmed.",
        &one(counters.published.load(Ordering::Relaxed)),
    );
    line(
        "spinor_jobs_refused_total",
        "counter",
        "Jobs this process published and the broker did not confirm.",
        &one(counters.refused.load(Ordering::Relaxed)),
    );
    line(
        "spinor_reports_unconfirmed_total",
        "counter",
        "Packs of queued reports that were not confirmed.",
        &one(counters.unreported.load(Ordering::Relaxed)),
    );
    let link = LinkState::from(&*state.broker.link().borrow()).state;
    line("spinor_broker_link_up", "gauge", "1 when the link to the broker is usable.", &one(u64::from(link == "up")));
    let info = format!("{{version=\"{}\"}}", state.info.version);
    line("spinor_info", "gauge", "The version that runs.", &[(info, 1)]);
    let started = u64::try_from(state.info.started.as_second()).unwrap_or(0);
    line("spinor_start_time_seconds", "gauge", "When the process started, in seconds since 1970.", &one(started));
    if let Some(recorder) = &state.recorder {
        let done = recorder.metrics();
        line("spinor_recorder_entries_total", "counter", "Entries recorded.", &one(done.entries));
        line("spinor_recorder_commits_total", "counter", "Transactions committed.", &one(done.commits));
        line("spinor_recorder_dead_letters_total", "counter", "Dead letters stored.", &one(done.letters));
        let recording = *recorder.health().borrow() == RecorderHealth::Recording;
        line(
            "spinor_recorder_up",
            "gauge",
            "1 while the results database takes what is recorded.",
            &one(u64::from(recording)),
        );
        let last = done.last_commit.and_then(|at| u64::try_from(at.as_second()).ok());
        line(
            "spinor_recorder_last_commit_seconds",
            "gauge",
            "When the last transaction was committed, in seconds since 1970.",
            &last.map_or_else(Vec::new, one),
        );
    }
    let backlog = tokio::time::timeout(Duration::from_secs(2), state.broker.backlog()).await;
    line(
        "spinor_results_backlog_bytes",
        "gauge",
        "The reports that wait to be recorded, about; absent when the broker does not answer.",
        &backlog.ok().and_then(Result::ok).map_or_else(Vec::new, |backlog| one(backlog.bytes)),
    );
    line(
        "spinor_results_bound_bytes",
        "gauge",
        "Beyond so many bytes of reports that wait consumers with this configuration take no more jobs.",
        &one(state.config.results_bound()),
    );
    let rows = within(Duration::from_secs(2), queues::rows(&state)).await.unwrap_or_default();
    let each = |value: &dyn Fn(&QueueRow) -> Option<u64>| -> Vec<(String, u64)> {
        rows.iter()
            .filter_map(|row| {
                Some((format!("{{queue=\"{}\"}}", row.stats.name.replace(['"', '\\', '\n'], "_")), value(row)?))
            })
            .collect()
    };
    line("spinor_queue_ready", "gauge", "Jobs that wait on a queue.", &each(&|row| Some(row.stats.ready)));
    line("spinor_queue_unacked", "gauge", "Jobs that consumers have in hand.", &each(&|row| row.stats.unacked));
    let paused = each(&|row| Some(u64::from(row.paused.is_some())));
    line("spinor_queue_paused", "gauge", "1 while a queue is paused.", &paused);
    line("spinor_queue_consumers", "gauge", "Consumers on a queue.", &each(&|row| Some(row.stats.consumers)));
    let part = |part: &PartRow| (format!("{{part=\"{}\"}}", part.part), part.alive);
    let parts: Vec<_> =
        within(Duration::from_secs(2), async { Ok(parts::rows(&state).await) }).await.unwrap_or_default();
    let parts: Vec<(String, u64)> = parts.iter().map(part).collect();
    line("spinor_parts_alive", "gauge", "Recorders and triggers that are alive.", &parts);
    for (name, kind, help, samples) in triggers::metrics(&state).await {
        line(name, kind, help, &samples);
    }
    for (name, help, samples) in groups::gauges(&state).await {
        line(name, "gauge", help, &samples);
    }
    if state.recorder.is_some() {
        text.push_str(&figures::exposed(&state.results.totals()));
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}
