//! The search server over plain HTTP: which product it is, the index template, bulks, questions.
//!
//! Owns connection, credentials and what a status means. Elasticsearch and OpenSearch differ here
//! and nowhere else.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use reqwest::{Certificate, Method, RequestBuilder, StatusCode, header};
use serde_json::{Value, json};

use super::{SearchAuth, SearchSettings};
use crate::{install_tls_provider, read_ca_file, tls};

/// `GET /` is left out of some builds; every build has this one, and its header tells the product.
const WHO: &str = "/_nodes/_local?filter_path=nodes.*.version";

/// Why the search server did not do it. Named by what the caller does next.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// Wait and try again: down, busy, full.
    #[error("the search server does not answer: {0}")]
    Unavailable(String),
    /// Ask a person: credentials, certificate, address, an index of somebody else's.
    #[error("{0}")]
    Misconfigured(String),
    /// Send less at once.
    #[error("the search server takes no request of that size")]
    TooLarge,
    /// Ask differently: it refuses the question.
    #[error("the search server refuses the question: {0}")]
    Refused(String),
}

/// The server; clones share its connections.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    auth: SearchAuth,
    prefix: String,
    shards: u32,
    replicas: u32,
    ready: Arc<Mutex<bool>>,
}

impl Client {
    /// A client; connects at its first request.
    pub fn new(settings: &SearchSettings) -> Result<Self, SearchError> {
        install_tls_provider();
        let wrong = |what: &str| SearchError::Misconfigured(format!("search: {what}"));
        let base = settings.url.trim_end_matches('/').to_owned();
        reqwest::Url::parse(&base).map_err(|error| wrong(&format!("the URL is none: {error}")))?;
        let mut builder = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(5))
            .timeout(Duration::from_secs(60))
            .tls_danger_accept_invalid_certs(settings.insecure);
        if let Some(file) = &settings.ca_file {
            let pem = read_ca_file(file).map_err(|error| wrong(&error))?;
            let certificates = Certificate::from_pem_bundle(pem.as_bytes())
                .map_err(|error| wrong(&format!("{}: {error}", file.display())))?;
            builder = builder.tls_certs_merge(certificates);
        }
        if !base.starts_with("https://") {
            // The machine's authorities are not missed where there are none.
            builder = builder.tls_certs_only([]);
        }
        let http = builder
            .build()
            .map_err(|error| wrong(&tls::explain(&error, "search").unwrap_or_else(|| error.to_string())))?;
        let SearchSettings { auth, prefix, shards, replicas, .. } = settings.clone();
        Ok(Self { http, base, auth, prefix, shards, replicas, ready: Arc::default() })
    }

    /// Makes sure, once, that the index template is there, in the words of the product.
    pub async fn ready(&self) -> Result<(), SearchError> {
        if *self.ready.lock().unwrap_or_else(PoisonError::into_inner) {
            return Ok(());
        }
        let asked = self.request(Method::GET, WHO);
        let answer = asked.send().await.map_err(unreachable)?;
        let elastic = answer.headers().get("x-elastic-product").is_some();
        judge(answer).await?;
        let path = format!("/_index_template/{}", self.prefix);
        let body = self.template(if elastic { "flattened" } else { "flat_object" });
        let put = self.request(Method::PUT, &path).json(&body);
        judge(put.send().await.map_err(unreachable)?).await.map_err(|error| match error {
            SearchError::Refused(why) => SearchError::Misconfigured(format!("the index template is refused: {why}")),
            other => other,
        })?;
        *self.ready.lock().unwrap_or_else(PoisonError::into_inner) = true;
        Ok(())
    }

    /// The server's version, asked with our credentials; changes nothing.
    pub async fn version(&self) -> Result<String, SearchError> {
        let asked = self.request(Method::GET, WHO);
        let body = judge(asked.timeout(Duration::from_secs(10)).send().await.map_err(unreachable)?).await?;
        let nodes: Value = serde_json::from_slice(&body).unwrap_or_default();
        let version = nodes["nodes"].as_object().and_then(|nodes| nodes.values().next()?["version"].as_str());
        version.map(str::to_owned).ok_or_else(|| {
            SearchError::Misconfigured("this is no search server: it does not tell its version".to_owned())
        })
    }

    fn template(&self, free: &str) -> Value {
        let word = json!({"type": "keyword", "ignore_above": 1024});
        let text = json!({"type": "text"});
        let time = json!({"type": "date"});
        let number = json!({"type": "long"});
        json!({
            "index_patterns": [format!("{}-*", self.prefix)],
            "priority": 150,
            "template": {
                "settings": {"number_of_shards": self.shards, "number_of_replicas": self.replicas},
                "mappings": {"dynamic": false, "properties": {
                    "id": word, "kind": word, "queue": word, "state": word, "run": word,
                    "consumer": word, "host": word, "cause": word,
                    "attempt": number, "replay": number, "duration": {"type": "double"},
                    "created": time, "started": time, "ended": time, "retry_at": time,
                    "error": text, "value": text, "output": text,
                    "args": {"type": free},
                }},
            },
        })
    }

    /// Sends a bulk; the answer's items are for the caller to judge.
    pub async fn bulk(&self, body: &[u8]) -> Result<Vec<u8>, SearchError> {
        let path = "/_bulk?filter_path=items.*.status,items.*.error.type,items.*.error.reason";
        let request = self
            .request(Method::POST, path)
            .header(header::CONTENT_TYPE, "application/x-ndjson")
            .body(Bytes::copy_from_slice(body));
        judge(request.send().await.map_err(unreachable)?).await
    }

    /// Asks all our indices.
    pub async fn search(&self, body: &Value) -> Result<Value, SearchError> {
        let path = format!("/{}-*/_search?ignore_unavailable=true", self.prefix);
        let request = self.request(Method::POST, &path).timeout(Duration::from_secs(10)).json(body);
        let answer = judge(request.send().await.map_err(unreachable)?).await?;
        serde_json::from_slice(&answer)
            .map_err(|error| SearchError::Unavailable(format!("its answer is none: {error}")))
    }

    /// Our indices, with the year and month each is for.
    pub async fn months(&self) -> Result<Vec<(String, i16, i8)>, SearchError> {
        let path =
            format!("/{}-*/_settings?filter_path=*.settings.index.uuid&expand_wildcards=open,closed", self.prefix);
        let answer = judge(self.request(Method::GET, &path).send().await.map_err(unreachable)?).await?;
        let all: Value = serde_json::from_slice(&answer).unwrap_or_default();
        let mut months = Vec::new();
        for index in all.as_object().into_iter().flat_map(|all| all.keys()) {
            // Somebody else's index of a like name has no month.
            let Some((year, month)) =
                index.strip_prefix(&format!("{}-", self.prefix)).and_then(|rest| rest.split_once('.'))
            else {
                continue;
            };
            if let (4, 2, Ok(year), Ok(month @ 1..=12)) = (year.len(), month.len(), year.parse(), month.parse()) {
                months.push((index.clone(), year, month));
            }
        }
        Ok(months)
    }

    /// Drops an index.
    pub async fn drop(&self, index: &str) -> Result<(), SearchError> {
        let path = format!("/{index}?ignore_unavailable=true");
        judge(self.request(Method::DELETE, &path).send().await.map_err(unreachable)?).await.map(drop)
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.auth {
            SearchAuth::None => request,
            SearchAuth::Basic { user, password } => request.basic_auth(user, Some(password)),
            SearchAuth::ApiKey(key) => request.header(header::AUTHORIZATION, format!("ApiKey {key}")),
        }
    }
}

#[allow(clippy::needless_pass_by_value, reason = "the shape of `map_err`")]
fn unreachable(error: reqwest::Error) -> SearchError {
    if let Some(why) = tls::explain(&error, "search") {
        return SearchError::Misconfigured(why);
    }
    // The URL may hold a password; the cause below says what happened.
    let error = error.without_url();
    let mut why = error.to_string();
    let mut below = std::error::Error::source(&error);
    while let Some(cause) = below {
        why = format!("{why}: {cause}");
        below = cause.source();
    }
    SearchError::Unavailable(why)
}

/// The body of a success, or what the status means.
async fn judge(answer: reqwest::Response) -> Result<Vec<u8>, SearchError> {
    let status = answer.status();
    let body = answer.bytes().await.map_err(unreachable)?;
    if status.is_success() {
        return Ok(body.into());
    }
    let text: String = String::from_utf8_lossy(&body).chars().take(500).collect();
    Err(match status {
        StatusCode::PAYLOAD_TOO_LARGE => SearchError::TooLarge,
        StatusCode::UNAUTHORIZED => {
            SearchError::Misconfigured(format!("the search server wants other credentials: {text}"))
        }
        StatusCode::FORBIDDEN if !text.contains("cluster_block_exception") => {
            SearchError::Misconfigured(format!("the search server forbids it: {text}"))
        }
        StatusCode::BAD_REQUEST => SearchError::Refused(text),
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => {
            SearchError::Misconfigured(format!("this is no search server ({status}): {text}"))
        }
        _ => SearchError::Unavailable(format!("{status}: {text}")),
    })
}
