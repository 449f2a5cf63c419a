//! Who may do what: each role on each operation, patterns of queues and kinds, logins, and who is nobody.

mod bounds;
mod logins;
mod proxy;
mod roles;
mod secrets;
mod taking;
mod tls;

use std::collections::BTreeMap;

use reqwest::{Method, Response, header};
use serde_json::{Value, json};
use spinor::api::{NewToken, Operation};
use spinor_consumers::state::StateTarget;

use crate::support::{front::Front, scratch::Scratch};

const TOKEN: &str = "hush-hush";

/// A Spinor without consumers, served on both sockets, with callers of its own.
struct Stage {
    front: Front,
    http: reqwest::Client,
    /// By the roles they were given.
    tokens: BTreeMap<String, String>,
}

impl Stage {
    async fn new(roles: &[&[&str]]) -> Self {
        let scratch = Scratch::new("access");
        let target = StateTarget::Sqlite(scratch.join("state.db"));
        let api = format!("[api]\nlisten = '127.0.0.1:0'\ntoken = '{TOKEN}'\n");
        let front = Front::start(scratch, &api, target).await;
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut tokens = BTreeMap::new();
        for (place, roles) in roles.iter().enumerate() {
            let roles: Vec<String> = roles.iter().map(|role| (*role).to_owned()).collect();
            let new = NewToken { name: format!("t{place}"), roles: roles.clone(), ..NewToken::default() };
            tokens.insert(roles.join(" "), front.client.add_token(&new).await.unwrap().token);
        }
        Self { front, http, tokens }
    }

    fn base(&self) -> &str {
        &self.front.addresses[1]
    }

    /// A request with an empty object, unless it only reads.
    fn ask(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let reads = method.is_safe();
        let request = self.http.request(method, format!("{}{path}", self.base()));
        if reads { request } else { request.json(&json!({})) }
    }

    /// An operation on what is not there.
    fn operation(&self, operation: &Operation) -> reqwest::RequestBuilder {
        let path = operation.path.replace("{id}", "0198f1d2-0000-7000-8000-000000000000");
        let path = path.replace("{fingerprint}", "0123456789abcdef");
        let path = path.replace("{name}", "nothing").replace("{key}", "nothing").replace("{kind}", "nothing");
        self.ask(operation.method.clone(), &path)
    }

    /// A request by a token, with a body perhaps: its status and what it says.
    async fn by(&self, roles: &str, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let request = self.ask(method, &format!("/api/v1{path}")).bearer_auth(&self.tokens[roles]);
        let request = if let Some(body) = body { request.json(&body) } else { request };
        told(request.send().await.unwrap()).await
    }
}

async fn told(response: Response) -> (u16, Value) {
    let (status, text) = (response.status().as_u16(), response.text().await.unwrap());
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

/// The cookie that a login gave.
fn cookie(response: &Response) -> String {
    let cookie = response.headers()[header::SET_COOKIE].to_str().unwrap();
    cookie.split(';').next().unwrap().to_owned()
}
