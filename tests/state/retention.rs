//! Retention: what is over goes, what holds stays, and nobody misses a clear that was forgotten.

use std::time::Duration;

use serde_json::json;
use spinor_consumers::state::{Admission, Claimed, KeyFilter, Kind, Limit, OnTaken, State, StateTarget, Subject};
use sqlx::{ConnectOptions as _, Executor as _};
use uuid::Uuid;

use super::{LONG, SOON, Site};
use crate::support::eventually;

pub async fn what_is_over_is_pruned_and_what_holds_stays(site: &Site) {
    let state = site.open().await;
    let (job, short) = (Uuid::now_v7(), Duration::from_millis(50));
    let limit = [Limit { key: "l".into(), at_once: Some(2), rate: None }];
    for at in 0..40 {
        state.take_key(&format!("short:{at}"), job, short, OnTaken::Keep).await.unwrap();
    }
    state.take_key("long", job, LONG, OnTaken::Keep).await.unwrap();
    assert_eq!(state.acquire(&limit, Uuid::now_v7(), short).await, Ok(Admission::Granted));
    assert_eq!(state.acquire(&limit, job, LONG).await, Ok(Admission::Granted));
    state.claim((job, 0, 1), job, false).await.unwrap();
    let version = state.set_mark(&Subject::Pause("q".into()), json!(1), "ann", None).await.unwrap();
    let mut gone = 0;
    eventually("all that is over to go", SOON, async || {
        gone += state.prune().await.unwrap();
        gone >= 40
    })
    .await;
    eventually("nothing to be left to prune", SOON, async || state.prune().await.unwrap() == 0).await;
    let keys = state.keys(&KeyFilter::default()).await.unwrap();
    assert_eq!(keys.into_iter().map(|key| key.name).collect::<Vec<_>>(), ["long"]);
    assert_eq!(state.renew(&[job], LONG).await, Ok(Vec::new()));
    let second = Uuid::now_v7();
    eventually("the ended one to be given back", SOON, async || {
        state.acquire(&limit, second, LONG).await == Ok(Admission::Granted)
    })
    .await;
    let third = state.acquire(&limit, Uuid::now_v7(), LONG).await.unwrap();
    assert!(matches!(third, Admission::Later { .. }), "and once: {third:?}");
    let other = Uuid::now_v7();
    assert_eq!(state.claim((job, 0, 1), other, false).await, Ok(Claimed::Taken { by: job }));
    assert_eq!(state.marks(Kind::Pause).await.unwrap().len(), 1);
    assert!(!state.marks_since(version).await.unwrap().whole);
}

/// Makes everything look as old as the epoch.
async fn age(site: &Site) {
    let sql = "UPDATE state_marks SET at = 1; UPDATE state_claims SET at = 1; UPDATE state_presence SET at = 1";
    match &site.target {
        StateTarget::Sqlite(path) => {
            let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
            options.connect().await.unwrap().execute(sqlx::raw_sql(sql)).await.unwrap();
        }
        StateTarget::MySql(url) => {
            let options: sqlx::mysql::MySqlConnectOptions = url.parse().unwrap();
            options.connect().await.unwrap().execute(sqlx::raw_sql(sql)).await.unwrap();
        }
        StateTarget::Redis { .. } => unreachable!("its times are not rows"),
    }
}

async fn drained(state: &State) {
    eventually("nothing to be left to prune", SOON, async || state.prune().await.unwrap() == 0).await;
}

async fn old_clears_are_forgotten(site: Site) {
    let state = site.open().await;
    let cleared = Subject::Pause("a".into());
    let seen = state.set_mark(&cleared, json!(1), "ann", None).await.unwrap();
    state.set_mark(&Subject::Pause("b".into()), json!(1), "ann", None).await.unwrap();
    let forgotten = state.clear_mark(&cleared, "ann", None).await.unwrap().unwrap();
    let job = Uuid::now_v7();
    state.claim((job, 0, 1), job, false).await.unwrap();
    drained(&state).await;
    assert!(!state.marks_since(seen).await.unwrap().whole, "the clear is still told");
    age(&site).await;
    drained(&state).await;
    let all = state.marks_since(seen).await.unwrap();
    assert_eq!((all.version, all.whole, all.marks.len()), (forgotten, true, 1), "it cannot be told: so everything is");
    assert!(!state.marks_since(forgotten).await.unwrap().whole, "who knew of it needs nothing");
    assert_eq!(state.set_mark(&cleared, json!(2), "ann", None).await, Ok(forgotten + 1));
    assert_eq!(state.claim((job, 0, 1), Uuid::now_v7(), false).await, Ok(Claimed::Yes), "after a day it says nothing");
    site.end().await;
}

#[tokio::test]
async fn a_clear_that_sqlite_has_forgotten_is_told_as_everything_that_holds() {
    old_clears_are_forgotten(Site::sqlite().await).await;
}

#[tokio::test]
async fn a_clear_that_a_server_has_forgotten_is_told_as_everything_that_holds() {
    old_clears_are_forgotten(Site::server().await).await;
}
