//! Declaring our objects, on throw-away channels, and explaining what does not fit.
//!
//! Refuses to change or delete anything that exists, and to declare a queue of somebody else's.

use std::{future::Future, sync::Arc, time::Duration};

use lapin::{
    Channel, Connection, ErrorKind, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    protocol::{AMQPErrorKind, AMQPSoftError},
    types::{FieldTable, ShortString},
};
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::{
    names::{self, Names},
    wanted::{self, Wanted},
};
use crate::broker::{BrokerError, PriorityLane, QueueSpec, QueueStats};

/// Every round of declares ends within this.
const PATIENCE: Duration = Duration::from_secs(30);
/// No answer about a queue is waited for longer.
const LOOK: Duration = Duration::from_secs(10);
/// RabbitMQ 3.10 writes down the name of a new quorum queue a moment late. Killed before that it
/// forgets all that the queue had confirmed; no loss was seen from one second on.
const WRITTEN_DOWN: Duration = Duration::from_millis(1500);

/// What an installation has on the server, by one connection.
#[derive(Clone)]
pub struct Topology {
    /// The connection.
    pub connection: Arc<Connection>,
    /// What things are called.
    pub names: Names,
    /// What is asked runs here.
    pub tasks: TaskTracker,
}

impl Topology {
    /// Declares everything an installation needs, and the work queues.
    pub async fn ensure(&self, search: bool, queues: &[QueueSpec]) -> Result<(), BrokerError> {
        let (mut work, names, queues) = (self.declarer(), self.names.clone(), queues.to_vec());
        self.declared(async move { work.all(&names, search, &queues).await }).await
    }

    /// Declares a reply queue if there is none: durable, gone when nobody used it for an hour.
    pub async fn ensure_reply(&self, full: &str) -> Result<(), BrokerError> {
        self.ensure_plain(full.to_owned(), names::replying()).await
    }

    /// Declares where those who take from a queue with lanes are counted.
    pub async fn ensure_takers(&self, queue: &str) -> Result<(), BrokerError> {
        self.ensure_plain(self.names.takers(queue), names::counting()).await
    }

    /// Declares a consumer's queue of what it holds, which is used at once: it waits until the queue survives
    /// the death of the server.
    pub async fn ensure_held(&self, holder: Uuid) -> Result<(), BrokerError> {
        let (mut work, names, full) = (self.declarer(), self.names.clone(), self.names.held(holder));
        self.declared(async move {
            work.declare(&full, Object::Queue(names::held(&names.back()))).await?;
            work.bind_by(&full, &names.holding(), "", names::of_holder(holder)).await
        })
        .await?;
        sleep(WRITTEN_DOWN).await;
        Ok(())
    }

    /// Declares a lane of a work queue, by its short name, with its way home.
    pub async fn ensure_lane(&self, name: &str) -> Result<(), BrokerError> {
        self.ensure_takers(PriorityLane::split(name).0).await?;
        let (mut work, back, full) = (self.declarer(), self.names.back(), self.names.work(name));
        self.declared(async move {
            work.declare(&full, Object::Queue(names::durable())).await?;
            work.bind(&full, &back, &full).await
        })
        .await
    }

    /// What stands in the place of each object that an installation wants.
    pub async fn seen(&self, search: bool, queues: &[QueueSpec]) -> Result<Vec<(Wanted, Seen)>, BrokerError> {
        let (mut work, all) = (self.declarer(), wanted::of(&self.names, search, queues));
        let looked = self.within(PATIENCE, async move {
            let mut seen = Vec::with_capacity(all.len());
            for wanted in all {
                let found = work.seen(&wanted).await?;
                seen.push((wanted, found));
            }
            Ok(seen)
        });
        looked.await.unwrap_or_else(|| Err(BrokerError::Unreachable("looking at our objects took too long".to_owned())))
    }

    /// A queue's figures by its full name; none when it does not exist.
    pub async fn look(&self, full: &str) -> Result<Option<QueueStats>, BrokerError> {
        let (connection, full) = (Arc::clone(&self.connection), full.to_owned());
        let no_answer = format!("no answer about `{full}`");
        self.within(LOOK, async move { look(&connection, &full).await })
            .await
            .unwrap_or(Err(BrokerError::Unreachable(no_answer)))
    }

    async fn ensure_plain(&self, full: String, arguments: FieldTable) -> Result<(), BrokerError> {
        if self.look(&full).await?.is_some() {
            return Ok(());
        }
        let mut work = self.declarer();
        self.declared(async move { work.declare(&full, Object::Queue(arguments)).await }).await
    }

    fn declarer(&self) -> Declarer {
        Declarer { connection: Arc::clone(&self.connection), channel: None }
    }

    async fn declared(
        &self,
        declares: impl Future<Output = Result<(), BrokerError>> + Send + 'static,
    ) -> Result<(), BrokerError> {
        let too_long = || Err(BrokerError::Unreachable("declaring took too long".to_owned()));
        self.within(PATIENCE, declares).await.unwrap_or_else(too_long)
    }

    /// Waits only so long; what was asked goes on until its answer, or the connection's end. Broken off,
    /// its channel would be closed by us while the server, which has no such queue, closes it too, and
    /// over that the client ends the whole connection.
    async fn within<T: Send + 'static>(
        &self,
        patience: Duration,
        ask: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        timeout(patience, self.tasks.spawn(ask)).await.ok()?.ok()
    }
}

async fn look(connection: &Connection, full: &str) -> Result<Option<QueueStats>, BrokerError> {
    let asked = async {
        let channel = connection.create_channel().await?;
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(name(full)?, options, FieldTable::default()).await
    };
    match asked.await {
        Ok(queue) => Ok(Some(QueueStats {
            name: full.to_owned(),
            ready: queue.message_count().into(),
            consumers: queue.consumer_count().into(),
            ..QueueStats::default()
        })),
        Err(error) if soft(&error) == Some(AMQPSoftError::NOTFOUND) => Ok(None),
        // A queue that only its owner may look at is there.
        Err(error) if soft(&error) == Some(AMQPSoftError::RESOURCELOCKED) => {
            Ok(Some(QueueStats { name: full.to_owned(), ..QueueStats::default() }))
        }
        Err(error) => Err(away(&error)),
    }
}

/// The kind of a channel error.
pub fn soft(error: &lapin::Error) -> Option<AMQPSoftError> {
    match error.kind() {
        ErrorKind::ProtocolError(amqp) => match amqp.kind() {
            AMQPErrorKind::Soft(soft) => Some(soft.clone()),
            AMQPErrorKind::Hard(_) => None,
        },
        _ => None,
    }
}

fn name(full: &str) -> lapin::Result<ShortString> {
    ShortString::try_new(full).map_err(|error| std::io::Error::other(error).into())
}

/// What stands in the place of a wanted object.
pub enum Seen {
    /// It is as it is wanted; a queue with its figures.
    There(Option<QueueStats>),
    /// There is none.
    Missing,
    /// It has other arguments; in plain words, with its figures.
    Differs(String, Option<QueueStats>),
    /// It cannot be told; why, where something said so.
    Unknown(Option<String>),
}

/// What the refusal of a declare tells of what exists.
fn unlike(error: &lapin::Error, full: &str, found: Option<QueueStats>) -> Result<Seen, BrokerError> {
    match (soft(error), explain(error, full)) {
        (Some(AMQPSoftError::PRECONDITIONFAILED), BrokerError::Misconfigured(why)) => Ok(Seen::Differs(why, found)),
        (_, BrokerError::Misconfigured(why)) => Ok(Seen::Unknown(Some(why))),
        (_, other) => Err(other),
    }
}

/// What is declared.
enum Object {
    Queue(FieldTable),
    Exchange(ExchangeKind, FieldTable),
}

struct Declarer {
    connection: Arc<Connection>,
    channel: Option<Channel>,
}

impl Declarer {
    async fn all(&mut self, names: &Names, search: bool, queues: &[QueueSpec]) -> Result<(), BrokerError> {
        for wanted in wanted::of(names, search, queues) {
            match wanted {
                Wanted::Queue(full, arguments) => self.declare(&full, Object::Queue(arguments)).await?,
                Wanted::Exchange(full, kind, arguments) => {
                    self.declare(&full, Object::Exchange(kind, arguments)).await?;
                }
                Wanted::Binding { queue, exchange, key } => self.bind(&queue, &exchange, &key).await?,
                Wanted::Theirs(full) => {
                    if look(&self.connection, &full).await?.is_none() {
                        return Err(BrokerError::Absent(format!(
                            "the queue `{full}` is declared as somebody else's (foreign), and it does not exist"
                        )));
                    }
                }
            }
        }
        Ok(())
    }

    /// What is there in the place of one wanted object. Changes nothing on what exists.
    async fn seen(&mut self, wanted: &Wanted) -> Result<Seen, BrokerError> {
        let (full, object) = match wanted {
            Wanted::Binding { .. } => return Ok(Seen::Unknown(None)),
            Wanted::Theirs(full) => {
                return Ok(look(&self.connection, full).await?.map_or(Seen::Missing, |found| Seen::There(Some(found))));
            }
            Wanted::Queue(full, arguments) => (full, Object::Queue(arguments.clone())),
            Wanted::Exchange(full, kind, arguments) => (full, Object::Exchange(kind.clone(), arguments.clone())),
        };
        let channel = self.channel().await?;
        match self.send(&channel, full, &object, true).await {
            Ok(()) => {}
            Err(error) if soft(&error) == Some(AMQPSoftError::NOTFOUND) => return Ok(Seen::Missing),
            // An exchange of another type is refused even so.
            Err(error) => return unlike(&error, full, None),
        }
        let found = if let Object::Queue(_) = object { look(&self.connection, full).await? } else { None };
        let channel = self.channel().await?;
        match self.send(&channel, full, &object, false).await {
            Ok(()) => Ok(Seen::There(found)),
            Err(error) => unlike(&error, full, found),
        }
    }

    /// A channel that may break.
    async fn channel(&mut self) -> Result<Channel, BrokerError> {
        if let Some(channel) = self.channel.as_ref().filter(|channel| channel.status().connected()) {
            return Ok(channel.clone());
        }
        let channel = self.connection.create_channel().await.map_err(|error| away(&error))?;
        self.channel = Some(channel.clone());
        Ok(channel)
    }

    async fn declare(&mut self, full: &str, object: Object) -> Result<(), BrokerError> {
        let channel = self.channel().await?;
        // Passive first: what exists needs no right to configure, unless it differs.
        let exists = match self.send(&channel, full, &object, true).await {
            Ok(()) => true,
            Err(error) if soft(&error) == Some(AMQPSoftError::NOTFOUND) => false,
            Err(error) => return Err(explain(&error, full)),
        };
        let channel = self.channel().await?;
        match self.send(&channel, full, &object, false).await {
            Err(error) if exists && soft(&error) == Some(AMQPSoftError::ACCESSREFUSED) => Ok(()),
            Err(error) => Err(explain(&error, full)),
            Ok(()) => Ok(()),
        }
    }

    async fn send(&self, channel: &Channel, full: &str, object: &Object, passive: bool) -> lapin::Result<()> {
        match object {
            Object::Queue(arguments) => {
                let options = QueueDeclareOptions { passive, durable: true, ..QueueDeclareOptions::default() };
                channel.queue_declare(name(full)?, options, arguments.clone()).await.map(|_| ())
            }
            Object::Exchange(kind, arguments) => {
                let options = ExchangeDeclareOptions { passive, durable: true, ..ExchangeDeclareOptions::default() };
                channel.exchange_declare(name(full)?, kind.clone(), options, arguments.clone()).await
            }
        }
    }

    async fn bind(&mut self, queue: &str, exchange: &str, key: &str) -> Result<(), BrokerError> {
        self.bind_by(queue, exchange, key, FieldTable::default()).await
    }

    async fn bind_by(&mut self, queue: &str, exchange: &str, key: &str, by: FieldTable) -> Result<(), BrokerError> {
        let channel = self.channel().await?;
        let key = name(key).map_err(|error| away(&error))?;
        let (queue_name, exchange) =
            (name(queue).map_err(|error| away(&error))?, name(exchange).map_err(|error| away(&error))?);
        channel
            .queue_bind(queue_name, exchange, key, QueueBindOptions::default(), by)
            .await
            .map_err(|error| explain(&error, queue))
    }
}

fn away(error: &lapin::Error) -> BrokerError {
    BrokerError::Unreachable(error.to_string())
}

/// What a refused declare means to a person.
fn explain(error: &lapin::Error, full: &str) -> BrokerError {
    let ErrorKind::ProtocolError(amqp) = error.kind() else {
        return BrokerError::Unreachable(error.to_string());
    };
    let text = amqp.get_message().to_string();
    BrokerError::Misconfigured(match soft(error) {
        Some(AMQPSoftError::PRECONDITIONFAILED) => mismatch(&text, full),
        Some(AMQPSoftError::ACCESSREFUSED) => format!(
            "this user may not declare `{full}` ({text}); give it the right to configure, or declare the object yourself"
        ),
        Some(AMQPSoftError::RESOURCELOCKED) => {
            format!("`{full}` is the exclusive queue of another connection ({text})")
        }
        _ => return BrokerError::Unreachable(error.to_string()),
    })
}

/// "inequivalent arg 'A' for queue 'Q' in vhost 'V': received X but current is Y", in plain words.
fn mismatch(text: &str, full: &str) -> String {
    let parts = text.split_once("inequivalent arg '").and_then(|(_, tail)| {
        let (argument, tail) = tail.split_once('\'')?;
        let (received, current) = tail.split_once("received ")?.1.split_once(" but current is ")?;
        Some((argument, received, current))
    });
    let advice = "nothing was changed: move its messages away and delete it, or choose another prefix or queue name";
    match parts {
        Some((argument, received, current)) => format!(
            "`{full}` exists with other arguments: `{argument}` is {current}, and Spinor needs {received}; {advice}"
        ),
        None => format!("`{full}` exists with other arguments ({text}); {advice}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mismatch_names_the_argument_and_both_values() {
        let text = "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'spinor.jobs.a' in vhost '/': \
                    received 'quorum' but current is 'classic'";
        let said = mismatch(text, "spinor.jobs.a");
        for part in ["`spinor.jobs.a`", "`x-queue-type`", "is 'classic'", "needs 'quorum'", "delete it"] {
            assert!(said.contains(part), "{said}");
        }
        assert!(mismatch("something new", "q").contains("something new"));
    }
}
