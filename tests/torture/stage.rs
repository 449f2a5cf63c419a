//! The installation under torture: its parts, its servers, its record. Owns how they start, how the
//! run finds out that all is quiet, and how the record becomes a ledger.

use std::{collections::BTreeSet, fs, time::Duration};

use serde_json::{Value, json};
use spinor::client::Client;
use sqlx::{ConnectOptions as _, sqlite::SqliteConnectOptions};
use tokio::{sync::Mutex, time::Instant};
use uuid::Uuid;

use super::{
    ledgers::{self, Attempt, Left, Letter, Line, Row},
    mix::{NODE, ONCE_QUEUE, QUEUE},
    part::{LOGS, Part},
};
use crate::support::{eventually, process::Spinor, proxy::CutProxy, servers::PrivateServer, site::Site, witness};

/// A bound against hanging, no measure.
const PATIENCE: Duration = Duration::from_secs(120);
/// Nothing has moved for so long: what is not done now never will be. Longer than any pause of ours.
const STILL: Duration = Duration::from_secs(80);
/// So many consumers run everything; after them come as many as [`ONCE`], which run theirs at most once.
pub const MANY: usize = 3;
pub const ONCE: usize = 2;
/// A guardian ends what its consumer left within this.
const SOON: Duration = Duration::from_secs(15);

/// Job, attempt, execution, state and report of an attempt's row.
type Columns = (Vec<u8>, i64, Vec<u8>, String, String);

/// One installation. The order is that of the end: processes, their place, the servers.
pub struct Stage {
    pub consumers: Vec<Mutex<Part>>,
    pub recorder: Option<Mutex<Part>>,
    pub door: Option<Mutex<Part>>,
    pub proxies: Vec<CutProxy>,
    pub spinor: Spinor,
    pub site: Option<Site>,
    pub broker: Option<PrivateServer>,
    pub database: Option<PrivateServer>,
    /// A Redis.
    pub state: Option<PrivateServer>,
    /// None where a fault is planted: that is found without.
    pub search: Option<PrivateServer>,
}

impl Stage {
    /// Everything in one process.
    pub async fn embedded(planted: Option<&str>) -> Self {
        let spinor = installation("", planted);
        let all = Part::start("process", &spinor, &["up", "--node", NODE]);
        let stage = Self {
            consumers: vec![Mutex::new(all)],
            recorder: None,
            door: None,
            proxies: Vec::new(),
            spinor,
            site: None,
            broker: None,
            database: None,
            state: None,
            search: None,
        };
        stage.up().await;
        stage
    }

    /// Three consumers, each behind a proxy, on servers of their own.
    pub async fn rabbitmq(planted: Option<&str>) -> Self {
        // Only the broker comes out of a chroot: it is the one that differs most between versions.
        let root = std::env::var("SPINOR_TORTURE_ROOT").ok();
        let options: Vec<&str> = root.iter().flat_map(|root| ["--root", root.as_str()]).collect();
        let broker = PrivateServer::start_with("rabbitmq", &options);
        let search = async {
            match planted {
                None => Some(PrivateServer::search().await),
                Some(_) => None,
            }
        };
        let (broker, database, state, search) =
            tokio::join!(broker, PrivateServer::start("mariadb"), PrivateServer::start("redis"), search);
        let site = Site::on(broker.url(), database.url()).await;
        let sides =
            format!("state = {:?}\nsearch = {:?}\n", state.url(), search.as_ref().map_or("off", PrivateServer::url));
        let spinor = installation(&(site.toml() + &sides), planted);
        let mut consumers = Vec::new();
        let mut proxies = Vec::new();
        // API and recorder know both queues, a consumer has one.
        let all = fs::read_to_string(spinor.join("spinor.toml")).expect("a configuration");
        let own = |queue: &str| all.replace(&format!("'{QUEUE}', '{ONCE_QUEUE}'"), &format!("'{queue}'"));
        fs::write(spinor.join("many.toml"), own(QUEUE)).expect("written");
        let once = own(ONCE_QUEUE) + "[kinds.command]\nat_most_once = true\n";
        fs::write(spinor.join("once.toml"), once).expect("written");
        for number in 1..=MANY + ONCE {
            let name = format!("consumer-{number}");
            let proxy = CutProxy::start(&broker.address()).await;
            let url = proxy.url(broker.url());
            let mut words = vec!["up", "--only", "consumer", "--data", &name, "--broker", &url];
            words.extend(["--config", if number > MANY { "once.toml" } else { "many.toml" }]);
            if number == 1 {
                words.extend(["--node", NODE]);
            }
            consumers.push(Mutex::new(Part::start(&name, &spinor, &words)));
            proxies.push(proxy);
        }
        let recorder = Part::start("recorder", &spinor, &["up", "--only", "recorder", "--data", "recorder"]);
        let door = Part::start("door", &spinor, &["up", "--only", "api"]);
        let stage = Self {
            consumers,
            recorder: Some(Mutex::new(recorder)),
            door: Some(Mutex::new(door)),
            proxies,
            spinor,
            site: Some(site),
            broker: Some(broker),
            database: Some(database),
            state: Some(state),
            search,
        };
        stage.up().await;
        // RabbitMQ 3.10 writes down the name of a new quorum queue some seconds late; an orderly
        // restart does it now.
        stage.broker.as_ref().expect("a broker").restart().await;
        stage.consumed().await;
        stage
    }

    /// Awaits the word of each part, and a consumer on each queue.
    async fn up(&self) {
        for part in self.parts() {
            part.lock().await.says("spinor is up", PATIENCE).await;
        }
        self.consumed().await;
    }

    async fn consumed(&self) {
        let client = self.client();
        eventually("the queues to have their consumers", PATIENCE, async || {
            let queues = client.queues().await.unwrap_or_default();
            let has = |name: &str, count| {
                queues.iter().any(|queue| queue.stats.name == name && queue.stats.consumers >= count)
            };
            let once = self.consumers.len().saturating_sub(MANY);
            has(QUEUE, (self.consumers.len() - once) as u64) && (once == 0 || has(ONCE_QUEUE, once as u64))
        })
        .await;
    }

    /// All processes of ours.
    pub fn parts(&self) -> impl Iterator<Item = &Mutex<Part>> {
        self.consumers.iter().chain(&self.recorder).chain(&self.door)
    }

    /// A client of the process that takes jobs.
    pub fn client(&self) -> Client {
        Client::unix(self.spinor.join("data/spinor.sock")).expect("a client")
    }

    /// Waits until every accepted job has its end and the queues are empty, or until nothing moves
    /// any more. The oracle tells which it was.
    pub async fn quiet(&self, sure: usize, within: Duration) {
        let end = Instant::now() + within;
        let (mut seen, mut moved) = ((0, 0, 0), Instant::now());
        while Instant::now() < end && moved.elapsed() < STILL {
            let (all, ended) = self.ended().await;
            let lines = fs::metadata(self.spinor.join("executions")).map_or(0, |file| file.len());
            if all == ended && ended >= sure && self.empty().await {
                return;
            }
            if seen != (all, ended, lines) {
                (seen, moved) = ((all, ended, lines), Instant::now());
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        self.note_where_they_are().await;
    }

    /// For the reader of a problem: which queues hold something when it does not become quiet.
    async fn note_where_they_are(&self) {
        let Some(broker) = &self.broker else { return };
        let columns = ["name", "state", "leader", "messages_ready", "messages_unacknowledged", "consumers"];
        let queues = broker.ctl(&[&["list_queues"], columns.as_slice()].concat()).await;
        fs::write(self.spinor.join(LOGS).join("queues"), queues).expect("written");
    }

    async fn ended(&self) -> (usize, usize) {
        let sql = "SELECT COUNT(*), COUNT(CASE WHEN state IN ('queued', 'running', 'retrying') THEN NULL ELSE 1 END) FROM jobs";
        let (all, ended): (i64, i64) = self.select(sql).await.pop().expect("one row");
        (all as usize, ended as usize)
    }

    async fn empty(&self) -> bool {
        let Ok(queues) = self.client().queues().await else { return false };
        !queues.is_empty() && queues.iter().all(|queue| queue.stats.ready == 0 && queue.stats.unacked.unwrap_or(0) == 0)
    }

    /// Ends all parts, and writes down what is left and what is on record.
    pub async fn end(&self, boots: &BTreeSet<Uuid>, mut left: Vec<Left>) {
        for part in self.parts() {
            let mut part = part.lock().await;
            let code = part.stop().await;
            if code != Some(0) {
                left.push(Left { what: format!("{} ended with {code:?} at the end", part.name) });
            }
        }
        let marks: Vec<String> = boots.iter().map(|boot| format!("SPINOR_RUN={boot}/")).collect();
        let alive = || marks.iter().flat_map(|mark| witness::marked(mark)).collect::<Vec<u32>>();
        let patience = Instant::now() + SOON;
        while !alive().is_empty() && Instant::now() < patience {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        left.extend(alive().into_iter().map(|pid| Left { what: format!("process {pid} of a job is alive") }));
        ledgers::write(&self.spinor.join("left.ndjson"), &left);
        ledgers::write(&self.spinor.join("jobs.ndjson"), &self.jobs().await);
        ledgers::write(&self.spinor.join("attempts.ndjson"), &self.attempts().await);
        ledgers::write(&self.spinor.join("letters.ndjson"), &self.letters().await);
    }

    /// The lives of consumers that ran something.
    pub fn boots(&self) -> BTreeSet<Uuid> {
        let text = fs::read_to_string(self.spinor.join("executions")).unwrap_or_default();
        text.lines().filter_map(Line::read).map(|line| line.boot).collect()
    }

    async fn jobs(&self) -> Vec<Row> {
        let rows: Vec<(Vec<u8>, String)> = self.select("SELECT id, state FROM jobs").await;
        rows.into_iter().map(|(job, state)| Row { job: id(&job), state }).collect()
    }

    async fn letters(&self) -> Vec<Letter> {
        let rows: Vec<(Vec<u8>, String)> = self.select("SELECT job, reason FROM dead").await;
        rows.into_iter().map(|(job, reason)| Letter { job: id(&job), reason }).collect()
    }

    async fn attempts(&self) -> Vec<Attempt> {
        let sql = "SELECT job, CAST(attempt AS SIGNED), execution, state, report FROM attempts ORDER BY execution";
        let sql = if self.site.is_none() { sql.replace("SIGNED", "INTEGER") } else { sql.to_owned() };
        let rows: Vec<Columns> = self.select(&sql).await;
        let attempt = |(job, attempt, execution, state, report): Columns| {
            let report: Value = serde_json::from_str(&report).expect("a report is JSON");
            let maybe_rerun = report["maybe_rerun"] == json!(true);
            let attempt = u32::try_from(attempt).expect("a small number");
            Attempt { job: id(&job), attempt, execution: id(&execution), state, maybe_rerun }
        };
        rows.into_iter().map(attempt).collect()
    }

    async fn select<T>(&self, sql: &str) -> Vec<T>
    where
        T: for<'r> sqlx::FromRow<'r, sqlx::mysql::MySqlRow> + for<'r> sqlx::FromRow<'r, sqlx::sqlite::SqliteRow>,
        T: Send + Unpin,
    {
        let sql = sqlx::AssertSqlSafe(sql.to_owned());
        match &self.site {
            Some(site) => sqlx::query_as(sql).fetch_all(&mut site.sql().await).await.expect("the record"),
            None => {
                let options = SqliteConnectOptions::new().filename(self.spinor.join("data/results.db")).read_only(true);
                let mut record = options.connect().await.expect("the record");
                sqlx::query_as(sql).fetch_all(&mut record).await.expect("the record")
            }
        }
    }
}

fn installation(servers: &str, planted: Option<&str>) -> Spinor {
    let mut spinor = Spinor::new(&format!(
        "{servers}data = 'data'\n[log]\nlevel = 'warn'\n\
         [consumer]\nslots = 4\nqueues = ['{QUEUE}', '{ONCE_QUEUE}']\nkinds = ['command']\ngrace = '20s'\nhold_after = '1s'\n"
    ));
    if let Some(fault) = planted {
        spinor.set("PLANTED_FAULT", fault);
    }
    fs::write(spinor.join("executions"), "").expect("a ledger");
    for name in ["tries", LOGS] {
        fs::create_dir(spinor.join(name)).expect("a directory");
    }
    spinor
}

fn id(bytes: &[u8]) -> Uuid {
    Uuid::from_slice(bytes).expect("16 bytes")
}
