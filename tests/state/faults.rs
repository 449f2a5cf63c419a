//! What outlives a server's death, what is said while it is away, and what is refused for good.

use std::time::Duration;

use serde_json::json;
use spinor_consumers::state::{Claimed, KeyTaken, Kind, OnTaken, State, StateError, StateTarget, Subject};
use tokio::time::Instant;
use uuid::Uuid;

use super::{LONG, SOON, Site};
use crate::{
    recorder::admin,
    support::{
        eventually, eventually_some,
        proxy::{CutProxy, Direction},
        scratch::Scratch,
        servers::{self, PrivateServer},
    },
};

/// Sets one of each, kills the server, and looks for them with the handle that saw it die.
async fn survives(server: &PrivateServer, site: Site) {
    let state = site.open().await;
    let (job, execution) = (Uuid::now_v7(), Uuid::now_v7());
    state.set_mark(&Subject::Pause("q".into()), json!(1), "ann", None).await.unwrap();
    state.take_key("k", job, LONG, OnTaken::Keep).await.unwrap();
    state.claim((job, 0, 1), execution, false).await.unwrap();
    assert_eq!(state.lease("leader", job, LONG).await, Ok(Some(1)));
    server.kill9().await;
    let asked = Instant::now();
    let error = state.take_key("k", Uuid::now_v7(), LONG, OnTaken::Keep).await.unwrap_err();
    assert!(matches!(error, StateError::Unavailable(_)), "{error}");
    assert!(asked.elapsed() < Duration::from_secs(5), "the bound is two seconds");
    server.restart().await;
    eventually("state to answer again by itself", SOON, async || state.check().await.is_ok()).await;
    let marks = eventually_some("the marks", SOON, async || state.marks(Kind::Pause).await.ok()).await;
    assert_eq!(marks.len(), 1);
    let other = Uuid::now_v7();
    let taken =
        eventually_some("the key", SOON, async || state.take_key("k", other, LONG, OnTaken::Keep).await.ok()).await;
    assert!(matches!(taken, KeyTaken::By { job: by, .. } if by == job), "{taken:?}");
    assert_eq!(state.claim((job, 0, 1), other, false).await, Ok(Claimed::Taken { by: execution }));
    assert_eq!(state.lease("leader", other, LONG).await, Ok(None));
    assert_eq!(state.marks_since(1).await.unwrap().version, 1);
}

#[tokio::test]
async fn what_was_agreed_outlives_a_database_that_is_killed() {
    let server = PrivateServer::start("mariadb").await;
    survives(&server, Site::server_at(server.url()).await).await;
}

#[tokio::test]
async fn what_was_agreed_outlives_a_redis_that_is_killed() {
    let server = PrivateServer::start_with("redis", &["--set", "appendfsync=always"]).await;
    survives(&server, Site::redis_at(server.url())).await;
}

/// A server that takes connections and says nothing is away too.
async fn silent(site: Site, proxy: CutProxy) {
    let state = site.open().await;
    state.check().await.unwrap();
    proxy.stall(Direction::ToClient);
    let asked = Instant::now();
    let error = state.claim((Uuid::now_v7(), 0, 1), Uuid::now_v7(), false).await.unwrap_err();
    assert!(matches!(error, StateError::Unavailable(_)), "{error}");
    assert!(asked.elapsed() < Duration::from_secs(5), "the bound is two seconds");
    proxy.heal();
    eventually("state to answer again", SOON, async || state.check().await.is_ok()).await;
    let claim = eventually_some("a claim", SOON, async || {
        state.claim((Uuid::now_v7(), 0, 1), Uuid::now_v7(), false).await.ok()
    })
    .await;
    assert_eq!(claim, Claimed::Yes);
}

fn place(url: &str) -> String {
    let rest = url.rsplit('@').next().unwrap();
    rest.split('/').next().unwrap().to_owned()
}

#[tokio::test]
async fn a_silent_database_is_unavailable_within_the_bound_and_is_back_when_it_speaks() {
    let url = servers::mysql_url();
    let mut site = Site::server().await;
    let proxy = CutProxy::start(&place(&url)).await;
    let StateTarget::MySql(direct) = &site.target else { unreachable!() };
    site.target = StateTarget::MySql(proxy.url(direct));
    let database = site.database.take();
    silent(site, proxy).await;
    if let Some((url, name)) = database {
        admin(&url, &format!("DROP DATABASE {name}")).await;
    }
}

#[tokio::test]
async fn a_silent_redis_is_unavailable_within_the_bound_and_is_back_when_it_speaks() {
    let url = servers::redis_url();
    let proxy = CutProxy::start(&place(&url)).await;
    silent(Site::redis_at(&proxy.url(&url)), proxy).await;
}

async fn refused(target: StateTarget) -> String {
    match State::open(&target).await.map(drop) {
        Err(StateError::Misconfigured(why)) => why,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[tokio::test]
async fn a_wrong_password_is_refused_for_good_and_not_shown() {
    let wrong = |url: &str| {
        let (start, rest) = url.split_once("://").unwrap();
        let (user, rest) = rest.rsplit_once('@').unwrap();
        format!("{start}://{}:hush-hush@{rest}", user.split(':').next().unwrap())
    };
    let url = wrong(&servers::mysql_url());
    let redis = StateTarget::Redis { url: wrong(&servers::redis_url()), prefix: "x".into(), ca_file: None };
    for target in [StateTarget::MySql(url), redis] {
        let why = refused(target).await;
        assert!(!why.contains("hush"), "{why}");
        assert!(why.contains("password") || why.contains("WRONGPASS"), "{why}");
    }
}

#[tokio::test]
async fn a_redis_that_would_forget_is_refused_with_what_to_do() {
    for (setting, word) in [("appendonly=no", "appendonly"), ("maxmemory-policy=allkeys-lru", "maxmemory-policy")] {
        let server = PrivateServer::start_with("redis", &["--set", setting]).await;
        let target = StateTarget::Redis { url: server.url().to_owned(), prefix: "x".into(), ca_file: None };
        let why = refused(target).await;
        assert!(why.contains(word), "{why}");
        assert!(!why.contains(server.url()), "{why}");
    }
}

#[tokio::test]
async fn a_redis_that_may_lose_its_last_moments_is_taken_and_says_so() {
    let said = State::look_at_redis(&servers::redis_url(), None).await.unwrap();
    assert!(said.contains("appendfsync always"), "{said}");
    let server = PrivateServer::start_with("redis", &["--set", "appendfsync=always"]).await;
    let said = State::look_at_redis(server.url(), None).await.unwrap();
    assert!(!said.contains("appendfsync"), "{said}");
}

#[tokio::test]
async fn a_server_that_is_away_is_waited_for() {
    let nobody = "127.0.0.1:1";
    let mysql = StateTarget::MySql(format!("mysql://u:hush@{nobody}/x"));
    let redis = StateTarget::Redis { url: format!("redis://:hush@{nobody}"), prefix: "x".into(), ca_file: None };
    for target in [mysql, redis] {
        let error = State::open(&target).await.map(drop).unwrap_err();
        assert!(matches!(&error, StateError::Unavailable(why) if !why.contains("hush")), "{error}");
    }
}

#[tokio::test]
async fn a_schema_of_a_newer_program_is_refused() {
    let scratch = Scratch::new("state");
    let target = StateTarget::Sqlite(scratch.join("state.db"));
    State::open(&target).await.unwrap().close().await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(scratch.join("state.db"));
    let mut connection = sqlx::ConnectOptions::connect(&options).await.unwrap();
    sqlx::query("INSERT INTO spinor_state_schema (version, at) VALUES (999, 0)")
        .execute(&mut connection)
        .await
        .unwrap();
    let why = refused(target).await;
    assert!(why.contains("999"), "{why}");
}
