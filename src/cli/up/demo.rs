//! `spinor up --demo`: a minute of mixed work, so that every view of the page has something on it.
//!
//! Owns what is published. Goes through the API as anybody's program would, and stops when it is refused: the demo is
//! never why a Spinor ends.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use spinor_executors::Json;
use tokio_util::sync::CancellationToken;

use crate::{
    api::{
        Asked, NewRun,
        new_job::{NewJob, Retry},
        new_run::{NewJobRun, NewMember},
        new_trigger::NewTrigger,
    },
    client::{Client, ClientError},
    orchestrations::{
        compile::{Nodes, compile},
        parse::parse,
    },
};

/// The nodes of the demo's orchestration; this process is them, too.
pub(super) const NODES: [&str; 3] = ["demo-1", "demo-2", "demo-3"];

const LASTS: u32 = 60;
const TRIGGER: &str = "demo-tick";
const PLANS: &str = include_str!("demo.yaml");

/// Publishes for a minute, or until it shall stop.
pub(super) async fn play(client: Client, stop: CancellationToken) {
    let played = tokio::select! {
        played = all(&client) => played,
        () = stop.cancelled() => Ok(()),
    };
    match played {
        Ok(()) => tracing::info!("The demo has published all its jobs."),
        Err(error) => tracing::warn!(%error, "The demo ends early."),
    }
}

async fn all(client: &Client) -> Result<(), ClientError> {
    let tick = NewTrigger {
        name: Some(TRIGGER.to_owned()),
        every: Some("5s".to_owned()),
        // Whoever is killed in the middle leaves none that goes on.
        end: Some((Timestamp::now() + Duration::from_secs(2 * u64::from(LASTS))).to_string()),
        job: json_of(&json!({"kind": "wait", "args": {"ms": 200}})),
        by: Some("demo".to_owned()),
        ..NewTrigger::default()
    };
    // A data directory that saw the demo before has it.
    if client.add_trigger(&tick).await.is_err() {
        client.edit_trigger(TRIGGER, &tick).await?;
        // If it is paused.
        drop(client.resume_trigger(TRIGGER, false, &by()).await);
    }
    client.publish_run(&figures()).await?;
    client.submit_run(&checks()).await?;
    client
        .publish(&shell("for n in $(seq 1 55); do echo \"$(date +%T) imported part $n of 55\"; sleep 1; done"))
        .await?;
    let mut each = tokio::time::interval(Duration::from_secs(1));
    for second in 0..LASTS {
        each.tick().await;
        client.publish_batch(&at(second)).await?;
        if second == LASTS / 2 {
            client.publish_run(&figures()).await?;
        }
    }
    client.pause_trigger(TRIGGER, &by()).await.map(|_| ())
}

fn by() -> Asked {
    Asked { by: Some("demo".to_owned()), why: None }
}

/// What is published in this second: most of it ends well, some is tried again, some fails in one of three ways.
fn at(second: u32) -> Vec<NewJob> {
    let mut jobs: Vec<NewJob> =
        (0..2).map(|n| job("wait", &json!({"ms": 40 + (second * 97 + n * 131) % 300}))).collect();
    jobs.push(job("noop", &json!({"order": 1000 + second, "customer": format!("c-{}", second % 7)})));
    jobs.push(shell("uname -sr; uptime; df -h / | tail -n 1"));
    match second % 10 {
        2 | 7 => jobs.push(shell(&format!(
            "echo \"connecting to ledger-{second}\"; echo \"ledger: connection refused\" >&2; exit 7"
        ))),
        4 => jobs.push(shell("ls /srv/invoices-that-are-not-there")),
        6 => jobs.push(job("http", &json!({"url": "http://127.0.0.1:9/health"}))),
        8 => {
            // It succeeds at the second attempt.
            let retry = Some(Retry { max: 2, first: Some("2s".to_owned()), ..Retry::default() });
            let text = format!(
                "f=\"${{TMPDIR:-/tmp}}/spinor-demo-$PPID-{second}\"; test -e \"$f\" && rm \"$f\" || {{ touch \"$f\"; echo \"not ready yet\" >&2; exit 1; }}"
            );
            jobs.push(NewJob { retry, ..shell(&text) });
        }
        9 => jobs.push(NewJob { delay: Some("45s".to_owned()), ..job("noop", &json!({"reminder": second})) }),
        _ => {}
    }
    jobs
}

/// Six members that need each other.
fn figures() -> NewJobRun {
    let member = |name: &str, kind: &str, args: Value, needs: &[&str]| {
        let mut member = NewMember::new(name, kind, needs);
        member.job.args = json_of(&args);
        member
    };
    NewJobRun {
        name: "demo: figures of the day".to_owned(),
        members: vec![
            member("fetch", "command", json!({"shell": "echo fetching; sleep 2"}), &[]),
            member("clean", "wait", json!({"seconds": 3}), &["fetch"]),
            member("count", "wait", json!({"seconds": 2}), &["clean"]),
            member("draw", "command", json!({"shell": "sleep 4; echo drawn"}), &["clean"]),
            member("check", "wait", json!({"seconds": 1}), &["fetch"]),
            member("report", "command", json!({"shell": "echo the report is made"}), &["count", "draw", "check"]),
        ],
        ..NewJobRun::default()
    }
}

/// Steps on three nodes.
fn checks() -> NewRun {
    let nodes = NODES.map(str::to_owned);
    let files: Vec<_> = parse("demo.yaml", PLANS).into_iter().collect();
    let ready = compile(&files, Nodes { chosen: &nodes, answering: &[] }).unwrap_or_default();
    NewRun {
        name: "demo: check the fleet".to_owned(),
        plans: ready.into_iter().map(|one| one.plan).collect(),
        ..NewRun::default()
    }
}

fn job(kind: &str, args: &Value) -> NewJob {
    NewJob { args: json_of(args), ..NewJob::new(kind) }
}

fn shell(text: &str) -> NewJob {
    job("command", &json!({"shell": text}))
}

fn json_of(value: &Value) -> Option<Json> {
    Json::of(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_of_the_demo_gets_a_plan() {
        let plans = checks().plans;
        assert_eq!(plans.iter().map(|plan| plan.node.as_str()).collect::<Vec<_>>(), NODES);
    }
}
