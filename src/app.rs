//! The wiring: from a configuration to running parts, the same path for every part and for tests.
//!
//! Owns which parts a process runs, what each is given, and the order they start and stop in:
//! broker and record first, then who uses them; at the end the other way round. Refuses to know
//! what any of them does. The only module that knows every type.

pub mod check;
mod connect;
mod consumers;
pub mod marks;
mod notices;
pub mod outbox;
mod programs;
mod scaling;

use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use spinor_consumers::{
    blobs::Blobs,
    broker::{AnyBroker, Broker},
    consumer::{Agreed, ConsumerSettings, Record, Shutdown},
    marks::{Marks, StateCell},
    outbox::Relay,
    recorder::{Recorder, RecorderSettings, RecorderView},
    replays::Replays,
    results::{Given, Lead, Results},
    retention::Retention,
    search::{Search, SearchIndex, SearchSettings},
    state::State,
    trigger::{Delays, Ticker, Trigger},
};
use spinor_executors::{Executor, Registry};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use crate::{
    api::{self, ApiState, Info, Pulse, Watches, listen::Listening},
    config::{Config, ResultsChoice},
    orchestrations::{drive::Driver, serve::Served},
    scaling::{GroupState, Program},
};

pub use connect::CannotConnect;

/// From the second signal to the end, when something does not close.
const LAST_MOMENT: Duration = Duration::from_secs(2);

/// The parts of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    /// Answers people and programs.
    pub api: bool,
    /// Runs jobs.
    pub consumer: bool,
    /// Keeps the record.
    pub recorder: bool,
    /// Fires what follows, after a job or at a time.
    pub trigger: bool,
}

impl Parts {
    /// Everything.
    pub const ALL: Self = Self { api: true, consumer: true, recorder: true, trigger: true };

    /// Nothing but jobs.
    pub const CONSUMER: Self = Self { api: false, consumer: true, recorder: false, trigger: false };

    /// Does one of them need the record from the start?
    const fn need_the_record(self) -> bool {
        self.api || self.recorder || self.trigger
    }

    /// Their names.
    pub fn names(self) -> Vec<String> {
        [("api", self.api), ("consumer", self.consumer), ("recorder", self.recorder), ("trigger", self.trigger)]
            .into_iter()
            .filter(|(_, runs)| *runs)
            .map(|(name, _)| name.to_owned())
            .collect()
    }
}

/// What one process is asked to be, besides its configuration.
#[derive(Clone, Debug)]
pub struct Role {
    /// Its parts.
    pub parts: Parts,
    /// The nodes it is; each is a consumer of its own, on the queue `node.<name>`.
    pub nodes: Vec<String>,
    /// Are jobs of the configured queues consumed, besides the nodes' plans?
    pub jobs: bool,
    /// Where a record that is a file lies, when that is not the data directory.
    pub record: Option<PathBuf>,
    /// Does it see that its group has as many consumers as it shall? Then with what a consumer in a
    /// process of its own is started.
    pub supervises: Option<Program>,
    /// What a program that is not `spinor` brings along; its consumers serve these kinds, too.
    pub own: Option<Own>,
}

/// What a program brings along that has the parts as a library.
#[derive(Clone, Default)]
pub struct Own {
    /// Its executors, by kind.
    pub executors: Vec<(String, Arc<dyn Executor>)>,
    /// The `spinor` that ends its jobs' processes if it dies; without one nobody does.
    pub guardian: Option<PathBuf>,
}

impl fmt::Debug for Own {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds: Vec<&String> = self.executors.iter().map(|(kind, _)| kind).collect();
        to.debug_struct("Own").field("kinds", &kinds).field("guardian", &self.guardian).finish()
    }
}

/// The store of state that a configuration names, opened; it must answer now.
pub async fn state_of(config: &Config, stop: &CancellationToken) -> anyhow::Result<State> {
    api::listen::make_directory(&config.data)?;
    let cell = connect::state(config, &config.data, stop).await?;
    cell.get().cloned().context("the store of state does not answer")
}

/// The record alone, for who fills it while no process has the directory.
pub async fn results_of(config: &Config) -> anyhow::Result<Results> {
    api::listen::make_directory(&config.data)?;
    Ok(connect::results(config, &config.data, &CancellationToken::new()).await?)
}

/// Everything opened and connected, nothing running yet.
pub struct App {
    config: Arc<Config>,
    role: Role,
    broker: AnyBroker,
    /// Open from the start where somebody writes it or answers from it; a process that only
    /// consumes does without it while it does not answer.
    record: Record,
    blobs: Blobs,
    state: StateCell,
    search: Option<SearchSettings>,
    consumers: Vec<(Arc<ConsumerSettings>, Arc<Registry>)>,
    listening: Option<Listening>,
    /// Replicas that did not end in good order.
    badly: Arc<AtomicUsize>,
}

impl App {
    /// Opens and connects. What can only be wrong for good is an error; a server that does not
    /// answer yet is waited for, with one log line, until `stop`.
    pub async fn build(config: Arc<Config>, role: Role, stop: &CancellationToken) -> anyhow::Result<Self> {
        spinor_consumers::install_tls_provider();
        api::listen::make_directory(&config.data)?;
        // Sockets before anything starts: a clash is a start-up error.
        let listening = if role.parts.api { Some(api::listen::bind(&config).await?) } else { None };
        let broker = connect::broker(&config, stop).await?;
        // Who publishes needs the work queues, who records the reports': neither waits for a consumer.
        if role.parts.need_the_record() {
            connect::queues(&config, &broker, stop).await?;
        }
        let record = if role.parts.need_the_record() {
            Record::new(OnceLock::from(
                connect::results(&config, role.record.as_deref().unwrap_or(&config.data), stop).await?,
            ))
        } else {
            connect::record(&config, stop).await?
        };
        let blobs = connect::blobs(&config, &record, stop).await?;
        let kept = role.record.as_deref().unwrap_or(&config.data);
        let state = connect::state(&config, kept, stop).await?;
        let search = connect::search(&config);
        let consumers = if role.parts.consumer { consumers::of(&config, &role)? } else { Vec::new() };
        if role.parts.consumer {
            consumers::start_guardian(&role).context("cannot start the guardian process")?;
        }
        let badly = Arc::default();
        Ok(Self { config, role, broker, record, blobs, state, search, consumers, listening, badly })
    }

    /// The broker, for who publishes in this process.
    pub fn broker(&self) -> AnyBroker {
        self.broker.clone()
    }

    /// The record; an error only in a process that consumes and nothing else, while it does not answer.
    pub fn results(&self) -> anyhow::Result<Results> {
        self.record.get().cloned().context("the results database does not answer")
    }

    /// Where large args and values lie, for who publishes in this process.
    pub fn blobs(&self) -> Blobs {
        self.blobs.clone()
    }

    /// What people can reach it by.
    pub fn addresses(&self) -> Vec<String> {
        self.listening.as_ref().map(Listening::addresses).unwrap_or_default()
    }

    /// Runs every part until `shutdown` drains it; then stops them in turn: consumers, trigger, recorder
    /// (once it has what they reported), API, broker. Told to end at once it does, with an error.
    pub async fn run(mut self, shutdown: Shutdown) -> anyhow::Result<()> {
        let stop_recording = CancellationToken::new();
        let stop_serving = CancellationToken::new();
        let failed = CancellationToken::new();
        self.forget_the_dead().await;
        // Nobody waits for who follows the marks: it ends with the API.
        let following = TaskTracker::new();
        let marks = Marks::follow(self.broker.clone(), Arc::clone(&self.state), &following, stop_serving.clone());
        let schemas = Arc::new(api::Schemas::new(Arc::clone(&marks), Arc::clone(&self.state)));
        let (recording, recorder) = self.start_recording(&schemas, &stop_recording, &failed)?;
        let agreed = Agreed { state: Arc::clone(&self.state), marks };
        let stop_firing = CancellationToken::new();
        let firing = self.start_firing(&agreed.marks, &stop_firing, &failed)?;
        let consuming = self.start_consuming(&agreed, &shutdown, &failed);
        let groups = self.start_scaling(&agreed, &shutdown, &failed, &consuming);
        consuming.close();
        let listening = self.listening.take();
        let serving = self.start_serving(recorder, listening, (agreed.marks, schemas), groups, &stop_serving);
        tokio::select! {
            () = shutdown.drain.cancelled() => {}
            // A part that cannot go on ends the process: it would look alive and do nothing.
            () = failed.cancelled() => shutdown.drain.cancel(),
            // Nothing else is here, and all consumers were told to drain.
            () = consuming.wait(), if self.role.parts == Parts::CONSUMER => shutdown.drain.cancel(),
        }
        let in_turn = async {
            consuming.wait().await;
            // It reports runs, and is told by consumers what ended.
            stop_firing.cancel();
            within(Duration::from_secs(6), &firing).await;
            stop_recording.cancel();
            within(Duration::from_secs(10), &recording).await;
            stop_serving.cancel();
            within(Duration::from_secs(6), &serving).await;
            self.broker.close().await
        };
        let unanswered = tokio::select! {
            unanswered = in_turn => unanswered,
            () = at_once(&shutdown) => {
                tracing::warn!("Ended before everything was closed; the broker takes back what was in hand.");
                0
            }
        };
        // Told twice to stop, it may leave jobs behind: then the guardian ends them.
        anyhow::ensure!(!shutdown.now.is_cancelled(), "ended at once; what ran goes back to its queue");
        spinor_executors::guardian::Guardian::dismiss();
        anyhow::ensure!(
            unanswered == 0,
            "the broker did not confirm how {unanswered} jobs ended; it still has them and hands them out again, nothing is lost"
        );
        let badly = self.badly.load(Ordering::Relaxed);
        anyhow::ensure!(
            badly == 0,
            "{badly} replicas did not end in good order; their own lines say why, nothing is lost"
        );
        anyhow::ensure!(!failed.is_cancelled(), "a part could not go on; the log says which and why");
        Ok(())
    }

    /// The owner of the embedded broker is the only process with its consumers: what others left behind
    /// ended with them, and must not count as running.
    async fn forget_the_dead(&self) {
        let Some(state) = self.state.get().filter(|_| !self.config.is_remote() && self.role.record.is_none()) else {
            return;
        };
        // A store that does not answer now forgets them by itself, a minute after their last beat.
        for present in state.consumers().await.unwrap_or_default() {
            if present.beat.pid != std::process::id() {
                let _ = state.leave(&present.beat.consumer).await;
            }
        }
    }

    fn start_recording(
        &self,
        schemas: &Arc<api::Schemas>,
        stop: &CancellationToken,
        failed: &CancellationToken,
    ) -> anyhow::Result<(TaskTracker, Option<RecorderView>)> {
        let tracker = TaskTracker::new();
        let mut view = None;
        if self.role.parts.recorder {
            // First: what is recorded is held against it.
            notices::start(&self.config, &self.results()?, &self.state, &tracker, stop);
            let settings = RecorderSettings { batch: self.config.recorder.batch, ..RecorderSettings::default() };
            let recorder = Recorder::new(self.broker.clone(), self.results()?, settings);
            view = Some(recorder.view());
            let (until, failed) = (stop.clone(), failed.clone());
            tracker.spawn(async move {
                if let Err(error) = recorder.run(until).await {
                    tracing::error!(%error, "The recorder stopped; reports wait in their queue.");
                    failed.cancel();
                }
            });
            let replays = Replays::new(self.broker.clone(), self.results()?, Arc::clone(&self.state));
            tracker.spawn(replays.run(stop.clone()));
            tracker.spawn(keep_state_small(Arc::clone(&self.state), stop.clone()));
            tracker.spawn(self.retention()?.run(stop.clone()));
            let (state, broker) = (Arc::clone(&self.state), self.broker.clone());
            tracker.spawn(marks::clear_now_and_then(state, self.results()?, broker, stop.clone()));
            self.start_relaying(schemas, &tracker, stop);
            if let Some(settings) = &self.search {
                self.start_search(settings.clone(), schemas, &tracker, stop)?;
            }
        }
        tracker.close();
        Ok((tracker, view))
    }

    /// Beside the recorder, which knows nothing of it: what other programs commit into an outbox becomes jobs.
    fn start_relaying(&self, schemas: &Arc<api::Schemas>, tracker: &TaskTracker, stop: &CancellationToken) {
        // A run of plans in a process of its own may have queues that end with it.
        if !self.role.jobs {
            return;
        }
        for settings in outbox::settings(&self.config) {
            let (config, schemas) = (Arc::clone(&self.config), Arc::clone(schemas));
            let reader = Arc::new(outbox::FromRows { config, schemas });
            let (broker, blobs, state) = (self.broker.clone(), self.blobs.clone(), Arc::clone(&self.state));
            tracker.spawn(Relay::new(broker, blobs, state, reader, settings).run(stop.clone()));
        }
    }

    fn start_firing(
        &self,
        marks: &Arc<Marks>,
        stop: &CancellationToken,
        failed: &CancellationToken,
    ) -> anyhow::Result<TaskTracker> {
        let tracker = TaskTracker::new();
        if self.role.parts.trigger {
            let trigger = Trigger::new(self.broker.clone(), self.results()?, self.blobs.clone(), Arc::clone(marks));
            let (until, failed) = (stop.clone(), failed.clone());
            tracker.spawn(async move {
                if let Err(error) = trigger.run(until).await {
                    tracing::error!(%error, "The part `trigger` stopped; what follows waits in its queue.");
                    failed.cancel();
                }
            });
            let triggers = self.config.triggers.iter();
            let given = triggers.map(|(name, spec)| Given { name: name.clone(), spec: spec.clone() }).collect();
            let who = format!("{}:{}", consumers::host(), std::process::id());
            // Nobody else has the directory with both.
            let alone = !self.config.is_remote() && self.config.results == ResultsChoice::Sqlite;
            let owner = Uuid::now_v7();
            let state = Arc::clone(&self.state);
            let delays = Delays::new(self.broker.clone(), self.results()?, state, owner, &who);
            tracker.spawn(delays.run(stop.clone()));
            let lead = Lead { owner, who, alone };
            let file = (given, self.config.written.0);
            let ticker = Ticker::new(self.broker.clone(), self.results()?, self.blobs.clone(), lead, file);
            tracker.spawn(ticker.run(stop.clone()));
        }
        tracker.close();
        Ok(tracker)
    }

    /// Keeps the record small; several processes take turns.
    fn retention(&self) -> anyhow::Result<Retention> {
        Ok(Retention {
            results: self.results()?,
            blobs: self.blobs.clone(),
            state: Arc::clone(&self.state),
            search: self.search.as_ref().map(SearchIndex::new).transpose()?,
            keep: self.config.keep.all().to_vec(),
            keep_audit: self.config.keep.audit,
            every: Duration::from_secs(300),
        })
    }

    /// Beside the recorder and in nobody's way: neither waits for the other.
    fn start_search(
        &self,
        settings: SearchSettings,
        schemas: &api::Schemas,
        tracker: &TaskTracker,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        let search = Search::new(self.broker.clone(), settings, self.results()?)?;
        let search = search.hiding(Arc::clone(schemas.hidden()));
        let stop = stop.clone();
        tracker.spawn(async move {
            if let Err(error) = search.run(stop).await {
                tracing::error!(%error, "The search index is no longer fed; it is filled from SQL at the next start.");
            }
        });
        Ok(())
    }

    fn start_consuming(&self, agreed: &Agreed, shutdown: &Shutdown, failed: &CancellationToken) -> TaskTracker {
        let tracker = TaskTracker::new();
        for (settings, registry) in &self.consumers {
            if self.is_scaled(settings) {
                continue;
            }
            let consumer =
                consumers::start(&self.config, settings, registry, &self.broker, &self.record, &self.blobs, agreed);
            let (shutdown, failed) = (shutdown.clone(), failed.clone());
            tracker.spawn(async move {
                if let Err(error) = consumer.run(shutdown).await {
                    tracing::error!(%error, "A consumer could not start.");
                    failed.cancel();
                }
            });
        }
        tracker
    }

    fn start_serving(
        &self,
        recorder: Option<RecorderView>,
        listening: Option<Listening>,
        (marks, schemas): (Arc<Marks>, Arc<api::Schemas>),
        groups: Option<watch::Receiver<GroupState>>,
        stop: &CancellationToken,
    ) -> TaskTracker {
        let tracker = TaskTracker::new();
        if let (Some(listening), Some(results)) = (listening, self.record.get()) {
            let broker = &self.broker;
            let driver = Driver::new(broker.clone(), results.clone(), Vec::new()).with_blobs(self.blobs.clone());
            let state = ApiState {
                broker: broker.clone(),
                results: results.clone(),
                blobs: self.blobs.clone(),
                state: Arc::clone(&self.state),
                schemas,
                marks,
                groups,
                recorder,
                runs: Arc::new(Served::new(driver, tracker.clone())),
                watches: Watches::start(broker.clone(), &tracker, stop.clone()),
                pulse: Pulse::default(),
                config: Arc::clone(&self.config),
                access: Arc::new(api::Access::new(results.clone())),
                audit: Arc::new(api::Spool::new(&self.config.data)),
                info: Arc::new(Info::here(self.role.parts.names())),
                counters: Arc::default(),
                tasks: tracker.clone(),
                shutdown: stop.clone(),
            };
            tracker.spawn(async move {
                if let Err(error) = listening.serve(state).await {
                    tracing::error!(%error, "The API stopped.");
                }
            });
        }
        tracker.close();
        tracker
    }
}

/// Retention of state is the recorder's process's, as that of the record.
async fn keep_state_small(state: StateCell, stop: CancellationToken) {
    const PAUSE: Duration = Duration::from_secs(10);
    while stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_some() {
        let Some(state) = state.get() else { continue };
        // One that does not answer is asked again after the pause; who needs it says so.
        while !stop.is_cancelled() && state.prune().await.is_ok_and(|gone| gone > 0) {}
    }
}

/// Told to end at once, the parts get a last moment to hand back what they have.
async fn at_once(shutdown: &Shutdown) {
    shutdown.now.cancelled().await;
    tokio::time::sleep(LAST_MOMENT).await;
}

async fn within(bound: Duration, tracker: &TaskTracker) {
    if tokio::time::timeout(bound, tracker.wait()).await.is_err() {
        tracing::warn!("A part did not stop in time and is left behind; nothing accepted is lost.");
    }
}
