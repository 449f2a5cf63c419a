//! Failures and dead letters, from outside: they are looked at, mended and started anew, by command
//! line and API, on real processes; a replay of many survives the death of who works on it.

mod many;
mod one;

use std::time::Duration;

use serde_json::{Value, json};
use spinor::{api::new_job::NewJob, client::Client};
use spinor_executors::Json;
use uuid::Uuid;

use crate::support::{
    eventually,
    process::{Process, Spinor},
};

const PATIENCE: Duration = Duration::from_secs(60);

/// Everything in one process.
async fn everything(spinor: &Spinor) -> (Process, Client) {
    let process = spinor.start(&["up"]);
    process.says("spinor is up", PATIENCE).await;
    (process, client(spinor))
}

fn client(spinor: &Spinor) -> Client {
    Client::unix(spinor.join("data/spinor.sock")).unwrap()
}

fn installation(rest: &str) -> Spinor {
    Spinor::new(&format!("data = 'data'\n[log]\nlevel = 'info'\n{rest}"))
}

/// Fails, in words that differ from job to job, until the file `mended` is there; then writes a line
/// to the ledger and waits until it is on disk.
const NEEDY: &str = "if [ ! -e mended ]; then echo \"no answer to $JOB from /srv/$JOB\" >&2; exit 3; fi; \
                     echo \"$JOB $SPINOR_RUN\" >> ledger && exec sync -d ledger";

fn needy() -> NewJob {
    let mut job = NewJob::new("command");
    let id = Uuid::now_v7();
    job.id = Some(id);
    job.args = Some(Json::of(&json!({"shell": NEEDY, "env": {"JOB": id.to_string()}})).unwrap());
    job
}

async fn publish(client: &Client, job: &NewJob) -> Uuid {
    client.publish(job).await.unwrap().id
}

/// Awaits a job's end in this state, at this replay.
async fn ended(client: &Client, id: Uuid, state: &str, replay: u32) {
    eventually(&format!("job {id} to be {state} at replay {replay}"), PATIENCE, async || {
        client.job(id).await.is_ok_and(|record| record.row.state.word() == state && record.row.replay == replay)
    })
    .await;
}

/// Runs a command that answers in JSON.
async fn ask(spinor: &Spinor, command: &[&str]) -> Value {
    let done = spinor.run(&[command, &["--json"]].concat()).await.expect_success();
    serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {}", done.stdout))
}

async fn drained(mut process: Process) {
    process.terminate();
    assert_eq!(process.wait(PATIENCE).await.code(), Some(0), "{}", process.stderr());
}
