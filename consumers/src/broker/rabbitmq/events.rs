//! Lossy events over a topic exchange, on a connection of their own.
//!
//! A publish on a blocked connection hangs, so casting only fills a bounded queue; what does not
//! fit is dropped and counted. Keys say job and run, so that a listener's topic is a binding and
//! the broker sends it nothing else. Several events of one key travel as lines of one message.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt, StreamExt};
use lapin::{
    BasicProperties, Channel, Connection, Consumer,
    options::{BasicConsumeOptions, BasicPublishOptions, QueueBindOptions, QueueDeclareOptions},
    types::FieldTable,
};
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    connection::{State, jitter},
    names,
};
use crate::broker::{Event, Topic};

/// Events that wait to be sent; the oldest go.
const RING: usize = 4096;
/// Events that wait for a slow listener; the oldest go.
const BACKLOG: usize = 1024;
/// A batch that is not written within this is given up.
const PATIENCE: Duration = Duration::from_secs(5);

/// The key of an event.
fn key(event: &Event) -> String {
    match event.subject() {
        (Some(job), Some(run)) => format!("run.{run}.{job}"),
        (Some(job), None) => format!("job.{job}"),
        (None, _) => match event {
            Event::Watch { .. } => "watches".to_owned(),
            Event::Watched { .. } | Event::Recorded { .. } => "recorded".to_owned(),
            _ => "control".to_owned(),
        },
    }
}

/// The bindings that bring a topic.
fn bindings(topic: &Topic) -> Vec<String> {
    match topic {
        Topic::All => vec!["job.#".to_owned(), "run.#".to_owned()],
        Topic::Job(job) => vec![format!("job.{job}"), format!("run.*.{job}")],
        Topic::Run(run) => vec![format!("run.{run}.*")],
        Topic::Control => vec!["control".to_owned()],
        Topic::Watches => vec!["watches".to_owned()],
        Topic::Recorded => vec!["recorded".to_owned()],
    }
}

/// What is cast and not sent yet.
#[derive(Default)]
pub struct Ring {
    waiting: Mutex<VecDeque<Event>>,
    filled: Notify,
    dropped: AtomicU64,
}

impl Ring {
    fn waiting(&self) -> MutexGuard<'_, VecDeque<Event>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an event; the oldest makes room.
    pub fn push(&self, event: Event) {
        let mut waiting = self.waiting();
        if waiting.len() == RING {
            waiting.pop_front();
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        waiting.push_back(event);
        drop(waiting);
        self.filled.notify_one();
    }

    /// How many were dropped so far.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    async fn take(&self) -> Vec<Event> {
        loop {
            let taken: Vec<Event> = {
                let mut waiting = self.waiting();
                let count = waiting.len().min(512);
                waiting.drain(..count).collect()
            };
            if !taken.is_empty() {
                return taken;
            }
            self.filled.notified().await;
        }
    }
}

/// Sends what is cast.
pub struct Caster {
    /// The events' own connection.
    pub state: watch::Receiver<State>,
    /// The exchange.
    pub exchange: String,
    /// What is to be sent.
    pub ring: Arc<Ring>,
    /// Ends it.
    pub stop: CancellationToken,
}

impl Caster {
    /// Runs until the broker is closed.
    pub async fn run(self) {
        let mut channel: Option<Channel> = None;
        loop {
            let batch = tokio::select! {
                batch = self.ring.take() => batch,
                () = self.stop.cancelled() => return,
            };
            let sent = self.stop.run_until_cancelled(timeout(PATIENCE, self.send(&mut channel, &batch))).await;
            if !matches!(sent, Some(Ok(Ok(())))) {
                channel = None;
                let lost = u64::try_from(batch.len()).unwrap_or(u64::MAX);
                self.ring.dropped.fetch_add(lost, Ordering::Relaxed);
            }
        }
    }

    async fn send(&self, channel: &mut Option<Channel>, batch: &[Event]) -> Result<(), String> {
        let connection = match &*self.state.borrow() {
            State::Up(connection) => Arc::clone(connection),
            _ => return Err("no link".to_owned()),
        };
        let open = match channel.take().filter(|channel| channel.status().connected()) {
            Some(open) => open,
            None => connection.create_channel().await.map_err(|error| error.to_string())?,
        };
        let mut keyed: Vec<(String, Vec<u8>)> = Vec::new();
        for event in batch {
            let key = key(event);
            if keyed.last().is_none_or(|(last, _)| *last != key) {
                keyed.push((key, Vec::new()));
            }
            if let Some((_, lines)) = keyed.last_mut()
                && serde_json::to_writer(&mut *lines, event).is_ok()
            {
                lines.push(b'\n');
            }
        }
        let mut writing = Vec::new();
        for (key, lines) in &keyed {
            let mut one = Box::pin(self.one(&open, key, lines));
            // All are queued first; once the last is written, all are.
            match one.as_mut().now_or_never() {
                None => writing.push(one),
                Some(Ok(())) => {}
                Some(Err(error)) => return Err(error.to_string()),
            }
        }
        if let Some(last) = writing.pop() {
            last.await.map_err(|error| error.to_string())?;
        }
        drop(writing);
        *channel = Some(open);
        Ok(())
    }

    async fn one(&self, channel: &Channel, key: &str, lines: &[u8]) -> lapin::Result<()> {
        let properties = BasicProperties::default().with_delivery_mode(1);
        let options = BasicPublishOptions::default();
        channel.basic_publish(self.exchange.as_str().into(), key.into(), options, lines, properties).await.map(|_| ())
    }
}

/// One listener.
pub struct Listener {
    /// The events' own connection.
    pub state: watch::Receiver<State>,
    /// The exchange.
    pub exchange: String,
    /// What it wants to hear.
    pub topic: Topic,
    /// To whom.
    pub out: mpsc::Sender<Event>,
    /// Told once it hears.
    pub ready: Option<oneshot::Sender<()>>,
    /// Ends it.
    pub stop: CancellationToken,
}

impl Listener {
    /// Listens, again after each loss, until nobody wants to hear or the broker is closed.
    pub async fn run(mut self) {
        loop {
            let connection = tokio::select! {
                found = connected(&mut self.state) => found,
                () = self.out.closed() => return,
                () = self.stop.cancelled() => return,
            };
            let Some(connection) = connection else { return };
            if let Ok(consumer) = self.subscribe(&connection).await {
                if let Some(ready) = self.ready.take() {
                    let _ = ready.send(());
                }
                if !self.relay(consumer).await {
                    return;
                }
            }
            tokio::time::sleep(jitter(Duration::from_secs(1))).await;
        }
    }

    async fn subscribe(&self, connection: &Connection) -> lapin::Result<Consumer> {
        let channel = connection.create_channel().await?;
        let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
        // Named by us, so that rights on our prefix are all that a user of the broker needs.
        let name = format!("{}.{}", self.exchange, Uuid::now_v7().simple());
        let queue = channel.queue_declare(name.into(), options, names::listening()).await?;
        for key in bindings(&self.topic) {
            let exchange = self.exchange.as_str().into();
            let options = QueueBindOptions::default();
            channel.queue_bind(queue.name().clone(), exchange, key.into(), options, FieldTable::default()).await?;
        }
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        channel.basic_consume(queue.name().clone(), "".into(), options, FieldTable::default()).await
    }

    /// Passes events on; false when nobody wants them any more.
    async fn relay(&self, mut consumer: Consumer) -> bool {
        let mut backlog = VecDeque::new();
        loop {
            tokio::select! {
                next = consumer.next() => {
                    let Some(Ok(delivery)) = next else { return true };
                    for line in delivery.data.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                        // An event of a newer version is nothing to us.
                        let Ok(event) = serde_json::from_slice::<Event>(line) else { continue };
                        if event.matches(&self.topic) {
                            backlog.push_back(event);
                        }
                    }
                }
                permit = self.out.reserve(), if !backlog.is_empty() => {
                    let Ok(permit) = permit else { return false };
                    if let Some(event) = backlog.pop_front() {
                        permit.send(event);
                    }
                }
                () = self.out.closed() => return false,
                () = self.stop.cancelled() => return false,
            }
            while backlog.len() > BACKLOG {
                backlog.pop_front();
            }
        }
    }
}

async fn connected(state: &mut watch::Receiver<State>) -> Option<Arc<Connection>> {
    let state = state.wait_for(|state| !matches!(state, State::Down(_))).await.ok()?;
    state.connection().cloned()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_topics_bindings_match_the_keys_of_its_events() {
        let (job, run) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let started = |run| Event::Started { job, run, attempt: 1, consumer: "c".to_owned() };
        assert_eq!(key(&started(Some(run))), format!("run.{run}.{job}"));
        assert_eq!(bindings(&Topic::Job(job)), [key(&started(None)), format!("run.*.{job}")]);
        assert_eq!(bindings(&Topic::Run(run)), [format!("run.{run}.*")]);
        assert_eq!(bindings(&Topic::Control), [key(&Event::Ping { nonce: job })]);
        assert_eq!(bindings(&Topic::Watches), [key(&Event::Watch { jobs: vec![job] })]);
        for answer in [Event::Watched { jobs: vec![job] }, Event::Recorded { jobs: vec![job] }] {
            assert_eq!(bindings(&Topic::Recorded), [key(&answer)]);
        }
    }
}
