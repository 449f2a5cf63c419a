//! The relay of an outbox: rows that programs commit in a database of theirs become jobs.
//!
//! Owns the order: read in the order of `seq`, publish with the row's id and a claim, then remove what was
//! confirmed; what can never be a job is set aside with its reason. No mark of how far it came is kept, so a row that
//! commits late is found like any other. Refuses to hold a transaction open in a database that is not ours while the
//! broker is waited for: one relay at a time has the lease, and copies are told apart by their claims.

mod table;

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use spinor_executors::Job;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    blobs::{BlobError, Blobs},
    broker::{Address, AnyBroker, Broker as _, Outgoing, PublishError},
    entry::Entry,
    marks::StateCell,
    message,
    planted::{Fault, planted},
};
use table::{Row, Table};

pub use table::{OutboxError, Waiting};

/// At most so many rows are read at once.
const BATCH: u32 = 500;
/// The next look after one that found something, twice as long after each that did not, up to [`IDLE`].
const QUICK: Duration = Duration::from_millis(25);
/// No look is further away than this.
const IDLE: Duration = Duration::from_millis(500);
/// After a look in vain: the database or the broker is away.
const AGAIN: Duration = Duration::from_secs(1);
/// Who relays is the only one for this long after its last look that found something.
const LEASE: Duration = Duration::from_secs(6);
/// And says so this often.
const RENEW: Duration = Duration::from_secs(2);
/// A batch that is under way at the end gets so long.
const LAST_MOMENT: Duration = Duration::from_secs(5);

/// A database with an outbox.
#[derive(Clone, Debug)]
pub enum OutboxTarget {
    /// A file, which is there.
    Sqlite(PathBuf),
    /// `mysql://user:password@host/database`, MySQL 8+ or MariaDB 10.6+.
    MySql(String),
}

/// One outbox.
#[derive(Clone, Debug)]
pub struct OutboxSettings {
    /// Where it is.
    pub target: OutboxTarget,
    /// The name of its table, perhaps with a schema before a dot.
    pub table: String,
    /// Where it is, for people: without a password.
    pub place: String,
    /// The same for every relay of this outbox, and for no other.
    pub lease: String,
}

/// What a row asks for.
#[derive(Clone, Debug)]
pub struct Order {
    /// The job.
    pub job: Job,
    /// Not before this long from now.
    pub delay: Option<Duration>,
    /// Is it recorded as soon as it is queued?
    pub journaled: bool,
}

/// Reads rows as jobs.
pub trait ReadRow: Send + Sync {
    /// The job of a row that was written so long ago, or why it is none and never will be.
    fn read(&self, id: Uuid, job: &[u8], age: Duration) -> Result<Order, String>;
}

/// Looks at an outbox without changing anything.
pub async fn look(settings: &OutboxSettings) -> Result<Waiting, OutboxError> {
    let table = Table::open(settings).await?;
    let waiting = table.waiting().await;
    table.close().await;
    waiting
}

/// The relay of one outbox; any number of processes may have one.
pub struct Relay {
    broker: AnyBroker,
    blobs: Blobs,
    state: StateCell,
    reader: Arc<dyn ReadRow>,
    settings: OutboxSettings,
}

/// Why a turn came to nothing. Each is told once, until it is over.
#[derive(Debug)]
enum Trouble {
    Database(OutboxError),
    Broker(String),
}

/// What is known between two turns.
struct Memory {
    owner: Uuid,
    table: Option<Table>,
    /// The last time the lease was ours.
    leads: Option<Instant>,
    /// What was published or refused, and is still in the table.
    settled: Settled,
    /// So many rows a look; fewer after one that took too long.
    rows: u32,
    pause: Duration,
    told: Option<&'static str>,
}

/// What became of rows.
#[derive(Default)]
struct Settled {
    /// The broker has these jobs: number and id.
    published: Vec<(i64, Vec<u8>)>,
    /// Never to be published: number, id and why.
    refused: Vec<(i64, Vec<u8>, String)>,
}

impl Relay {
    /// Publishes through `broker` what `settings` names.
    pub fn new(
        broker: AnyBroker,
        blobs: Blobs,
        state: StateCell,
        reader: Arc<dyn ReadRow>,
        settings: OutboxSettings,
    ) -> Self {
        Self { broker, blobs, state, reader, settings }
    }

    /// Relays until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        let mut memory = Memory {
            owner: Uuid::now_v7(),
            table: None,
            leads: None,
            settled: Settled::default(),
            rows: BATCH,
            pause: QUICK,
            told: None,
        };
        let end = async {
            stop.cancelled().await;
            sleep(LAST_MOMENT).await;
        };
        tokio::pin!(end);
        while !stop.is_cancelled() {
            let turn = tokio::select! {
                turn = self.turn(&mut memory) => turn,
                () = &mut end => break,
            };
            let pause = self.pause(&mut memory, turn).await;
            tokio::select! {
                () = sleep(pause) => {}
                () = stop.cancelled() => {}
            }
        }
        if let (Some(_), Some(state)) = (memory.leads, self.state.get()) {
            // Otherwise it ends by itself.
            let _ = state.give_up(&self.settings.lease, memory.owner).await;
        }
        if let Some(table) = memory.table {
            table.close().await;
        }
    }

    /// Tells a trouble once, and its end; how long to wait after this turn.
    async fn pause(&self, memory: &mut Memory, turn: Result<Option<usize>, Trouble>) -> Duration {
        let outbox = &self.settings.place;
        let trouble = match turn {
            Ok(found) => {
                if memory.told.take().is_some() {
                    tracing::info!(outbox, "The outbox is relayed again.");
                }
                memory.pause = match found {
                    Some(0) => (memory.pause * 2).min(IDLE),
                    Some(_) => QUICK,
                    None => AGAIN,
                };
                // A full batch has another behind it.
                return if found.is_some_and(|found| found >= memory.rows as usize) {
                    Duration::ZERO
                } else {
                    memory.pause
                };
            }
            Err(trouble) => trouble,
        };
        let (what, why) = match trouble {
            Trouble::Database(error) => {
                // A fresh start finds a file or a server that took the place of the other.
                if let Some(table) = memory.table.take() {
                    table.close().await;
                }
                memory.rows = (memory.rows / 2).max(1);
                (if error.is_for_people() { "wrong" } else { "database" }, error.to_string())
            }
            Trouble::Broker(why) => ("broker", why),
        };
        if memory.told.replace(what) != Some(what) {
            match what {
                "wrong" => tracing::warn!(why, "An outbox cannot be relayed; its rows wait. It is tried again."),
                "database" => tracing::warn!(why, "The database of an outbox does not answer; it is tried again."),
                _ => tracing::warn!(outbox, why, "The rows of an outbox wait: their jobs are not accepted now."),
            }
        }
        AGAIN
    }

    /// Relays one batch; tells how many rows there were, or nothing when another relay has the lease.
    async fn turn(&self, memory: &mut Memory) -> Result<Option<usize>, Trouble> {
        let table = match &mut memory.table {
            Some(table) => table,
            none => none.insert(Table::open(&self.settings).await.map_err(Trouble::Database)?),
        };
        // First, so that a row that cannot be removed is not published again and again.
        remove(table, &mut memory.settled).await?;
        let heads = table.heads(memory.rows).await.map_err(Trouble::Database)?;
        if heads.is_empty() {
            return Ok(Some(0));
        }
        if !self.lead(memory.owner, &mut memory.leads).await {
            return Ok(None);
        }
        let found = heads.len();
        let (rows, too_large) = table.rows(heads, self.blobs.largest()).await.map_err(Trouble::Database)?;
        // A look that took too long asked for fewer rows.
        memory.rows = (memory.rows * 2).min(BATCH);
        memory.settled.refused.extend(too_large);
        let left = self.relay(rows, &mut memory.settled).await;
        remove(table, &mut memory.settled).await?;
        left.map_or(Ok(Some(found)), |why| Err(Trouble::Broker(why)))
    }

    /// Takes the lease or renews it. While nobody says who has it, it is whose it was.
    async fn lead(&self, owner: Uuid, leads: &mut Option<Instant>) -> bool {
        if leads.is_some_and(|since| since.elapsed() < RENEW) {
            return true;
        }
        let Some(state) = self.state.get() else { return leads.is_some() };
        match state.lease(&self.settings.lease, owner, LEASE).await {
            Ok(epoch) => *leads = epoch.map(|_| Instant::now()),
            Err(error) => tracing::debug!(%error, outbox = self.settings.place, "The lease of an outbox is not known."),
        }
        leads.is_some()
    }

    /// Publishes what is a job; tells why some rows are left as they are, if some are.
    async fn relay(&self, rows: Vec<Row>, settled: &mut Settled) -> Option<String> {
        let mut left = None;
        let (mut sent, mut batch) = (Vec::new(), Vec::new());
        for row in rows {
            match self.order(&row).await {
                Ok(order) => {
                    batch.push(outgoing(&order));
                    sent.push((row, order));
                }
                Err(Refusal::ForEver(why)) => settled.refused.push((row.seq, row.id, why)),
                Err(Refusal::ForNow(why)) => left = Some(why),
            }
        }
        let mut lines: Vec<Bytes> = Vec::new();
        for ((row, order), result) in sent.into_iter().zip(self.broker.publish(batch).await) {
            match result {
                Ok(()) => {
                    settled.published.push((row.seq, row.id));
                    if order.journaled {
                        lines.push(Entry::Queued(Box::new(order.job)).line());
                    }
                }
                Err(PublishError::Unconfirmed(why) | PublishError::Refused(why)) => left = Some(why),
                Err(error) => settled.refused.push((row.seq, row.id, error.to_string())),
            }
        }
        if planted(Fault::RelayStuck) && !settled.published.is_empty() {
            std::future::pending::<()>().await;
        }
        if !lines.is_empty()
            && let Err(error) = self.broker.report(lines).await
        {
            tracing::warn!(%error, "Jobs of an outbox were not reported as queued; they are listed once they run.");
        }
        self.tell(&settled.refused);
        left
    }

    async fn order(&self, row: &Row) -> Result<Order, Refusal> {
        let id = Uuid::try_parse_ascii(&row.id).map_err(|_| Refusal::ForEver("id: expected a UUID".to_owned()))?;
        let mut order = self.reader.read(id, &row.job, row.age).map_err(Refusal::ForEver)?;
        self.blobs.put_args(&mut order.job).await.map_err(|error| match error {
            BlobError::TooLarge { .. } => Refusal::ForEver(format!("args: {error}")),
            other => Refusal::ForNow(other.to_string()),
        })?;
        // What has args in the blob store is always journaled: a blob is kept because its job is on record.
        order.journaled |= order.job.args_ref.is_some();
        Ok(order)
    }

    fn tell(&self, refused: &[(i64, Vec<u8>, String)]) {
        let Some((_, id, why)) = refused.first() else { return };
        let (rows, outbox, table) = (refused.len(), &self.settings.place, &self.settings.table);
        tracing::warn!(
            rows,
            outbox,
            table,
            first = %String::from_utf8_lossy(id),
            why,
            "Rows of an outbox can never be published and are set aside; their column `refused` says why. Mend such a row and set it to NULL, or delete it."
        );
    }
}

enum Refusal {
    ForEver(String),
    ForNow(String),
}

/// Perhaps a copy of what a relay published that died before it removed the row: claimed.
fn outgoing(order: &Order) -> Outgoing {
    let to = Address::after(order.job.queue.clone(), order.delay);
    Outgoing { to, message: message::encode_claimed(&order.job, order.journaled), must: true }
}

async fn remove(table: &Table, settled: &mut Settled) -> Result<(), Trouble> {
    if settled.published.is_empty() && settled.refused.is_empty() {
        return Ok(());
    }
    table.settle(&settled.published, &settled.refused).await.map_err(Trouble::Database)?;
    *settled = Settled::default();
    Ok(())
}
