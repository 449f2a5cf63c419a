//! What only an item that the store refuses shows: its neighbours are stored.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{ConnectOptions, sqlite::SqliteConnectOptions};
use uuid::Uuid;

use super::*;
use crate::{broker::Verdict, message::Message};

struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("spinor-embedded-{}", Uuid::now_v7())))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// From now on the store refuses rows that contain `poison`.
async fn refuse_poison(dir: &Path) {
    let mut connection =
        SqliteConnectOptions::new().filename(dir.join("broker.db")).connect().await.expect("a second connection");
    let sql = "CREATE TRIGGER refuse BEFORE INSERT ON messages WHEN instr(NEW.data, CAST('poison' AS BLOB)) > 0
        BEGIN SELECT RAISE(ABORT, 'refused on purpose'); END";
    sqlx::raw_sql(sql).execute(&mut connection).await.expect("a trigger");
}

fn job(body: &'static str) -> Outgoing {
    let message = Message { body: Bytes::from_static(body.as_bytes()), ..Message::default() };
    Outgoing { to: Address::Work("images".to_owned()), message, must: true }
}

async fn broker(dir: &Path) -> Embedded {
    let settings = EmbeddedSettings { dir: dir.to_owned(), ..EmbeddedSettings::default() };
    let broker = Embedded::open(settings).await.expect("open");
    broker.declare(&[QueueSpec { name: "images".to_owned(), foreign: false }]).await.expect("declared");
    broker
}

#[tokio::test]
async fn one_bad_item_does_not_fail_its_neighbours() {
    let scratch = Scratch::new();
    let broker = broker(&scratch.0).await;
    refuse_poison(&scratch.0).await;
    // On one thread the writer sees them only when all are there: one flush.
    let batches = ["one", "poison", "three"].map(|body| broker.publish(vec![job(body)]));
    let results = futures_util::future::join_all(batches).await;
    let refused: Vec<_> =
        results.iter().map(|results| matches!(results[..], [Err(PublishError::Refused(_))])).collect();
    assert_eq!(refused, [false, true, false], "{results:?}");
    let mut subscription = broker.consume(&Address::Work("images".to_owned()), 10).await.expect("consume");
    for wanted in ["one", "three"] {
        assert_eq!(subscription.next().await.expect("a delivery").message.body, wanted);
    }
    broker.close().await;
}

#[tokio::test]
async fn a_broker_whose_files_are_gone_does_not_say_that_it_writes_again_until_they_are_back() {
    let scratch = Scratch::new();
    let broker = broker(&scratch.0).await;
    let mut link = broker.link();
    let aside = scratch.0.with_extension("aside");
    std::fs::rename(&scratch.0, &aside).expect("renamed");
    link.wait_for(|link| matches!(link, Link::Blocked { .. })).await.expect("it is missed");
    // It tries again after 100, 200 and 400 ms.
    let back = link.wait_for(|link| matches!(link, Link::Up));
    assert!(tokio::time::timeout(Duration::from_secs(1), back).await.is_err(), "it writes to a file that is gone");
    std::fs::rename(&aside, &scratch.0).expect("renamed");
    link.wait_for(|link| matches!(link, Link::Up)).await.expect("it is back");
    broker.close().await;
}

#[tokio::test]
async fn a_settle_that_the_store_refuses_goes_back_and_its_neighbours_do_not() {
    let scratch = Scratch::new();
    let broker = broker(&scratch.0).await;
    assert!(broker.publish(vec![job("one"), job("two")]).await.iter().all(Result::is_ok));
    refuse_poison(&scratch.0).await;
    let mut subscription = broker.consume(&Address::Work("images".to_owned()), 10).await.expect("consume");
    let first = subscription.next().await.expect("a delivery");
    let second = subscription.next().await.expect("a delivery");
    let bad = broker.settle(
        first,
        Settlement { lines: vec![Bytes::from_static(b"poison")], publish: vec![], verdict: Verdict::Ack },
    );
    let good = broker.settle(second, Settlement { lines: vec![Bytes::from_static(b"fine")], ..Settlement::default() });
    assert!(matches!(bad.await, Err(PublishError::Refused(_))));
    assert!(good.await.is_ok());
    let again = subscription.next().await.expect("it comes again");
    assert!(again.redelivered && again.message.body == "one");
    let mut results = broker.consume(&Address::Results, 10).await.expect("consume");
    assert_eq!(results.next().await.expect("a pack").message.body, "fine\n");
    broker.close().await;
}
