//! `spinor doctor` on real servers: it logs in, changes nothing, and shows no password.

use serde_json::Value;
use spinor::config::Endpoint;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::{PATIENCE, installation, own};
use crate::support::{
    process::{Finished, Spinor},
    servers::search_url,
    site::Site,
};

const WRONG: &str = "hush-hush";

/// The verdicts and details on one subject, each as one line.
fn on(done: &Finished, subject: &str) -> Vec<String> {
    let checks: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done:?}"));
    let ours = checks.as_array().expect("a list").iter().filter(|check| check["what"] == subject);
    ours.map(|check| format!("{} {}", check["verdict"].as_str().unwrap(), check["detail"].as_str().unwrap())).collect()
}

/// Asks the doctor, who must find this subject wrong and tell no password.
async fn assert_refused(spinor: &Spinor, subject: &str, why: &str) {
    let done = spinor.start(&["doctor", "--json"]).finish(PATIENCE).await;
    assert_eq!(done.code(), 1, "{done:?}");
    let told = on(&done, subject);
    assert!(told.len() == 1 && told[0].starts_with("fail ") && told[0].contains(why), "{told:?}");
    assert!(!format!("{done:?}").contains(WRONG), "{done:?}");
    let shown = spinor.start(&["doctor"]).finish(PATIENCE).await;
    assert!(shown.code() == 1 && shown.stdout.contains("FAIL"), "{shown:?}");
    assert!(!format!("{shown:?}").contains(WRONG), "{shown:?}");
}

fn wrong(url: &str) -> String {
    Endpoint::new(url).with_password(WRONG).reveal().to_owned()
}

#[tokio::test]
async fn doctor_logs_in_to_each_server_and_leaves_it_as_it_was() {
    let site = Site::new().await;
    let spinor = Spinor::new(&format!("{}search = {:?}\n{}", site.toml(), search_url(), own("")));
    let done = spinor.start(&["doctor", "--json"]).finish(PATIENCE).await;
    assert_eq!(done.code(), 0, "{done:?}");
    for (subject, part) in [("broker", "logged in"), ("results", "not there yet"), ("search", "logged in to version")] {
        let told = on(&done, subject);
        assert!(told.len() == 1 && told[0].starts_with("ok ") && told[0].contains(part), "{told:?}");
    }
    let tables = sqlx::query("SHOW TABLES").fetch_all(&mut site.sql().await).await.expect("the tables");
    assert!(tables.is_empty(), "it made {} tables", tables.len());
}

#[tokio::test]
async fn a_password_that_the_broker_refuses_fails_and_is_not_shown() {
    let mut site = Site::new().await;
    let right = std::mem::take(&mut site.broker);
    site.broker = wrong(&right);
    assert_refused(&installation(&site, ""), "broker", "user or password is refused").await;
    site.broker = right;
}

#[tokio::test]
async fn a_password_that_the_database_refuses_fails_and_is_not_shown() {
    let mut site = Site::new().await;
    site.results = wrong(&site.results);
    assert_refused(&installation(&site, ""), "results", "Access denied").await;
}

#[tokio::test]
async fn credentials_that_the_search_server_refuses_fail_and_are_not_shown() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = wrong(&format!("http://me@{}", listener.local_addr().expect("bound")));
    let refuse = async {
        loop {
            let (mut stream, _) = listener.accept().await.expect("one comes");
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") && stream.read_buf(&mut asked).await.expect("it reads") > 0 {}
            let asked = String::from_utf8(asked).expect("text");
            assert!(asked.starts_with("GET ") && asked.contains("authorization: Basic "), "{asked}");
            let answer = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            stream.write_all(answer).await.expect("it writes");
        }
    };
    let spinor = Spinor::new(&format!("search = {url:?}\n{}", own("")));
    tokio::select! {
        () = assert_refused(&spinor, "search", "wants other credentials") => {}
        () = refuse => {}
    }
}
