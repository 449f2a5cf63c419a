//! The whole thing in production dress: real processes on RabbitMQ, MariaDB and Elasticsearch.
//!
//! One module a subject. What is asked for is asked for from outside: the command line, the API, an
//! AMQP client of another language, SQL and the search server's own questions.

mod agreed;
mod doctor;
mod files;
mod nodes;
mod outages;
mod stopping;
mod theirs;
mod whole;

use std::time::Duration;

use serde_json::Value;
use spinor::client::Client;

use crate::support::{
    process::{Process, Spinor},
    site::Site,
};

/// A bound against hanging, no measure.
const PATIENCE: Duration = Duration::from_secs(90);

/// An installation on a site's servers that may run the kinds of these tests.
fn installation(site: &Site, rest: &str) -> Spinor {
    Spinor::new(&format!("{}{}{rest}", site.toml(), own("")))
}

/// What every configuration here says, besides its servers.
fn own(rest: &str) -> String {
    format!("data = 'data'\n{rest}[consumer]\nslots = 4\nqueues = ['one']\nkinds = ['*']\ngrace = '20s'\n")
}

/// `spinor up` with these flags, until it says that it is up.
async fn up(spinor: &Spinor, flags: &[&str]) -> Process {
    let process = spinor.start(&[&["up"], flags].concat());
    process.says("spinor is up", PATIENCE).await;
    process
}

/// A client of the process with the API.
fn client(spinor: &Spinor) -> Client {
    Client::unix(spinor.join("data/spinor.sock")).unwrap()
}

/// Ends a process in good order.
async fn drained(mut process: Process) {
    process.terminate();
    assert_eq!(process.wait(PATIENCE).await.code(), Some(0), "{}", process.stderr());
}

/// Runs a command that answers in JSON.
async fn ask(spinor: &Spinor, command: &[&str]) -> Value {
    let done = spinor.run(&[command, &["--json"]].concat()).await.expect_success();
    serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {}", done.stdout))
}
