//! Logs in to the servers that the configuration names, and leaves again.
//!
//! Owns what is said of a server that can be used. Refuses to change anything there and to wait for
//! one that is away: each look ends within a bound.

use std::{future::Future, time::Duration};

use spinor_consumers::{
    blobs::S3Address,
    broker::{Broker as _, rabbitmq::RabbitMq},
    outbox::{self, OutboxSettings, Waiting},
    results::Results,
    search::SearchIndex,
    state::State,
};

use super::connect;
use crate::config::{Config, Endpoint};

const BOUND: Duration = Duration::from_secs(10);

/// Logs in to RabbitMQ; what is wrong is an error for people.
pub async fn broker(config: &Config, endpoint: &Endpoint) -> Result<String, String> {
    // It has a bound of its own for each host, so that the second is tried when the first is silent.
    let broker = RabbitMq::connect(connect::rabbit(config, endpoint)).await.map_err(|error| error.to_string())?;
    broker.close().await;
    Ok(format!("{endpoint}: logged in"))
}

/// Logs in to the results server; what is wrong is an error for people.
pub async fn results(config: &Config, endpoint: &Endpoint) -> Result<String, String> {
    let (server, schema) = bounded(Results::check(connect::mysql(config, endpoint).reveal())).await?;
    let schema = match schema {
        0 => "its schema is not there yet; the recorder makes it".to_owned(),
        version => format!("its schema has version {version}"),
    };
    Ok(format!("{endpoint}: logged in to version {server}; {schema}"))
}

/// Logs in to Redis and looks at its settings; what is wrong is an error for people.
pub async fn state(config: &Config, endpoint: &Endpoint) -> Result<String, String> {
    let version = bounded(State::look_at_redis(endpoint.reveal(), config.state_ca.as_deref())).await?;
    Ok(format!("{endpoint}: logged in to Redis, which keeps what it is told; version {version}"))
}

/// Asks the search server with the credentials; what is wrong is an error for people.
pub async fn search(config: &Config, endpoint: &Endpoint) -> Result<String, String> {
    let Some(settings) = connect::search(config) else { return Err("no search server is named".to_owned()) };
    let index = SearchIndex::new(&settings).map_err(|error| error.to_string())?;
    let version = bounded(index.check()).await?;
    Ok(format!("{endpoint}: logged in to version {version}"))
}

/// Asks for the bucket with its keys; what is wrong is an error for people.
pub async fn blobs(config: &Config, address: &S3Address) -> Result<String, String> {
    let bucket = connect::bucket(config).map_err(|error| error.to_string())?;
    bounded(bucket.check()).await?;
    Ok(format!("{address}: its objects can be listed"))
}

/// Looks into an outbox; what is wrong is an error for people.
pub async fn outbox(settings: &OutboxSettings) -> Result<Waiting, String> {
    bounded(outbox::look(settings)).await
}

async fn bounded<T, E: ToString>(look: impl Future<Output = Result<T, E>>) -> Result<T, String> {
    match tokio::time::timeout(BOUND, look).await {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} s", BOUND.as_secs())),
    }
}
