//! `/kinds`: the catalogue. Who serves a kind, what args it takes, its limits, when it was seen last.
//!
//! Read from what consumers say of themselves and from the marks by which programs tell their schemas;
//! limits are those of this process's configuration. Refuses to ask a program anything.

use std::collections::{BTreeMap, BTreeSet};

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use spinor_consumers::state::Present;
use spinor_executors::{RetryPolicy, Timeout};

use super::{
    Answer, ApiState, Problem, clip,
    schemas::{self, Told, told},
    steer,
};
use crate::config::Config;

/// A kind that somebody serves, or served.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct KindRow {
    /// Its name.
    pub kind: String,
    /// The program that serves it, by its own word; absent for one that comes with Spinor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The JSON Schema of its args.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<Value>,
    /// The consumers that serve it now.
    pub consumers: Vec<String>,
    /// Their groups.
    pub groups: Vec<String>,
    /// The versions of Spinor among them.
    pub versions: Vec<String>,
    /// What was told of it, schema by schema, the last first; the fields above are those of the first one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub schemas: Vec<KindSchema>,
    /// Which consumers have it and cannot serve it, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub troubles: Vec<KindTrouble>,
    /// When it was served last, as far as is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Timestamp>,
    /// What holds for its jobs.
    pub limits: KindLimits,
}

/// What all programs that serve a kind with the same schema say of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct KindSchema {
    /// The program that said so last.
    pub program: String,
    /// The JSON Schema of the args.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<Value>,
    /// Why it is not heeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// The consumers that say so now.
    pub consumers: Vec<String>,
}

/// Why a consumer does not serve a kind that it has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KindTrouble {
    /// The consumer.
    pub consumer: String,
    /// What it says.
    pub why: String,
}

/// What holds for the jobs of a kind, unless they say otherwise themselves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct KindLimits {
    /// Time limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Timeout>,
    /// Retries; none when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryPolicy>,
    /// What the processes of one job may hold, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Open files of each process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<u64>,
    /// The limits they count against.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<String>,
    /// Do they never run a second time?
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub at_most_once: bool,
}

impl KindLimits {
    fn of(config: &Config, kind: &str) -> Self {
        let limits = config.limits_of(kind);
        Self {
            timeout: limits.timeout.or(Some(config.consumer.timeout)),
            retry: limits.retry,
            memory: limits.memory,
            files: limits.files,
            limits: limits.limits.unwrap_or_default(),
            at_most_once: limits.at_most_once.unwrap_or_default(),
        }
    }
}

/// `GET /kinds`.
pub(super) async fn list(State(state): State<ApiState>) -> Answer<Vec<KindRow>> {
    Ok(Json(rows(&state).await?))
}

/// `GET /kinds/{kind}`.
pub(super) async fn show(State(state): State<ApiState>, path: Result<Path<String>, PathRejection>) -> Answer<KindRow> {
    let kind = steer::text_of(path)?;
    let rows = rows(&state).await?;
    let known = rows.iter().map(|row| row.kind.clone()).collect();
    let problem = || Problem {
        known,
        field: Some("kind".to_owned()),
        ..Problem::not_found(format!("nobody serves the kind `{}`", clip(&kind)))
    };
    rows.iter().find(|row| row.kind == kind).cloned().map(Json).ok_or_else(problem)
}

/// The kinds that cannot be served somewhere, for people: one line each.
pub(super) fn troubles(alive: &[Present]) -> Vec<String> {
    let lines = alive.iter().flat_map(|present| {
        let consumer = &present.beat.consumer;
        present.beat.troubles.iter().map(move |(kind, why)| format!("{consumer} cannot serve kind `{kind}`: {why}"))
    });
    lines.collect()
}

async fn rows(state: &ApiState) -> Result<Vec<KindRow>, Problem> {
    let alive = steer::state_of(state)?.consumers().await?;
    let mut rows: BTreeMap<String, KindRow> = BTreeMap::new();
    for Told { kind, form, served, at } in told(&state.marks) {
        let says_so = |present: &&Present| present.beat.forms.iter().any(|(of, its)| *of == kind && *its == form);
        let consumers = alive.iter().filter(says_so).map(|present| present.beat.consumer.clone()).collect();
        let row = rows.entry(kind.clone()).or_default();
        if row.schemas.is_empty() {
            row.program = Some(served.program.clone()).filter(|program| !program.is_empty());
            (row.schema, row.description) = (served.schema.clone(), served.description);
        }
        row.last_seen = row.last_seen.max(Some(at));
        let trouble = state.schemas.trouble(form);
        row.schemas.push(KindSchema { program: served.program, schema: served.schema, trouble, consumers });
    }
    for Present { beat, at, .. } in &alive {
        for kind in &beat.kinds {
            let row = rows.entry(kind.clone()).or_default();
            row.consumers.push(beat.consumer.clone());
            row.groups.push(beat.group.clone());
            row.versions.push(beat.version.clone());
            row.last_seen = row.last_seen.max(Some(*at));
        }
        for (kind, why) in &beat.troubles {
            let trouble = KindTrouble { consumer: beat.consumer.clone(), why: why.clone() };
            rows.entry(kind.clone()).or_default().troubles.push(trouble);
        }
    }
    let sorted = |names: Vec<String>| names.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
    let rows = rows.into_iter().map(|(kind, row)| KindRow {
        limits: KindLimits::of(&state.config, &kind),
        schema: row.schema.or_else(|| schemas::builtin(&kind)),
        consumers: sorted(row.consumers),
        groups: sorted(row.groups),
        versions: sorted(row.versions),
        kind,
        ..row
    });
    Ok(rows.collect())
}
