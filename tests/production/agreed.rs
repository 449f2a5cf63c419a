//! What all consumers agree on, across three of them: as processes on RabbitMQ, one of which is killed
//! while it holds the limit, and as replicas in the one process, which is killed whole. Then everything
//! is started again, and it still holds.

use std::{collections::BTreeSet, fs};

use serde_json::{Value, json};

use super::{PATIENCE, ask, drained, up};
use crate::support::{
    eventually,
    process::{Process, Spinor},
    site::Site,
    witness,
};

/// So many may be inside at once.
const INSIDE: usize = 2;
/// Jobs that want to get inside.
const CROWD: usize = 6;

/// What job `NUMBER` does: writes down which jobs are inside with it, by asking which of them are alive,
/// and stays until it is let go. What is left of a killed execution counts as the same job.
const TURN: &str = "touch in-NUMBER-$$; for f in in-*; do \
                    case $(cut -d' ' -f3 /proc/${f##*-}/stat 2>/dev/null) in ''|Z|X) ;; *) echo ${f%-*};; esac; \
                    done | sort -u | wc -l >> most; \
                    while ! test -e go; do sleep 0.05; done; rm in-NUMBER-$$; echo NUMBER >> left";

/// Three consumers and what they need.
enum Crew {
    Processes { _site: Site, spinor: Spinor, front: Option<Process>, consumers: Vec<Process> },
    Replicas { spinor: Spinor, up: Option<Process> },
}

impl Crew {
    async fn on_rabbitmq() -> Self {
        let site = Site::new().await;
        let spinor = Spinor::new(&format!("{}{}", site.toml(), settings("kinds = ['*']\n")));
        let mut crew = Self::Processes { _site: site, spinor, front: None, consumers: Vec::new() };
        crew.start().await;
        crew
    }

    async fn in_one_process() -> Self {
        let mut crew = Self::Replicas { spinor: Spinor::new(&settings("")), up: None };
        crew.start().await;
        crew.told(&["consumers", "scale", "crew", "--replicas", "3"]).await;
        crew.are_three().await;
        crew
    }

    fn spinor(&self) -> &Spinor {
        match self {
            Self::Processes { spinor, .. } | Self::Replicas { spinor, .. } => spinor,
        }
    }

    async fn start(&mut self) {
        match self {
            Self::Processes { spinor, front, consumers, .. } => {
                *front = Some(up(spinor, &["--only", "api,recorder"]).await);
                for name in ["one", "two", "three"] {
                    consumers.push(up(spinor, &["--only", "consumer", "--data", name]).await);
                }
            }
            Self::Replicas { spinor, up: process } => *process = Some(up(spinor, &[]).await),
        }
    }

    /// Ends everything in good order and starts it again.
    async fn restart(&mut self) {
        self.stop().await;
        self.start().await;
        self.are_three().await;
    }

    async fn stop(&mut self) {
        match self {
            Self::Processes { front, consumers, .. } => {
                for consumer in consumers.drain(..) {
                    drained(consumer).await;
                }
                drained(front.take().expect("it runs")).await;
            }
            Self::Replicas { up, .. } => drained(up.take().expect("it runs")).await,
        }
    }

    /// Kills a consumer that runs a job, or the one process, and starts it again.
    async fn kill(&mut self) {
        match self {
            Self::Processes { spinor, consumers, .. } => {
                // The guardian is a child, too.
                let busy = |consumer: &Process| witness::children(consumer.id()).len() > 1;
                let at = consumers.iter().position(busy).expect("somebody runs a job");
                let mut victim = consumers.swap_remove(at);
                victim.kill9();
                victim.wait(PATIENCE).await;
                consumers.push(up(spinor, &["--only", "consumer", "--data", "four"]).await);
            }
            Self::Replicas { spinor, up: process } => {
                let mut victim = process.take().expect("it runs");
                victim.kill9();
                victim.wait(PATIENCE).await;
                *process = Some(up(spinor, &[]).await);
            }
        }
    }

    async fn are_three(&self) {
        eventually("three consumers that take jobs", PATIENCE, async || {
            let alive = self.told(&["consumers", "ls"]).await;
            let alive = alive.as_array().expect("a list").iter();
            alive.filter(|row| row["draining"] == false && row["silent_ms"].as_u64() < Some(10_000)).count() == 3
        })
        .await;
    }

    async fn told(&self, command: &[&str]) -> Value {
        ask(self.spinor(), command).await
    }

    async fn publish(&self, arguments: &[&str], script: &str, count: usize) -> Vec<String> {
        let mut ids = Vec::new();
        for number in 0..count {
            let args = json!({"shell": script.replace("NUMBER", &number.to_string())}).to_string();
            let command = [&["publish", "command", "--queue", "one", "--args", &args], arguments].concat();
            ids.push(self.told(&command).await["id"].as_str().expect("an id").to_owned());
        }
        ids
    }

    /// Pauses the queue and waits until all have heard it.
    async fn pause(&self) {
        self.told(&["queues", "pause", "one", "--why", "a test"]).await;
        eventually("all to leave it alone", PATIENCE, async || {
            let alive = self.told(&["consumers", "ls"]).await;
            alive.as_array().expect("a list").iter().all(|row| row["intake"] == "paused: one")
        })
        .await;
    }

    /// The processes that are inside now.
    fn inside(&self) -> usize {
        let entries = fs::read_dir(self.spinor().path()).unwrap().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let pids = names.filter_map(|name| name.strip_prefix("in-")?.rsplit_once('-')?.1.parse::<u32>().ok());
        pids.filter(|pid| witness::runs(*pid)).count()
    }

    /// Numbers that jobs wrote, one a line.
    fn lines(&self, file: &str) -> Vec<usize> {
        let text = fs::read_to_string(self.spinor().join(file)).unwrap_or_default();
        text.lines().map(|line| line.trim().parse().unwrap_or(0)).collect()
    }

    async fn ended(&self, ids: &[String], state: &str) {
        for id in ids {
            let what = format!("{id} to be {state}");
            eventually(&what, PATIENCE, async || self.told(&["jobs", "show", id]).await["state"] == state).await;
        }
    }
}

fn settings(kinds: &str) -> String {
    format!(
        "data = 'data'\n[consumer]\ngroup = 'crew'\nslots = 4\nqueues = ['one']\ngrace = '2s'\n{kinds}[limits.door]\nat_once = {INSIDE}\n"
    )
}

async fn a_limit_holds(mut crew: Crew) {
    crew.are_three().await;
    let ids = crew.publish(&["--limit", "door"], TURN, CROWD).await;
    let full = async |crew: &Crew| eventually("a full house", PATIENCE, async || crew.inside() == INSIDE).await;
    full(&crew).await;
    crew.kill().await;
    full(&crew).await;
    crew.restart().await;
    full(&crew).await;
    fs::write(crew.spinor().join("go"), "").unwrap();
    crew.ended(&ids, "succeeded").await;
    assert!(crew.lines("most").iter().all(|most| *most <= INSIDE), "{:?}", crew.lines("most"));
    // One that was in hand when its consumer was killed may have come twice.
    let left: BTreeSet<usize> = crew.lines("left").into_iter().collect();
    assert_eq!(left.len(), CROWD);
    crew.stop().await;
}

async fn a_pause_holds(mut crew: Crew) {
    crew.are_three().await;
    crew.pause().await;
    let ids = crew.publish(&[], "echo x >> ran", CROWD).await;
    crew.kill_idle().await;
    crew.restart().await;
    for id in &ids {
        assert_eq!(crew.told(&["jobs", "why", id]).await["reason"], "paused");
    }
    assert!(crew.lines("ran").is_empty());
    crew.told(&["queues", "resume", "one"]).await;
    crew.ended(&ids, "succeeded").await;
    assert_eq!(crew.lines("ran").len(), CROWD);
    crew.stop().await;
}

async fn a_cancel_holds(mut crew: Crew) {
    crew.are_three().await;
    crew.pause().await;
    let ids = crew.publish(&[], "echo x >> ran", CROWD).await;
    let (cancelled, others) = ids.split_at(CROWD / 2);
    for id in cancelled {
        crew.told(&["jobs", "cancel", id, "--why", "not wanted"]).await;
    }
    crew.kill_idle().await;
    crew.restart().await;
    crew.told(&["queues", "resume", "one"]).await;
    crew.ended(others, "succeeded").await;
    crew.ended(cancelled, "cancelled").await;
    assert_eq!(crew.lines("ran").len(), CROWD / 2);
    // And one that runs, wherever that is.
    let running = crew.publish(&[], TURN, 1).await;
    eventually("it to run", PATIENCE, async || crew.inside() == 1).await;
    crew.told(&["jobs", "cancel", &running[0]]).await;
    crew.ended(&running, "cancelled").await;
    assert_eq!(crew.inside(), 0);
    crew.stop().await;
}

async fn a_unique_key_holds(mut crew: Crew) {
    crew.are_three().await;
    let unique = ["--unique", "door"];
    let first = crew.publish(&unique, TURN, 1).await;
    eventually("it to run", PATIENCE, async || crew.inside() == 1).await;
    let refused = async |crew: &Crew| {
        let args = json!({"shell": "echo x >> ran"}).to_string();
        let again = ["publish", "command", "--queue", "one", "--args", &args, "--unique", "door"];
        let again = crew.spinor().run(&again).await;
        assert!(again.code() == 1 && again.stderr.contains(&first[0]), "{again:?}");
    };
    refused(&crew).await;
    crew.kill().await;
    refused(&crew).await;
    crew.restart().await;
    refused(&crew).await;
    fs::write(crew.spinor().join("go"), "").unwrap();
    crew.ended(&first, "succeeded").await;
    let next = crew.publish(&unique, "echo x >> ran", 1).await;
    crew.ended(&next, "succeeded").await;
    assert_eq!(crew.lines("ran").len(), 1);
    crew.stop().await;
}

impl Crew {
    /// Kills one that has nothing to do, or the one process, and starts it again.
    async fn kill_idle(&mut self) {
        if let Self::Processes { spinor, consumers, .. } = self {
            let mut victim = consumers.remove(0);
            victim.kill9();
            victim.wait(PATIENCE).await;
            consumers.push(up(spinor, &["--only", "consumer", "--data", "four"]).await);
        } else {
            self.kill().await;
        }
    }
}

/// Each on both.
macro_rules! both {
    ($($name:ident: $case:ident,)*) => {
        mod on_rabbitmq { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$case(super::Crew::on_rabbitmq().await).await; }
        )* }
        mod in_one_process { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$case(super::Crew::in_one_process().await).await; }
        )* }
    };
}

both! {
    a_limit_holds_over_three_consumers_a_kill_and_a_restart: a_limit_holds,
    a_pause_holds_over_three_consumers_a_kill_and_a_restart: a_pause_holds,
    a_cancel_reaches_three_consumers_over_a_kill_and_a_restart: a_cancel_holds,
    a_unique_key_is_one_jobs_over_three_consumers_a_kill_and_a_restart: a_unique_key_holds,
}
