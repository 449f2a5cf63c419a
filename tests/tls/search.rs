//! `https://` search. No job waits for a search server, so what is wrong with its certificate stands
//! in the log and is found by `doctor`. An API key is tried elsewhere, without TLS: the server's test
//! build cannot make one (its index of keys needs an analysis module that is left out).

use reqwest::Certificate;
use serde_json::{Value, json};

use super::{NAME, PATIENCE, assert_carries_a_job, by_another_name, file, installation};
use crate::support::{authority::Authority, eventually, process::Spinor, servers::PrivateServer};

const SECRET: &str = "hush-hush";

/// The server, asked beside the product.
struct Direct {
    http: reqwest::Client,
    url: String,
}

impl Direct {
    fn new(server: &PrivateServer, authority: &Authority) -> Self {
        spinor_consumers::install_tls_provider();
        let pem = std::fs::read(authority.file()).unwrap();
        let trusted = [Certificate::from_pem(&pem).unwrap()];
        let http = reqwest::Client::builder().tls_certs_only(trusted).build().unwrap();
        Self { http, url: server.url().to_owned() }
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let asked = self.http.post(format!("{}{path}", self.url)).json(&body);
        asked.send().await.expect("it answers").json().await.expect("JSON")
    }

    async fn count(&self) -> u64 {
        let counted = self.post("/spinor-jobs-*/_count", json!({"query": {"term": {"state": "succeeded"}}})).await;
        counted["count"].as_u64().unwrap_or_default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_are_indexed_over_tls_and_a_wrong_certificate_is_told() {
    let (ours, stranger) = (Authority::new(), Authority::new());
    let certificate = ours.certificate(NAME);
    let options = ["--tls", &certificate, "--password", SECRET];
    let server = PrivateServer::start_with("elasticsearch", &options).await;
    let direct = Direct::new(&server, &ours);
    let (url, ca) = (server.url(), file(&ours));
    let found = async || eventually("the job to be found", PATIENCE, async || direct.count().await == 1).await;
    assert_carries_a_job(&installation(&[("search", url), ("search_ca", &ca)]), found).await;

    let unsigned = ["certificate is refused", "PEM file", "`search_ca`"];
    assert_told(&installation(&[("search", url), ("search_ca", &file(&stranger))]), &unsigned).await;
    let named = ["not valid for name", "localhost", "127.0.0.1", "in `search`"];
    assert_told(&installation(&[("search", &by_another_name(url)), ("search_ca", &ca)]), &named).await;
}

/// A job ends all the same; one line of the log and the doctor say all of this, and no secret.
async fn assert_told(spinor: &Spinor, says: &[&str]) {
    let mut process = spinor.start(&["up"]);
    process.says("spinor is up", PATIENCE).await;
    spinor.run(&["publish", "noop", "--wait", "--timeout", "60s"]).await.expect_success();
    process.says("The search server needs a person", PATIENCE).await;
    let log = process.stderr();
    let line = log.lines().find(|line| line.contains("The search server needs a person")).expect("one");
    let line = line.replace("\\\"", "\"");
    for part in says {
        assert!(line.contains(part), "{part}: {log}");
    }
    process.terminate();
    assert_eq!(process.wait(PATIENCE).await.code(), Some(0), "{}", process.stderr());
    let looked = spinor.start(&["doctor"]).finish(PATIENCE).await;
    assert_eq!(looked.code(), 1, "{looked:?}");
    assert!(says.iter().all(|part| looked.stdout.contains(part)), "{looked:?}");
    assert!(!format!("{log}{looked:?}").contains(SECRET), "{log}{looked:?}");
}
