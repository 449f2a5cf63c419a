//! A small HTTP server that answers a bulk as the test wants it, and keeps what it was sent.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// How it answers the next bulks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// As it should.
    Fine,
    /// The whole bulk with this status.
    Whole(u16),
    /// Each second document with this status, the others as it should.
    Half(u16),
}

#[derive(Default)]
struct Seen {
    moods: Vec<Mood>,
    bulks: usize,
    authorizations: Vec<String>,
    documents: Vec<(String, i64, Value)>,
    template: Option<Value>,
}

/// The server; dropped = gone.
pub struct Fake {
    pub url: String,
    seen: Arc<Mutex<Seen>>,
    _tasks: JoinSet<()>,
}

impl Fake {
    /// Answers the first bulks in these moods, all later ones as it should.
    pub async fn start(moods: &[Mood]) -> Self {
        let seen = Arc::new(Mutex::new(Seen { moods: moods.to_vec(), ..Seen::default() }));
        let router = Router::new().fallback(answer).with_state(Arc::clone(&seen));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, seen, _tasks: tasks }
    }

    /// Accepted documents: id, version, source.
    pub fn documents(&self) -> Vec<(String, i64, Value)> {
        self.seen.lock().unwrap().documents.clone()
    }

    /// How many bulks came.
    pub fn bulks(&self) -> usize {
        self.seen.lock().unwrap().bulks
    }

    /// What every request said of who asks.
    pub fn authorizations(&self) -> Vec<String> {
        self.seen.lock().unwrap().authorizations.clone()
    }

    /// The index template it was given.
    pub fn template(&self) -> Option<Value> {
        self.seen.lock().unwrap().template.clone()
    }
}

async fn answer(
    State(seen): State<Arc<Mutex<Seen>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut seen = seen.lock().unwrap();
    let who = headers.get("authorization").map_or("", |value| value.to_str().unwrap());
    seen.authorizations.push(who.to_owned());
    if uri.path() != "/_bulk" {
        if method == Method::PUT {
            seen.template = Some(serde_json::from_slice(&body).unwrap());
        }
        return axum::Json(json!({"nodes": {}})).into_response();
    }
    seen.bulks += 1;
    let mood = if seen.moods.is_empty() { Mood::Fine } else { seen.moods.remove(0) };
    if let Mood::Whole(status) = mood {
        return (StatusCode::from_u16(status).unwrap(), "not now").into_response();
    }
    let lines: Vec<Value> =
        body.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    let mut items = Vec::new();
    for (at, pair) in lines.chunks(2).enumerate() {
        let action = &pair[0]["index"];
        match mood {
            Mood::Half(status) if at % 2 == 1 => {
                items.push(json!({"index": {"status": status, "error": {"type": "busy", "reason": "not now"}}}));
            }
            _ => {
                let id = action["_id"].as_str().unwrap().to_owned();
                seen.documents.push((id, action["version"].as_i64().unwrap(), pair[1].clone()));
                items.push(json!({"index": {"status": 201}}));
            }
        }
    }
    axum::Json(json!({"items": items})).into_response()
}
