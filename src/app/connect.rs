//! Opens what the configuration names: broker, results database and state.
//!
//! Owns the difference between "wrong for good" (an error at once) and "not there yet" (one log
//! line, then patience).

use std::{collections::BTreeSet, fmt::Display, future::Future, path::Path, sync::Arc, time::Duration};

use spinor_consumers::{
    blobs::{BlobError, Blobs, S3Address, S3Settings},
    broker::{
        AnyBroker, Broker as _, BrokerError, QueueSpec,
        embedded::{Embedded, EmbeddedSettings},
        rabbitmq::{RabbitMq, RabbitSettings},
    },
    consumer::Record,
    marks::StateCell,
    results::{Results, ResultsError, ResultsTarget},
    search::{SearchAuth, SearchSettings},
    state::{State, StateError, StateTarget},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::config::{BlobsChoice, BrokerChoice, Config, Endpoint, ResultsChoice, SearchChoice, StateChoice};

/// A server cannot be used. Named by what the caller does next.
#[derive(Debug, thiserror::Error)]
pub enum CannotConnect {
    /// Mend the configuration, or the server that does not agree with it.
    #[error("{0}")]
    Misconfigured(String),
    /// Another process has the embedded broker's directory.
    #[error("{0}")]
    InUse(String),
    /// Mend this machine: the data directory is another process's, full, broken or too new.
    #[error("{0}")]
    Unusable(String),
    /// It was told to stop before the server answered.
    #[error("stopped while waiting: {0}")]
    Stopped(String),
}

/// Between two tries.
const PAUSE: Duration = Duration::from_secs(1);

/// Opens or connects the broker.
pub async fn broker(config: &Config, stop: &CancellationToken) -> Result<AnyBroker, CannotConnect> {
    match &config.broker {
        BrokerChoice::Embedded => {
            let search = config.search != SearchChoice::Off;
            let settings = EmbeddedSettings { dir: config.data.join("broker"), search, socket: Some(config.socket()) };
            let embedded = Embedded::open(settings).await.map_err(|error| match error {
                BrokerError::InUse(why) => CannotConnect::InUse(why),
                other => CannotConnect::Unusable(other.to_string()),
            })?;
            Ok(AnyBroker::Embedded(embedded))
        }
        BrokerChoice::RabbitMq(endpoint) => {
            let settings = rabbit(config, endpoint);
            let connect = || {
                let settings = settings.clone();
                async move {
                    RabbitMq::connect(settings).await.map_err(|error| match error {
                        BrokerError::Unreachable(why) => Later(why),
                        other => Never(other.to_string()),
                    })
                }
            };
            patiently("broker", connect, stop).await.map(AnyBroker::RabbitMq)
        }
    }
}

/// How RabbitMQ is reached, and what things are called there.
pub fn rabbit(config: &Config, endpoint: &Endpoint) -> RabbitSettings {
    let mut settings = RabbitSettings::new(endpoint.reveal());
    settings.prefix.clone_from(&config.broker_prefix);
    settings.ca_file.clone_from(&config.broker_ca);
    settings.connection_name =
        format!("spinor@{}:{}", rustix::system::uname().nodename().to_string_lossy(), std::process::id());
    settings.search = config.search != SearchChoice::Off;
    settings
}

/// The results database for a process that can do without it for a while: the first try decides
/// whether it is wrong for good, the others are made beside the work.
pub async fn record(config: &Arc<Config>, stop: &CancellationToken) -> Result<Record, CannotConnect> {
    let record = Record::default();
    match open(&target(config, &config.data)).await {
        Ok(results) => _ = record.set(results),
        Err(Never(why)) => return Err(for_good(config, why)),
        Err(Later(_)) => {
            let (config, stop, later) = (Arc::clone(config), stop.clone(), Arc::clone(&record));
            // Nobody waits for it: it ends with `stop`.
            TaskTracker::new().spawn(async move {
                match results(&config, &config.data, &stop).await {
                    Ok(results) => _ = later.set(results),
                    Err(CannotConnect::Stopped(_)) => {}
                    Err(error) => tracing::error!(%error, "The results database cannot be used; redelivered jobs run without a look at it."),
                }
            });
        }
    }
    Ok(record)
}

/// State for a process that goes on without it for a while: the first try decides whether it is
/// wrong for good, the others are made beside the work. `kept` is the directory of one that is a file.
pub async fn state(config: &Config, kept: &Path, stop: &CancellationToken) -> Result<StateCell, CannotConnect> {
    let cell = StateCell::default();
    match open_state(&state_target(config, kept)).await {
        Ok(state) => _ = cell.set(state),
        Err(Never(why)) => return Err(CannotConnect::Misconfigured(why)),
        Err(Later(_)) => {
            let (target, stop, later) = (state_target(config, kept), stop.clone(), Arc::clone(&cell));
            // Nobody waits for it: it ends with `stop`.
            TaskTracker::new().spawn(async move {
                match patiently("store of state", || open_state(&target), &stop).await {
                    Ok(state) => _ = later.set(state),
                    Err(CannotConnect::Stopped(_)) => {}
                    Err(error) => tracing::error!(%error, "State cannot be used; what needs it waits."),
                }
            });
        }
    }
    Ok(cell)
}

fn state_target(config: &Config, kept: &Path) -> StateTarget {
    match (&config.state, &config.results) {
        (StateChoice::Redis(endpoint), _) => StateTarget::Redis {
            url: endpoint.reveal().to_owned(),
            prefix: config.broker_prefix.clone(),
            ca_file: config.state_ca.clone(),
        },
        (StateChoice::Results, ResultsChoice::MySql(endpoint)) => {
            StateTarget::MySql(mysql(config, endpoint).reveal().to_owned())
        }
        (StateChoice::Results, ResultsChoice::Sqlite) => StateTarget::Sqlite(kept.join("state.db")),
    }
}

async fn open_state(target: &StateTarget) -> Result<State, Failure> {
    State::open(target).await.map_err(|error| match error {
        StateError::Unavailable(why) => Later(why),
        StateError::Misconfigured(why) => Never(why),
    })
}

/// Where large args and values lie. A bucket is looked at once: what is wrong for good is an error, and one
/// that does not answer is used all the same, since each use asks anew.
pub async fn blobs(config: &Config, record: &Record, stop: &CancellationToken) -> Result<Blobs, CannotConnect> {
    let blobs = match &config.blobs {
        BlobsChoice::Results => Blobs::in_results(Arc::clone(record)),
        BlobsChoice::Directory(path) => {
            let opened = Blobs::in_directory(path.clone()).await;
            opened.map_err(|error| CannotConnect::Unusable(format!("`blobs`: {error}")))?
        }
        BlobsChoice::S3 { .. } => {
            let bucket = bucket(config)?;
            match prepare(&bucket).await {
                Ok(()) => {}
                Err(Never(why)) => return Err(CannotConnect::Misconfigured(format!("`blobs`: {why}"))),
                Err(Later(_)) => {
                    let (later, stop) = (bucket.clone(), stop.clone());
                    // Nobody waits for it: it ends with `stop`.
                    TaskTracker::new().spawn(async move {
                        match patiently("blob store", || prepare(&later), &stop).await {
                            Ok(()) | Err(CannotConnect::Stopped(_)) => {}
                            Err(error) => tracing::error!(%error, "Large args and values cannot be kept; jobs that have some wait."),
                        }
                    });
                }
            }
            bucket
        }
    };
    Ok(blobs.with_largest(config.max_args))
}

/// The bucket that is configured, without a look at it.
pub fn bucket(config: &Config) -> Result<Blobs, CannotConnect> {
    let wrong = |why: String| CannotConnect::Misconfigured(format!("`blobs`: {why}"));
    let BlobsChoice::S3 { address, keys } = &config.blobs else { return Err(wrong("names no bucket".to_owned())) };
    let no_keys = "the bucket has no keys; set `blobs_access_key` and `blobs_secret_key` in the secrets file, or \
                   AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";
    let keys = keys.clone().ok_or_else(|| wrong(no_keys.to_owned()))?;
    let settings = S3Settings { address: S3Address::clone(address), keys, ca_file: config.blobs_ca.clone() };
    Blobs::in_s3(settings).map_err(|error| wrong(error.to_string()))
}

async fn prepare(blobs: &Blobs) -> Result<(), Failure> {
    blobs.prepare().await.map_err(|error| match error {
        BlobError::Misconfigured(why) => Never(why),
        other => Later(other.to_string()),
    })
}

/// The results database; `kept` is where it is when it is a file.
pub fn target(config: &Config, kept: &Path) -> ResultsTarget {
    match &config.results {
        ResultsChoice::Sqlite => ResultsTarget::Sqlite(kept.join("results.db")),
        ResultsChoice::MySql(endpoint) => ResultsTarget::MySql(mysql(config, endpoint).reveal().to_owned()),
    }
}

/// The address of the results server, with what holds for TLS: who names an authority wants no
/// connection without it.
pub fn mysql(config: &Config, endpoint: &Endpoint) -> Endpoint {
    match &config.results_ca {
        Some(file) => endpoint.with_parameters(&[("ssl-mode", "VERIFY_IDENTITY"), ("ssl-ca", &file.to_string_lossy())]),
        None => endpoint.clone(),
    }
}

async fn open(target: &ResultsTarget) -> Result<Results, Failure> {
    Results::open(target).await.map_err(|error| match error {
        ResultsError::Unavailable(why) => Later(why),
        other => Never(other.to_string()),
    })
}

/// Opens the results database; `kept` is the directory of one that is a file.
pub async fn results(config: &Config, kept: &Path, stop: &CancellationToken) -> Result<Results, CannotConnect> {
    let target = target(config, kept);
    patiently("results database", || open(&target), stop).await.map_err(|error| match error {
        CannotConnect::Misconfigured(why) => for_good(config, why),
        other => other,
    })
}

/// Of what is wrong with the results database, a file of ours is no matter of the configuration.
fn for_good(config: &Config, why: String) -> CannotConnect {
    match config.results {
        ResultsChoice::Sqlite => CannotConnect::Unusable(why),
        ResultsChoice::MySql(_) => CannotConnect::Misconfigured(why),
    }
}

/// Sees that our queues of the configuration exist, so that jobs can be published before the first
/// consumer comes. Somebody else's are theirs to declare.
pub async fn queues(config: &Config, broker: &AnyBroker, stop: &CancellationToken) -> Result<(), CannotConnect> {
    let names: BTreeSet<&String> = config.consumer.queues.iter().chain(config.queues.keys()).collect();
    let ours = names.into_iter().filter(|name| !config.queue(name).foreign);
    let specs: Vec<QueueSpec> = ours.map(|name| QueueSpec { name: name.clone(), foreign: false }).collect();
    let declare = || async {
        broker.declare(&specs).await.map_err(|error| match error {
            BrokerError::Unreachable(why) => Later(why),
            other => Never(other.to_string()),
        })
    };
    patiently("broker", declare, stop).await
}

/// How the search index is fed, if it is.
pub fn search(config: &Config) -> Option<SearchSettings> {
    let SearchChoice::Http { endpoint, api_key } = &config.search else { return None };
    let mut settings = SearchSettings::new(endpoint.reveal());
    settings.ca_file.clone_from(&config.search_ca);
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
