//! A consumer as a library: a program's own executors, run as `spinor up` runs those that it brings.
//!
//! Owns how such a program is put together. With a remote broker it is a consumer and nothing else;
//! with the embedded one, which lives in one process, it is all of Spinor. Refuses kinds that nobody
//! named: what it serves is what its code says.

use std::{path::PathBuf, sync::Arc};

use spinor_consumers::consumer::Shutdown;
use spinor_executors::{DuplicateKind, Executor, KindPattern, Typed, TypedExecutor};
use tokio::task::JoinSet;

use crate::{
    app::{App, CannotConnect, Own, Parts, Role},
    client::{Client, ClientError},
    config::{Ask, Config, Problems},
    signals::Signals,
};

/// A program that runs jobs with executors of its own, connected and ready to run.
pub struct Consumer {
    app: App,
    config: Arc<Config>,
    shutdown: Shutdown,
}

/// What a [`Consumer`] is made of.
#[derive(Default)]
pub struct ConsumerBuilder {
    file: Option<PathBuf>,
    set: Vec<(&'static str, String, &'static str)>,
    own: Own,
    also: Vec<String>,
}

/// Why there is no consumer, or none any more. Named by what the caller does next.
#[derive(Debug, thiserror::Error)]
pub enum ConsumerError {
    /// Mend the configuration, or the program.
    #[error("{0}")]
    Misconfigured(String),
    /// It was told to stop before a server answered.
    #[error("{0}")]
    Stopped(String),
    /// Look closer: it could not start, or did not end in good order. No job is lost.
    #[error("{0}")]
    Failed(String),
}

impl ConsumerBuilder {
    /// Reads this file instead of the one that `spinor up` would find.
    #[must_use]
    pub fn config(mut self, file: impl Into<PathBuf>) -> Self {
        self.file = Some(file.into());
        self
    }

    /// Sets a key of the configuration, such as `broker` or `consumer.slots`, over file and environment.
    #[must_use]
    pub fn set(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.set.push((key, value.into(), "set by the program"));
        self
    }

    /// Serves a kind with typed args and value.
    #[must_use]
    pub fn serve(self, kind: impl Into<String>, executor: impl TypedExecutor) -> Self {
        self.executor(kind, Typed(executor))
    }

    /// Serves a kind.
    #[must_use]
    pub fn executor(mut self, kind: impl Into<String>, executor: impl Executor) -> Self {
        self.own.executors.push((kind.into(), Arc::new(executor)));
        self
    }

    /// Serves kinds that come with Spinor or are programs of the configuration, too: `http`, `image.*`.
    #[must_use]
    pub fn also(mut self, pattern: impl Into<String>) -> Self {
        self.also.push(pattern.into());
        self
    }

    /// Has this `spinor` end the processes of jobs when the program is killed. Without one they go on, as
    /// nobody is left to end them; executors in Rust have none.
    #[must_use]
    pub fn guardian(mut self, spinor: impl Into<PathBuf>) -> Self {
        self.own.guardian = Some(spinor.into());
        self
    }

    /// Opens and connects. A server that does not answer yet is waited for, until a signal says otherwise.
    pub async fn build(self) -> Result<Consumer, ConsumerError> {
        let shutdown = Shutdown::default();
        let mut heard = JoinSet::new();
        heard.spawn(Signals::listen().obey(shutdown.clone()));
        let config = Arc::new(self.load()?);
        let parts = if config.is_remote() { Parts::CONSUMER } else { Parts::ALL };
        let role = Role { parts, nodes: Vec::new(), jobs: true, record: None, supervises: None, own: Some(self.own) };
        let app = App::build(Arc::clone(&config), role, &shutdown.drain).await.map_err(|error| cannot(&error))?;
        heard.detach_all();
        Ok(Consumer { app, config, shutdown })
    }

    fn load(&self) -> Result<Config, ConsumerError> {
        let mut kinds: Vec<String> = self.own.executors.iter().map(|(kind, _)| kind.clone()).collect();
        let wrong = |text: &String| {
            KindPattern::new(text.as_str())
                .err()
                .or_else(|| text.contains(',').then(|| format!("`{text}`: a kind has no comma")))
        };
        kinds.extend(self.also.iter().cloned());
        if let Some(why) = kinds.iter().find_map(wrong) {
            return Err(ConsumerError::Misconfigured(why));
        }
        let mut ask = Ask::here(self.file.clone());
        ask.consumes = true;
        ask.flags.clone_from(&self.set);
        ask.flags.push(("consumer.kinds", kinds.join(","), "the kinds of the program"));
        Ok(ask.load()?.config)
    }
}

impl Consumer {
    /// Serves nothing yet.
    pub fn builder() -> ConsumerBuilder {
        ConsumerBuilder::default()
    }

    /// A client of this very process; none with a remote broker, where the API is another process.
    pub fn client(&self) -> Option<Result<Client, ClientError>> {
        (!self.config.is_remote()).then(|| Client::unix(self.config.socket()))
    }

    /// Runs jobs until SIGTERM or SIGINT; then takes no more, and gives what runs `consumer.grace`. A second
    /// signal ends it at once: what is in hand goes back to its queue.
    pub async fn run(self) -> Result<(), ConsumerError> {
        self.run_until(std::future::pending()).await
    }

    /// The same, until this resolves or a signal comes.
    pub async fn run_until(self, stop: impl Future<Output = ()>) -> Result<(), ConsumerError> {
        let drain = self.shutdown.drain.clone();
        let running = self.app.run(self.shutdown);
        let told = async {
            stop.await;
            drain.cancel();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            ended = running => ended.map_err(|error| ConsumerError::Failed(format!("{error:#}"))),
            () = told => Ok(()),
        }
    }
}

/// The page on Rust compiles.
#[cfg(doctest)]
#[doc = include_str!("../docs/rust.md")]
struct Page;

impl From<Problems> for ConsumerError {
    fn from(problems: Problems) -> Self {
        Self::Misconfigured(problems.to_string())
    }
}

fn cannot(error: &anyhow::Error) -> ConsumerError {
    match error.downcast_ref::<CannotConnect>() {
        Some(CannotConnect::Misconfigured(_)) => ConsumerError::Misconfigured(format!("{error:#}")),
        Some(CannotConnect::Stopped(_)) => ConsumerError::Stopped(format!("{error:#}")),
        _ if error.downcast_ref::<DuplicateKind>().is_some() => ConsumerError::Misconfigured(format!("{error:#}")),
        _ => ConsumerError::Failed(format!("{error:#}")),
    }
}
