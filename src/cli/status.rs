//! `spinor status`: what runs, and how it is.

use std::fmt::Write as _;

use clap::Args;

use super::{Failure, ask::Global, output::Output, queues};
use crate::api::Status;

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
    let Status { info, broker, link, results, results_problem, state, state_problem, search, data, queues } = status;
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
    if queues.is_empty() && link.state != "up" {
        return format!("{text}\nThe queues are not known while the broker is {}.\n", link.state);
    }
    format!("{text}\n{}{}", queues::text(queues), queues::nobody_on(queues).concat())
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
    use spinor_consumers::broker::QueueStats;

    use super::{Status, text};
    use crate::api::{Info, LinkState, QueueRow};

    fn status(link: &str, ready: u64) -> Status {
        let stats = QueueStats { name: "default".to_owned(), ready, ..QueueStats::default() };
        let queues = if link == "up" { vec![QueueRow { stats, configured: true, paused: None }] } else { Vec::new() };
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
        }
    }

    #[test]
    fn queues_that_cannot_be_asked_are_not_said_to_be_none() {
        let down = text(&status("down", 0));
        assert!(down.contains("broker   amqp://u:***@mq/%2f, down: Connection refused\n"), "{down}");
        assert!(down.ends_with("\nThe queues are not known while the broker is down.\n"), "{down}");
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
