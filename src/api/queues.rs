//! `/queues`: what the broker knows of each queue, beside what is recorded of its jobs.

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use spinor_consumers::broker::{Broker, QueueStats};

use super::{Answer, ApiState};

/// A queue as a line of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueRow {
    /// What the broker knows.
    #[serde(flatten)]
    pub stats: QueueStats,
    /// Does this configuration name it?
    pub configured: bool,
}

/// `GET /queues`.
pub(super) async fn list(State(state): State<ApiState>) -> Answer<Vec<QueueRow>> {
    Ok(Json(rows(&state).await?))
}

/// The queues the broker lists, and those configured here.
pub(super) async fn rows(state: &ApiState) -> Result<Vec<QueueRow>, super::Problem> {
    let config = &state.config;
    let mut rows: BTreeMap<String, QueueRow> = BTreeMap::new();
    for name in config.consumer.queues.iter().chain(config.queues.keys()) {
        let stats = QueueStats { name: name.clone(), ..QueueStats::default() };
        rows.insert(name.clone(), QueueRow { stats, configured: true });
    }
    // A process without consumers knows no queue by itself: it asks for those that are configured.
    let named: Vec<String> = rows.keys().cloned().collect();
    let mut found = state.broker.stats(&named).await?;
    found.extend(state.broker.stats(&[]).await?);
    for stats in found {
        let row = rows.entry(stats.name.clone()).or_default();
        row.stats = stats;
    }
    Ok(rows.into_values().collect())
}
