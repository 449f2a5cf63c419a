//! The header of a proxy: believed from its addresses, an attempt from anywhere else.

use reqwest::{Method, RequestBuilder};
use serde_json::json;
use spinor::api::NewUser;
use spinor_consumers::{results::AuditFilter, state::StateTarget};

use super::{Stage, TOKEN, told};
use crate::support::{front::Front, scratch::Scratch};

/// With a proxy at these addresses.
async fn behind(from: &str) -> Stage {
    let scratch = Scratch::new("access-proxy");
    let target = StateTarget::Sqlite(scratch.join("state.db"));
    let api = format!(
        "[api]\nlisten = '127.0.0.1:0'\ntoken = '{TOKEN}'\nproxy = {{ header = 'X-Forwarded-User', from = ['{from}'], roles = ['viewer'] }}\n"
    );
    let front = Front::start(scratch, &api, target).await;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    Stage { front, http, tokens: Default::default() }
}

async fn status(request: RequestBuilder) -> u16 {
    told(request.send().await.unwrap()).await.0
}

#[tokio::test]
async fn who_the_proxy_names_is_in_and_the_same_header_from_anybody_else_is_refused() {
    let stage = behind("127.0.0.0/8").await;
    let named = |method: Method, path: &str, name: &str| stage.ask(method, path).header("X-Forwarded-User", name);
    let oneself = async |name: &str| told(named(Method::GET, "/api/v1/session", name).send().await.unwrap()).await;
    assert_eq!(oneself("ann").await, (200, json!({"name": "ann", "how": "proxy", "roles": ["viewer"]})));
    assert_eq!(status(stage.ask(Method::GET, "/api/v1/session")).await, 401, "the proxy itself is nobody");
    let pause = || named(Method::POST, "/api/v1/queues/default/pause", "ann").header("X-Spinor", "1");
    assert_eq!(status(pause()).await, 403, "a viewer pauses nothing");

    // A user of this name has the roles of the table, though the proxy alone knows the password.
    let ann = NewUser {
        name: "ann".to_owned(),
        password: "correct horse".to_owned(),
        roles: vec!["operator".to_owned()],
        by: None,
    };
    stage.front.client.add_user(&ann).await.unwrap();
    assert_eq!(oneself("ann").await.1["roles"], json!(["operator"]));
    let (_, paused) = told(pause().send().await.unwrap()).await;
    assert_eq!(paused["paused"]["by"], json!("ann"), "{paused}");
    let without = named(Method::POST, "/api/v1/queues/default/resume", "ann");
    assert_eq!(status(without).await, 403, "another page might have sent it through the proxy");
    let rows = stage.front.client.actions(&AuditFilter::default()).await.unwrap().rows;
    assert!(rows.iter().any(|row| (row.who.as_str(), row.how.as_str()) == ("ann", "proxy")), "{rows:?}");

    for wrong in ["", " ", &"a".repeat(101)] {
        assert_eq!(oneself(wrong).await.0, 403, "{wrong}");
    }
    let twice = named(Method::GET, "/api/v1/session", "bob").header("X-Forwarded-User", "ann");
    assert_eq!(status(twice).await, 403, "one of them came from outside");

    let elsewhere = behind("10.0.0.0/8").await;
    let claims = elsewhere.ask(Method::GET, "/api/v1/session").header("X-Forwarded-User", "ann");
    let (answer, why) = told(claims.send().await.unwrap()).await;
    assert!(answer == 403 && why.to_string().contains("api.proxy.from"), "{answer} {why}");
    let with_token = elsewhere.ask(Method::GET, "/api/v1/session").bearer_auth(TOKEN).header("X-Forwarded-User", "ann");
    assert_eq!(status(with_token).await, 403, "not even beside a token");
    assert_eq!(status(elsewhere.ask(Method::GET, "/api/v1/session").bearer_auth(TOKEN)).await, 200);
}
