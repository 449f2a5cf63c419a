//! The search index over a real server, and over a small one that shows the faults a real one
//! cannot be asked for.

mod fake;
mod faults;
mod questions;

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};
use spinor_consumers::{
    broker::Address,
    entry::Entry,
    results::Results,
    search::{Search, SearchSettings, SearchView},
};
use uuid::Uuid;

use crate::support::{roads::Roads, running::Running};

pub const SOON: Duration = Duration::from_secs(120);

/// Settings with a prefix of the test's own, and short waits.
pub fn settings(url: &str) -> SearchSettings {
    let mut settings = SearchSettings::new(url);
    settings.prefix = format!("spinor-test-{}", Uuid::now_v7().simple());
    settings.first_wait = Duration::from_millis(50);
    settings.longest_wait = Duration::from_millis(500);
    settings
}

/// Starts a search loop on what the broker brings and what the record holds.
pub fn feed(roads: &Roads, settings: &SearchSettings, results: &Results) -> Running<SearchView> {
    let search = Search::new(roads.broker.clone(), settings.clone(), results.clone()).expect("the settings are right");
    Running::start(search.view(), |told| search.run(told))
}

/// Puts entries on their way to the index; how many packs.
pub async fn packs(roads: &Roads, entries: &[Entry]) -> u64 {
    roads.packs(&Address::Search, entries, 20).await
}

/// Asks the server beside the product.
pub struct Beside {
    http: reqwest::Client,
    url: String,
    prefix: String,
}

impl Beside {
    pub fn new(settings: &SearchSettings) -> Self {
        spinor_consumers::install_tls_provider();
        Self { http: reqwest::Client::new(), url: settings.url.clone(), prefix: settings.prefix.clone() }
    }

    pub async fn ask(&self, method: &str, path: &str, body: Value) -> Value {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if !body.is_null() {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    /// Every document, whichever index holds it.
    pub async fn documents(&self) -> Vec<Value> {
        self.ask("POST", &format!("/{}-*/_refresh", self.prefix), Value::Null).await;
        // The server answers with 10 000 at most; the order is also that of an id that is there twice.
        let mut all: Vec<Value> = Vec::new();
        loop {
            let mut page = json!({
                "size": 10_000,
                "query": {"match_all": {}},
                "sort": [{"id": {"order": "asc", "unmapped_type": "keyword"}}],
            });
            if let Some(last) = all.last() {
                page["search_after"] = last["sort"].clone();
            }
            let answer = self.ask("POST", &format!("/{}-*/_search", self.prefix), page).await;
            let hits = answer["hits"]["hits"].as_array().unwrap();
            if hits.is_empty() {
                return all;
            }
            all.extend(hits.iter().cloned());
        }
    }

    /// The ids of all documents, each at most once.
    pub async fn ids(&self) -> BTreeSet<Uuid> {
        let documents = self.documents().await;
        let ids: BTreeSet<Uuid> = documents.iter().map(|hit| hit["_id"].as_str().unwrap().parse().unwrap()).collect();
        assert_eq!(ids.len(), documents.len(), "an id is there twice");
        ids
    }

    /// Removes the test's indices and template.
    pub async fn clear(self) {
        let named = self.ask("GET", &format!("/_cat/indices/{}-*?format=json&h=index", self.prefix), Value::Null).await;
        for index in named.as_array().into_iter().flatten() {
            self.ask("DELETE", &format!("/{}", index["index"].as_str().unwrap()), Value::Null).await;
        }
        self.ask("DELETE", &format!("/_index_template/{}", self.prefix), Value::Null).await;
    }
}
