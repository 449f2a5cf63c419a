//! What people see of a run while it goes on: a line for each node on a terminal, else a plain
//! line a second at most, or nothing.
//!
//! Owns the form of these lines and of a failed step. Writes to standard error, so that standard
//! output carries the result alone. Refuses to decide whether the run succeeded.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use spinor_executors::{Output, State, StepReport, StepState};
use tokio::time::Instant;

use super::view::Update;

/// More nodes than this get no line of their own.
const MOST_LINES: usize = 24;
/// So many of the last lines of a failed step's standard error are shown.
const LAST_LINES: usize = 8;
/// Plain lines come this far apart.
const APART: Duration = Duration::from_secs(1);

/// Shows a run.
pub struct Display {
    how: How,
    nodes: BTreeMap<String, Node>,
    failed: u64,
}

enum How {
    Bars(MultiProgress),
    Lines(Instant),
    Quiet,
}

struct Node {
    bar: Option<ProgressBar>,
    done: u64,
    of: u64,
}

impl Display {
    /// A display for these nodes and their numbers of steps. Without progress only problems and
    /// failed steps are shown.
    pub fn new<'a>(terminal: bool, progress: bool, nodes: impl IntoIterator<Item = (&'a str, u32)>) -> Self {
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        let mut display = Self { how: How::Quiet, nodes: BTreeMap::new(), failed: 0 };
        for (name, steps) in nodes {
            display.nodes.insert(name.to_owned(), Node { bar: None, done: 0, of: steps.into() });
        }
        if !progress {
            return display;
        }
        if !terminal {
            display.how = How::Lines(Instant::now());
            return display;
        }
        let width = display.nodes.keys().map(|name| name.chars().count()).max().unwrap_or(0);
        for (name, node) in display.nodes.iter_mut().take(MOST_LINES) {
            let bar = ProgressBar::new(node.of).with_prefix(format!("{name:width$}")).with_style(style());
            let bar = bars.add(bar);
            bar.tick();
            node.bar = Some(bar);
        }
        display.how = How::Bars(bars);
        display
    }

    /// Takes over what was seen.
    pub fn update(&mut self, update: &Update) {
        match update {
            Update::Step(step) => self.step(step),
            Update::Member { node, state } => self.member(node, *state),
            Update::Note(text) => self.say(&format!("note: {text}")),
            Update::Problem(text) => self.say(&format!("problem: {text}")),
            Update::Published | Update::Output { .. } => {}
        }
    }

    fn step(&mut self, step: &StepReport) {
        if let Some(node) = self.nodes.get_mut(&step.node) {
            node.done += 1;
            if let Some(bar) = &node.bar {
                bar.inc(1);
                bar.set_message(printable(step.name.lines().next().unwrap_or_default()));
            }
        }
        if matches!(step.state, StepState::Failed | StepState::Interrupted) {
            self.failed += 1;
            self.say(&failed_step(step));
        }
        self.plain_line();
    }

    fn member(&mut self, node: &str, state: State) {
        if let Some(bar) = self.nodes.get(node).and_then(|node| node.bar.as_ref()) {
            bar.abandon_with_message(state.word());
        }
    }

    fn plain_line(&mut self) {
        let now = Instant::now();
        let How::Lines(last) = &mut self.how else { return };
        if now.duration_since(*last) < APART {
            return;
        }
        *last = now;
        let (done, of) = self.nodes.values().fold((0, 0), |(done, of), node| (done + node.done, of + node.of));
        let failed = if self.failed > 0 { format!(", {} failed", self.failed) } else { String::new() };
        self.say(&format!("{done} of {of} steps on {} nodes{failed}", self.nodes.len()));
    }

    /// A line above the bars.
    pub fn say(&self, text: &str) {
        match &self.how {
            How::Bars(bars) => bars.suspend(|| eprintln!("{text}")),
            How::Lines(_) | How::Quiet => eprintln!("{text}"),
        }
    }

    /// Takes the lines of the nodes away.
    pub fn finish(&mut self) {
        for node in self.nodes.values() {
            if let Some(bar) = &node.bar {
                bar.finish_and_clear();
            }
        }
        self.how = How::Quiet;
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{prefix} [{bar:24}] {pos}/{len} {wide_msg}")
        .map_or_else(|_| ProgressStyle::default_bar(), |style| style.progress_chars("=> "))
}

/// A step that did not succeed, with its name, how it ended and the last it said.
pub fn failed_step(step: &StepReport) -> String {
    let word = if step.state == StepState::Interrupted { "was interrupted" } else { "failed" };
    let mut text = format!("{}: step {}.{} `{}` {word}", step.node, step.part, step.item, step.name);
    match step.exit.map(|exit| (exit.code, exit.signal)) {
        Some((Some(code), _)) => _ = write!(text, " with exit code {code}"),
        Some((None, Some(signal))) => _ = write!(text, " by signal {signal}"),
        _ => {}
    }
    // The failure of an exit code says no more than the code itself.
    if let Some(failure) = step.failure.as_ref().filter(|_| step.exit.is_none_or(|exit| exit.code.is_none())) {
        _ = write!(text, ": {}", failure.message);
    }
    for line in last_lines(&step.stderr) {
        _ = write!(text, "\n    {line}");
    }
    printable(&text)
}

/// What a step says must not steer the terminal: control characters but newline and tab are shown
/// as `\xNN`.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() && !matches!(letter, '\n' | '\t') {
            _ = write!(shown, "\\x{:02x}", u32::from(letter));
        } else {
            shown.push(letter);
        }
    }
    shown
}

fn last_lines(output: &Output) -> Vec<&str> {
    let text = if output.tail.is_empty() { &output.head } else { &output.tail };
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].to_vec()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use spinor_executors::{Cause, Exit, Failure, Output, StepReport, StepState};
    use uuid::Uuid;

    use super::failed_step;

    #[test]
    fn a_failed_step_is_told_with_node_step_exit_code_and_its_last_lines() {
        let many: String = (1..=20).map(|line| format!("line {line}\n")).collect();
        let mut step = StepReport {
            job: Uuid::nil(),
            run: None,
            node: "web-1".to_owned(),
            step: 4,
            part: 1,
            item: 2,
            name: "unit tests".to_owned(),
            verb: "RUN".to_owned(),
            state: StepState::Failed,
            failure: Some(Failure { cause: Cause::Exit, message: "exit code 7".to_owned() }),
            exit: Some(Exit { pid: 1, code: Some(7), signal: None }),
            stdout: Output::default(),
            stderr: Output { bytes: many.len() as u64, head: many, ..Output::default() },
            started: Timestamp::UNIX_EPOCH,
            micros: 1,
        };
        let told = failed_step(&step);
        assert_eq!(told.lines().next(), Some("web-1: step 1.2 `unit tests` failed with exit code 7"));
        assert_eq!((told.lines().count(), told.lines().last()), (9, Some("    line 20")));
        step.stderr = Output { bytes: 5, head: "\u{1b}[2Jx\r".to_owned(), ..Output::default() };
        assert_eq!(failed_step(&step).lines().last(), Some("    \\x1b[2Jx\\x0d"));
        step.exit = None;
        step.stderr = Output::default();
        step.failure = Some(Failure { cause: Cause::Timeout, message: "ended after 5 s".to_owned() });
        assert_eq!(failed_step(&step), "web-1: step 1.2 `unit tests` failed: ended after 5 s");
    }
}
