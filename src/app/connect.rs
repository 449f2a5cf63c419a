//! Opens what the configuration names: broker and results database.
//!
//! Owns the difference between "wrong for good" (an error at once) and "not there yet" (one log
//! line, then patience).

use std::{fmt::Display, future::Future, time::Duration};

use spinor_consumers::{
    broker::{
        AnyBroker, Broker as _, BrokerError,
        embedded::{Embedded, EmbeddedSettings},
        rabbitmq::{RabbitMq, RabbitSettings},
    },
    results::{Results, ResultsError, ResultsTarget},
    search::{SearchAuth, SearchSettings},
};
use tokio_util::sync::CancellationToken;

use crate::config::{BrokerChoice, Config, ResultsChoice, SearchChoice};

/// A server cannot be used. Named by what the caller does next.
#[derive(Debug, thiserror::Error)]
pub enum CannotConnect {
    /// Mend the configuration or the server.
    #[error("{0}")]
    Misconfigured(String),
    /// It was told to stop before the server answered.
    #[error("stopped while waiting: {0}")]
    Stopped(String),
}

/// Between two tries.
const PAUSE: Duration = Duration::from_secs(1);

/// Opens or connects the broker.
pub async fn broker(config: &Config, stop: &CancellationToken) -> Result<AnyBroker, CannotConnect> {
    let search = config.search != SearchChoice::Off;
    match &config.broker {
        BrokerChoice::Embedded => {
            let settings = EmbeddedSettings { dir: config.data.join("broker"), search, socket: Some(config.socket()) };
            let embedded =
                Embedded::open(settings).await.map_err(|error| CannotConnect::Misconfigured(error.to_string()))?;
            Ok(AnyBroker::Embedded(embedded))
        }
        BrokerChoice::RabbitMq(endpoint) => {
            let mut settings = RabbitSettings::new(endpoint.reveal());
            settings.prefix.clone_from(&config.broker_prefix);
            settings.connection_name =
                format!("spinor@{}:{}", rustix::system::uname().nodename().to_string_lossy(), std::process::id());
            settings.search = search;
            let connect = || {
                let settings = settings.clone();
                async move {
                    let fate = |error| match error {
                        BrokerError::Unreachable(why) => Later(why),
                        other => Never(other.to_string()),
                    };
                    let broker = RabbitMq::connect(settings).await.map_err(fate)?;
                    // Whichever part is there first makes what all of them share.
                    match broker.declare(&[]).await {
                        Ok(()) => Ok(broker),
                        Err(error) => {
                            broker.close().await;
                            Err(fate(error))
                        }
                    }
                }
            };
            patiently("broker", connect, stop).await.map(AnyBroker::RabbitMq)
        }
    }
}

/// Opens the results database.
pub async fn results(config: &Config, stop: &CancellationToken) -> Result<Results, CannotConnect> {
    let target = match &config.results {
        ResultsChoice::Sqlite => ResultsTarget::Sqlite(config.data.join("results.db")),
        ResultsChoice::MySql(endpoint) => ResultsTarget::MySql(endpoint.reveal().to_owned()),
    };
    let open = || async {
        Results::open(&target).await.map_err(|error| match error {
            ResultsError::Unavailable(why) => Later(why),
            other => Never(other.to_string()),
        })
    };
    patiently("results database", open, stop).await
}

/// How the search index is fed, if it is.
pub fn search(config: &Config) -> Option<SearchSettings> {
    let SearchChoice::Http { endpoint, api_key } = &config.search else { return None };
    let mut settings = SearchSettings::new(endpoint.reveal());
    if let Some(key) = api_key {
        settings.auth = SearchAuth::ApiKey(key.clone());
    }
    Some(settings)
}

enum Failure {
    Later(String),
    Never(String),
}
use Failure::{Later, Never};

/// Tries until it works, is wrong for good, or `stop`.
async fn patiently<T, F>(
    what: &str,
    mut connect: impl FnMut() -> F,
    stop: &CancellationToken,
) -> Result<T, CannotConnect>
where
    F: Future<Output = Result<T, Failure>>,
{
    let since = tokio::time::Instant::now();
    let mut told = false;
    loop {
        let why = match connect().await {
            Ok(open) => {
                if told {
                    tracing::info!(seconds = since.elapsed().as_secs(), "The {what} answers.");
                }
                return Ok(open);
            }
            Err(Never(why)) => return Err(CannotConnect::Misconfigured(why)),
            Err(Later(why)) => why,
        };
        if !told {
            told = true;
            warn_once(what, &why);
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = stop.cancelled() => return Err(CannotConnect::Stopped(why)),
        }
    }
}

fn warn_once(what: &str, why: &dyn Display) {
    tracing::warn!(%why, "The {what} does not answer; waiting for it.");
}
