//! `spinor status`: what runs, and how it is.

use std::fmt::Write as _;

use clap::Args;

use super::{Failure, ask::Global, output::Output, queues};
use crate::{
    api::Status,
    scaling::{GroupState, ReplicaPhase},
};

/// Flags of `status`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  spinor status\n  spinor status --json | jq .link.state")]
pub struct StatusCommand {}

impl StatusCommand {
    pub(super) async fn run(self, global: &Global, output: Output) -> Result<u8, Failure> {
        let status = global.client()?.status().await?;
        output.value(&status, text)
    }
}

fn text(status: &Status) -> String {
    let Status {
        info,
        broker,
        link,
        results,
        results_problem,
        state,
        state_problem,
        search,
        data,
        queues,
        groups,
        troubles,
        parts_alive,
        leader,
    } = status;
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<9}{value}");
    };
    line("spinor", format!("{}, process {} on {}", info.version, info.pid, info.host));
    line("parts", info.parts.join(", "));
    line("started", super::table::moment(info.started));
    let why = link.why.as_ref().map(|why| format!(": {}", without_address(why))).unwrap_or_default();
    line("broker", format!("{broker}, {}{why}", link.state));
    line(
        "results",
        results_problem.as_ref().map_or_else(
            || format!("{results}, up"),
            |why| format!("{results}, down: {why}; jobs run on, and their reports wait"),
        ),
    );
    line(
        "state",
        state_problem
            .as_ref()
            .map_or_else(|| format!("{state}, up"), |why| format!("{state}, down: {why}; jobs that need none run on")),
    );
    line("search", search.clone());
    line("data", data.clone());
    for part in parts_alive {
        line(&part.part, part.missing().unwrap_or_else(|| format!("{} alive", part.alive)));
    }
    if leader.is_some() {
        line("triggers", super::triggers::leader(leader.as_ref()).trim_end().to_owned());
    }
    for trouble in troubles {
        line("kind", super::table::clean(trouble));
    }
    for state in groups {
        line("group", group(state));
    }
    if queues.is_empty() && link.state != "up" {
        return format!("{text}\nThe queues are not known while the broker is {}.\n", link.state);
    }
    format!("{text}\n{}{}", queues::text(queues), queues::nobody_on(queues).concat())
}

/// What is wanted of a group, and what there is.
fn group(state: &GroupState) -> String {
    let mut text = format!("{}, ", state.group);
    let _ = match (state.wanted, &state.by) {
        (Some(wanted), Some(by)) => write!(text, "{wanted} wanted (by {by}), "),
        (Some(wanted), None) => write!(text, "{wanted} wanted, "),
        (None, _) => write!(text, "no number wanted, "),
    };
    if let Some(scaler) = &state.scaler {
        let done = scaler.done.map_or_else(
            || "nothing asked of the scaler yet".to_owned(),
            |done| format!("the scaler was asked for {done}"),
        );
        text += &done;
        let _ = scaler.problem.as_ref().map(|why| write!(text, "; its last run failed: {why}"));
    } else {
        let _ = write!(text, "{} running here", state.running);
        for (count, word) in
            [(state.starting, "starting"), (state.draining, "draining"), (state.restarting, "restarting")]
        {
            let _ = if count > 0 { write!(text, ", {count} {word}") } else { Ok(()) };
        }
        let _ = state.elsewhere.filter(|count| *count > 0).map(|count| write!(text, ", {count} elsewhere"));
    }
    let ends = state.replicas.iter().filter(|replica| replica.phase == ReplicaPhase::Restarting);
    for end in ends.filter_map(|replica| replica.last_exit.as_ref()) {
        let _ = write!(text, "; one ended: {end}");
    }
    let _ = state.problem.as_ref().map(|why| write!(text, "; {why}"));
    text
}

/// The broker's address stands before it already.
fn without_address(why: &str) -> &str {
    match why.split_once("`: ") {
        Some((address, rest)) if address.starts_with("amqp") => rest,
        _ => why,
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use spinor_consumers::broker::QueueStats;

    use super::{Status, text};
    use crate::{
        api::{Info, LinkState, QueueRow},
        scaling::{GroupState, ReplicaPhase, ReplicaState},
    };

    fn status(link: &str, ready: u64) -> Status {
        let stats = QueueStats { name: "default".to_owned(), ready, ..QueueStats::default() };
        let queues =
            if link == "up" { vec![QueueRow { stats, configured: true, ..QueueRow::default() }] } else { Vec::new() };
        let why = (link != "up").then(|| "amqp://u@mq:5672, virtual host `/`: Connection refused".to_owned());
        Status {
            info: Info::here(vec!["api".to_owned()]),
            broker: "amqp://u:***@mq/%2f".to_owned(),
            link: LinkState { state: link.to_owned(), why },
            results: "sqlite".to_owned(),
            results_problem: None,
            state: "results".to_owned(),
            state_problem: None,
            search: "off".to_owned(),
            data: "/d".to_owned(),
            queues,
            troubles: Vec::new(),
            parts_alive: Vec::new(),
            leader: None,
            groups: Vec::new(),
        }
    }

    #[test]
    fn queues_that_cannot_be_asked_are_not_said_to_be_none() {
        let down = text(&status("down", 0));
        assert!(down.contains("broker   amqp://u:***@mq/%2f, down: Connection refused\n"), "{down}");
        assert!(down.ends_with("\nThe queues are not known while the broker is down.\n"), "{down}");
    }

    #[test]
    fn what_is_wanted_of_a_group_and_what_runs_drains_and_starts_again_stand_apart() {
        let replica = ReplicaState {
            pid: 7,
            consumer: None,
            phase: ReplicaPhase::Restarting,
            started: Timestamp::UNIX_EPOCH,
            last_exit: Some("signal: 9 (SIGKILL)".to_owned()),
            again: None,
        };
        let draining = ReplicaState { phase: ReplicaPhase::Draining, last_exit: None, ..replica.clone() };
        let running = ReplicaState { phase: ReplicaPhase::Running, ..replica.clone() };
        let group = GroupState {
            group: "images".to_owned(),
            wanted: Some(5),
            by: Some("ann".to_owned()),
            elsewhere: Some(1),
            ..GroupState::default()
        };
        let group = group.with_replicas(vec![running, draining, replica]);
        let text = text(&Status { groups: vec![group], ..status("up", 0) });
        let line = "group    images, 5 wanted (by ann), 1 running here, 1 draining, 1 restarting, 1 elsewhere; one ended: signal: 9 (SIGKILL)\n";
        assert!(text.contains(line), "{text}");
    }

    #[test]
    fn jobs_that_nobody_takes_are_told_with_what_to_do() {
        let text = |ready| text(&status("up", ready));
        assert!(
            text(1).ends_with(
                "1 job waits on `default`, where no consumer is; start one, or name the queue in `consumer.queues`\n"
            ),
            "{}",
            text(1)
        );
        assert!(text(2).contains("2 jobs wait on `default`"), "{}", text(2));
        assert!(!text(0).contains("no consumer"), "{}", text(0));
    }
}
