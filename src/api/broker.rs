//! `/broker`: what we want on the broker beside what is there, or the files of the embedded one.
//!
//! Refuses to guess: what the broker does not tell is null. Changes nothing on what exists.

use std::{collections::BTreeSet, path::Path, time::Duration};

use axum::{Json, extract::State};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use spinor_consumers::broker::{Broker, BrokerObject, QueueSpec};

use super::{Answer, ApiState, LinkState};
use crate::config::{BrokerChoice, Config};

/// The broker is waited for no longer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The broker, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BrokerShown {
    /// `embedded`, or its address without a password.
    pub broker: String,
    /// The link to it.
    pub link: LinkState,
    /// Our objects on it; null: not known, `problem` says why. Empty when it is embedded.
    pub objects: Option<Vec<BrokerObject>>,
    /// Why the objects are not known.
    pub problem: Option<String>,
    /// The files of the embedded broker; null with any other.
    pub embedded: Option<EmbeddedFiles>,
}

/// The files of the embedded broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EmbeddedFiles {
    /// Bytes of `broker.db`; null: not known.
    pub file_bytes: Option<u64>,
    /// Bytes of its write-ahead log.
    pub wal_bytes: Option<u64>,
    /// Bytes free for us on its disk.
    pub disk_free_bytes: Option<u64>,
}

/// `GET /broker`.
pub(super) async fn show(State(state): State<ApiState>) -> Answer<BrokerShown> {
    let config = &state.config;
    let looked = tokio::time::timeout(PATIENCE, state.broker.objects(&wanted(config))).await;
    let (objects, problem) = match looked {
        Ok(Ok(objects)) => (Some(objects), None),
        Ok(Err(error)) => (None, Some(error.to_string())),
        Err(_) => (None, Some(format!("the broker did not answer within {} s", PATIENCE.as_secs()))),
    };
    let link = LinkState::from(&*state.broker.link().borrow());
    let (broker, embedded) = match &config.broker {
        BrokerChoice::Embedded => ("embedded".to_owned(), Some(files(&config.data.join("broker")))),
        BrokerChoice::RabbitMq(endpoint) => (endpoint.to_string(), None),
    };
    Ok(Json(BrokerShown { broker, link, objects, problem, embedded }))
}

/// The queues that this configuration names.
fn wanted(config: &Config) -> Vec<QueueSpec> {
    let names: BTreeSet<&String> = config.consumer.queues.iter().chain(config.queues.keys()).collect();
    names.into_iter().map(|name| QueueSpec { name: name.clone(), foreign: config.queue(name).foreign }).collect()
}

fn files(dir: &Path) -> EmbeddedFiles {
    let size = |name: &str| std::fs::metadata(dir.join(name)).ok().map(|file| file.len());
    let disk = rustix::fs::statvfs(dir).ok();
    EmbeddedFiles {
        file_bytes: size("broker.db"),
        wal_bytes: size("broker.db-wal"),
        disk_free_bytes: disk.map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize)),
    }
}
