//! Jobs that programs commit into an outbox of their own database, written by the Python package.
//!
//! Owns the databases of these programs. What is recorded is read from the record itself.

use std::{collections::BTreeSet, path::Path, time::Duration};

use serde_json::Value;
use sqlx::{
    AssertSqlSafe, Connection as _, MySqlConnection, SqliteConnection, mysql::MySqlConnectOptions,
    sqlite::SqliteConnectOptions,
};
use uuid::Uuid;

use crate::support::{
    eventually,
    process::{Process, Spinor},
    proxy::CutProxy,
    site::Site,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// What the script of the Python package printed.
async fn python(spinor: &Spinor, arguments: &[&str]) -> Value {
    let script = in_tree("executors/python/tests/live/outbox.py");
    let arguments = [&[script.as_str()], arguments].concat();
    let done = spinor.start_program("python3", &arguments).finish(PATIENCE).await.expect_success();
    serde_json::from_str(&done.stdout).expect("it prints JSON")
}

fn in_tree(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path).display().to_string()
}

fn installation(config: &str) -> Spinor {
    let mut spinor = Spinor::new(config);
    spinor.set("PYTHONPATH", &in_tree("executors/python")).set("PYTHONDONTWRITEBYTECODE", "1");
    spinor
}

fn ids(of: &Value) -> BTreeSet<Uuid> {
    let texts = of.as_array().expect("a list").iter().filter_map(Value::as_str);
    texts.map(|id| id.parse().expect("a UUID")).collect()
}

async fn up(spinor: &Spinor, arguments: &[&str]) -> Process {
    let process = spinor.start(&[&["up"], arguments].concat());
    process.says("spinor is up", PATIENCE).await;
    process
}

/// Opens a file of SQLite, which another process may be writing.
async fn sqlite(path: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(path).busy_timeout(Duration::from_secs(10));
    SqliteConnection::connect_with(&options).await.expect("SQLite opens")
}

/// Job and number of executions of all rows' jobs that are recorded as succeeded.
const RECORDED: &str = "SELECT j.id, COUNT(*) FROM jobs j JOIN attempts a ON a.job = j.id WHERE j.state = 'succeeded' \
                        AND j.kind = 'noop' GROUP BY j.id";

fn once(rows: Vec<(Vec<u8>, i64)>) -> BTreeSet<Uuid> {
    let mut seen = BTreeSet::new();
    for (id, executions) in rows {
        assert_eq!(executions, 1, "executions of {id:?}");
        seen.insert(Uuid::from_slice(&id).expect("an id"));
    }
    seen
}

async fn in_sqlite(spinor: &Spinor) -> BTreeSet<Uuid> {
    let mut record = sqlite(&spinor.join("data/results.db")).await;
    once(sqlx::query_as(RECORDED).fetch_all(&mut record).await.expect("the record answers"))
}

async fn in_mysql(record: &mut MySqlConnection) -> BTreeSet<Uuid> {
    once(sqlx::query_as(RECORDED).fetch_all(record).await.expect("the record answers"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_transaction_in_sqlite_commits_runs_once_though_the_relay_is_killed_before_it_removes_a_row() {
    let mut spinor = installation("data = 'data'\n[consumer]\nslots = 8\ngrace = '2s'\n");
    let file = spinor.join("shop.db");
    let path = file.display().to_string();
    spinor.set("SPINOR_OUTBOX__DATABASES", &format!("sqlite://{path}"));
    let written = python(&spinor, &["sqlite", &path]).await;
    let (mut committed, undone) = (ids(&written["committed"]), ids(&written["undone"]));
    assert_eq!((committed.len(), undone.len()), (1000, 250));
    let mut shop = sqlite(&file).await;
    // Before all that is good.
    for (seq, id, job) in [
        (-3, Uuid::now_v7().to_string(), "{\"kind\"".to_owned()),
        (-2, Uuid::now_v7().to_string(), "{\"kind\":\"noop\",\"queue\":\"nowhere\"}".to_owned()),
        (-1, "seven".to_owned(), "{\"kind\":\"noop\"}".to_owned()),
    ] {
        let row = sqlx::query("INSERT INTO spinor_outbox (seq, id, job) VALUES (?, ?, ?)").bind(seq).bind(id).bind(job);
        row.execute(&mut shop).await.expect("a bad row can be written");
    }
    // A run with queues of its own must not take what is meant for the installation.
    std::fs::write(spinor.join("one.yaml"), "- name: one\n  jobs:\n  - RUN: 'true'\n").expect("an orchestration");
    spinor.run(&["run", "--local", "1", "one.yaml"]).await.expect_success();
    let all = "SELECT COUNT(*) FROM spinor_outbox";
    assert_eq!(sqlx::query_scalar::<_, i64>(all).fetch_one(&mut shop).await.unwrap(), 1003);
    spinor.set("PLANTED_FAULT", "relay-stuck");
    let mut process = up(&spinor, &[]).await;
    eventually("jobs of the outbox to be recorded", PATIENCE, async || in_sqlite(&spinor).await.len() > 100).await;
    let left: i64 = sqlx::query_scalar(all).fetch_one(&mut shop).await.unwrap();
    assert_eq!(left, 1003, "nothing is removed before the relay is killed");
    process.kill9();
    process.wait(PATIENCE).await;

    spinor.set("PLANTED_FAULT", "none");
    let process = up(&spinor, &[]).await;
    let left = "SELECT COUNT(*) FROM spinor_outbox WHERE refused IS NULL";
    eventually("the outbox to be empty", PATIENCE, async || {
        sqlx::query_scalar::<_, i64>(left).fetch_one(&mut shop).await.unwrap() == 0
    })
    .await;
    // A row that becomes visible later, with a lower number than all that were relayed.
    let late = Uuid::now_v7();
    let row = sqlx::query("INSERT INTO spinor_outbox (seq, id, job) VALUES (-9, ?, '{\"kind\":\"noop\"}')");
    row.bind(late.to_string()).execute(&mut shop).await.unwrap();
    committed.insert(late);
    eventually("all to be recorded", PATIENCE, async || in_sqlite(&spinor).await.len() >= committed.len()).await;
    assert!(in_sqlite(&spinor).await == committed, "other jobs than those that were committed");

    let refused: Vec<(i64, String)> =
        sqlx::query_as("SELECT seq, refused FROM spinor_outbox ORDER BY seq").fetch_all(&mut shop).await.unwrap();
    let words = ["job: ", "no queue takes `nowhere`", "id: expected a UUID"];
    assert_eq!(refused.len(), words.len(), "{refused:?}");
    assert!(refused.iter().zip(words).all(|((_, why), word)| why.starts_with(word)), "{refused:?}");
    assert!(process.stderr().contains("set aside"), "{}", process.stderr());
    let doctor = spinor.run(&["doctor", "--json"]).await;
    assert!(doctor.stdout.contains("3 rows are set aside"), "{}", doctor.stdout);
    process.terminate();
    process.finish(PATIENCE).await.expect_success();
}

async fn add(shop: &mut MySqlConnection, row: &Value) {
    let (id, job) = (row[0].as_str().expect("an id"), row[1].as_str().expect("a job"));
    let insert = sqlx::query("INSERT INTO spinor_outbox (id, job) VALUES (?, ?)").bind(id).bind(job);
    insert.execute(shop).await.expect("a row can be written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_relays_of_one_outbox_in_mysql_record_each_committed_row_once_and_find_what_commits_late() {
    let site = Site::new().await;
    let lines = format!("{}[consumer]\nslots = 8\nkinds = ['noop']\ngrace = '2s'\n[outbox]\n", site.toml());
    let proxy = {
        let options: MySqlConnectOptions = site.results.parse().expect("an address");
        CutProxy::start(&format!("{}:{}", options.get_host(), options.get_port())).await
    };
    let mut stuck = installation(&format!("data = 'stuck'\n{lines}databases = [{:?}]\n", site.results));
    stuck.set("PLANTED_FAULT", "relay-stuck");
    let spinor = installation(&format!("data = 'data'\n{lines}databases = [{:?}]\n", proxy.url(&site.results)));
    let written = python(&spinor, &["rows", "1002"]).await;
    let rows = written["rows"].as_array().expect("rows");
    let id_of = |row: &Value| row[0].as_str().and_then(|id| id.parse::<Uuid>().ok()).expect("an id");
    let (mut shop, mut other, mut record) = (site.sql().await, site.sql().await, site.sql().await);
    let ddl = written["ddl"].as_str().expect("a statement").to_owned();
    sqlx::raw_sql(AssertSqlSafe(ddl)).execute(&mut shop).await.expect("the table is made");
    let mut committed = BTreeSet::new();
    for (number, some) in rows[..1000].chunks(10).enumerate() {
        let mut transaction = shop.begin().await.unwrap();
        for row in some {
            add(&mut transaction, row).await;
        }
        if number % 5 == 4 {
            transaction.rollback().await.unwrap();
        } else {
            transaction.commit().await.unwrap();
            committed.extend(some.iter().map(id_of));
        }
    }
    // This one has the lease and the jobs of its first batch, and stays before their removal.
    let mut first = up(&stuck, &["--only", "recorder"]).await;
    eventually("the first batch to be published", PATIENCE, async || site.ready("jobs.default").await >= 500).await;
    let second = up(&spinor, &[]).await;
    eventually("all that was committed to be recorded", PATIENCE, async || {
        in_mysql(&mut record).await.len() >= committed.len()
    })
    .await;
    first.kill9();
    first.wait(PATIENCE).await;

    // A transaction that is open while a later row is relayed, and commits afterwards.
    let mut open = shop.begin().await.unwrap();
    add(&mut open, &rows[1000]).await;
    add(&mut other, &rows[1001]).await;
    committed.insert(id_of(&rows[1001]));
    eventually("the later row", PATIENCE, async || in_mysql(&mut record).await.contains(&id_of(&rows[1001]))).await;
    // It commits while the relay cannot reach the database, which is told once.
    proxy.cut();
    second.says("database of an outbox does not answer", PATIENCE).await;
    open.commit().await.unwrap();
    committed.insert(id_of(&rows[1000]));
    proxy.heal();
    eventually("the late commit", PATIENCE, async || in_mysql(&mut record).await.contains(&id_of(&rows[1000]))).await;
    second.says("relayed again", PATIENCE).await;
    assert!(in_mysql(&mut record).await == committed, "other jobs than those that were committed");
    let left: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM spinor_outbox").fetch_one(&mut shop).await.unwrap();
    assert_eq!(left, 0);
    assert_eq!(second.stderr().matches("database of an outbox does not answer").count(), 1, "{}", second.stderr());
    second.terminate();
    second.finish(PATIENCE).await.expect_success();
}
