//! The file format: a list of orchestrations, each with its jobs.
//!
//! Owns which keys there are, what they take and what is said of anything else. The format is
//! Directord's, with RUN as the only verb and `on_interrupt` as a key of our own. Every problem of
//! a file is told at once, with line and column. Refuses to know nodes: that is `compile`'s.

mod job;

use super::{
    problem::{Problems, nearest, suggestion},
    run_text::truth,
    source::{self, Entry, Node, Value},
};

pub use job::Job;

/// One file, as it is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its orchestrations, in order.
    pub orchestrations: Vec<Orchestration>,
}

/// One orchestration: jobs that run in order on its targets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Orchestration {
    /// For people; empty when the file gives none.
    pub name: String,
    /// The nodes it is for; all that answer when `None`.
    pub targets: Option<Vec<String>>,
    /// Nodes instead of `targets`.
    pub assign: Option<Vec<String>>,
    /// Beside the other orchestrations instead of after them.
    pub beside: bool,
    /// What is done, in order.
    pub jobs: Vec<Job>,
}

const ORCHESTRATION_KEYS: [&str; 5] = ["jobs", "targets", "assign", "async", "name"];
/// A longer name would make a longer queue name than AMQP carries.
const LONGEST_NODE: usize = 200;

/// Reads the text of one file; `file` is its name in the problems.
pub fn parse(file: &str, text: &str) -> Result<File, Problems> {
    let mut problems = Problems::of(file);
    let tree = source::read(text, &mut problems);
    let orchestrations = match tree {
        Some(Node { value: Value::List(nodes), .. }) => {
            nodes.iter().filter_map(|node| orchestration(node, &mut problems)).collect()
        }
        Some(node) => {
            problems.at(node.place, format!("found {}, expected a list of orchestrations", node.found()));
            Vec::new()
        }
        None => Vec::new(),
    };
    if problems.is_empty() && orchestrations.is_empty() {
        problems.whole("the file is empty, expected a list of orchestrations");
    }
    if problems.is_empty() { Ok(File { orchestrations }) } else { Err(problems) }
}

fn orchestration(node: &Node, problems: &mut Problems) -> Option<Orchestration> {
    let Value::Map(entries) = &node.value else {
        let keys = ORCHESTRATION_KEYS.join(", ");
        problems.at(node.place, format!("found {}, expected an orchestration with the keys {keys}", node.found()));
        return None;
    };
    let mut found = Orchestration::default();
    let mut has_jobs = false;
    for entry in entries {
        match entry.key.as_str() {
            "jobs" => {
                has_jobs = true;
                found.jobs = jobs(&entry.value, problems);
            }
            "targets" => found.targets = nodes("targets", &entry.value, problems),
            "assign" => found.assign = nodes("assign", &entry.value, problems),
            "async" => found.beside = yes_or_no(entry, problems),
            "name" => found.name = word(entry, problems),
            _ => unknown(entry, &ORCHESTRATION_KEYS, problems),
        }
    }
    // A misspelt `jobs` was told already.
    if !has_jobs && !entries.iter().any(|entry| nearest(&entry.key, &["jobs"]).is_some()) {
        problems.at(node.place, "the orchestration has no key `jobs`");
    }
    Some(found)
}

fn jobs(node: &Node, problems: &mut Problems) -> Vec<Job> {
    match &node.value {
        Value::List(nodes) if !nodes.is_empty() => nodes.iter().filter_map(|node| job::read(node, problems)).collect(),
        Value::List(_) => {
            problems.at(node.place, "`jobs` is empty, expected at least one job");
            Vec::new()
        }
        _ => {
            problems.at(node.place, format!("`jobs`: found {}, expected a list of jobs", node.found()));
            Vec::new()
        }
    }
}

fn nodes(key: &str, node: &Node, problems: &mut Problems) -> Option<Vec<String>> {
    let Value::List(items) = &node.value else {
        let hint = node.text().map_or_else(String::new, |text| format!(" such as `[{text}]`"));
        problems.at(node.place, format!("`{key}`: found {}, expected a list of nodes{hint}", node.found()));
        return None;
    };
    if items.is_empty() {
        problems.at(node.place, format!("`{key}` is empty; leave it out to mean every node that answers"));
        return None;
    }
    let mut names: Vec<String> = Vec::new();
    for item in items {
        match item.text().ok_or_else(|| format!("found {}, expected the name of a node", item.found())).and_then(named)
        {
            Ok(name) if names.iter().any(|known| known == name) => {}
            Ok(name) => names.push(name.to_owned()),
            Err(why) => problems.at(item.place, format!("`{key}`: {why}")),
        }
    }
    Some(names)
}

/// Is it a node's name? The same rule holds for `--target`.
pub fn named(name: &str) -> Result<&str, String> {
    let fits = !name.is_empty() && name.len() <= LONGEST_NODE;
    if fits && !name.chars().any(|letter| letter.is_whitespace() || letter.is_control() || letter == ',') {
        Ok(name)
    } else {
        Err(format!("found `{name}`, expected the name of a node: no blanks, no commas, at most {LONGEST_NODE} bytes"))
    }
}

fn yes_or_no(entry: &Entry, problems: &mut Problems) -> bool {
    entry.value.text().and_then(truth).unwrap_or_else(|| {
        let what = format!("`{}`: found {}, expected true or false", entry.key, entry.value.found());
        problems.at(entry.value.place, what);
        false
    })
}

fn word(entry: &Entry, problems: &mut Problems) -> String {
    entry.value.text().map_or_else(
        || {
            problems.at(entry.value.place, format!("`{}`: found {}, expected text", entry.key, entry.value.found()));
            String::new()
        },
        str::to_owned,
    )
}

fn unknown(entry: &Entry, keys: &[&str], problems: &mut Problems) {
    let mut known: Vec<&str> = keys.to_vec();
    if keys.contains(&"RUN") {
        known.extend(job::OTHER_VERBS);
    }
    let hint = suggestion(&entry.key, &known);
    problems.at(entry.place, format!("unknown key `{}`, expected one of {}{hint}", entry.key, keys.join(", ")));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use spinor_executors::plan::OnInterrupt;

    use super::parse;

    #[test]
    fn a_whole_file_is_read_as_it_is_meant() {
        let text = concat!(
            "# nodes of the web tier\n",
            "- name: look\n",
            "  targets: [web-1, web-2, web-1]\n",
            "  async: yes\n",
            "  jobs:\n",
            "  - RUN: --timeout 5 uptime\n",
            "    name: 7\n",
            "    vars: {timeout: 8, retry: 2}\n",
            "  - run: |\n",
            "      cat <<EOF\n",
            "        a   b\n",
            "      EOF\n",
            "    assign: [web-2]\n",
            "    on_interrupt: run\n",
            "- jobs:\n",
            "  - RUN: 'true'\n",
        );
        let file = parse("f.yaml", text).unwrap();
        let [first, second] = file.orchestrations.as_slice() else { panic!("{file:?}") };
        assert_eq!((first.name.as_str(), first.beside, second.beside), ("look", true, false));
        assert_eq!(first.targets.as_deref(), Some(&["web-1".to_owned(), "web-2".to_owned()][..]));
        assert_eq!(second.targets, None);
        assert_eq!((first.jobs[0].name.as_str(), first.jobs[0].script.as_str()), ("7", "uptime"));
        // `vars` wins over the text.
        assert_eq!((first.jobs[0].options.timeout, first.jobs[0].options.tries), (Duration::from_secs(8), 2));
        assert_eq!(first.jobs[1].script, "cat <<EOF\n  a   b\nEOF\n");
        assert_eq!(first.jobs[1].on_interrupt, OnInterrupt::Run);
        assert_eq!(second.jobs[0].script, "true");
    }

    #[test]
    fn what_is_wrong_is_told_with_line_column_what_was_found_and_what_was_expected() {
        let job = |line: &str| format!("- jobs:\n  - {line}\n");
        for (text, told) in [
            (String::new(), "f: the file is empty, expected a list of orchestrations"),
            ("jobs: []\n".into(), "f:1:1: found a mapping, expected a list of orchestrations"),
            ("- RUN\n".into(), "f:1:3: found `RUN`, expected an orchestration with the keys jobs, targets, assign"),
            (
                "- job:\n  - RUN: x\n".into(),
                "f:1:3: unknown key `job`, expected one of jobs, targets, assign, async, name (did you mean `jobs`?)",
            ),
            ("- name: x\n".into(), "f:1:3: the orchestration has no key `jobs`"),
            ("- jobs: []\n".into(), "f:1:9: `jobs` is empty, expected at least one job"),
            ("- jobs: RUN\n".into(), "f:1:9: `jobs`: found `RUN`, expected a list of jobs"),
            ("- jobs: [RUN: x]\n  async: often\n".into(), "f:2:10: `async`: found `often`, expected true or false"),
            (
                "- jobs: [RUN: x]\n  targets: a\n".into(),
                "f:2:12: `targets`: found `a`, expected a list of nodes such as `[a]`",
            ),
            ("- jobs: [RUN: x]\n  targets: []\n".into(), "f:2:12: `targets` is empty; leave it out to mean every node"),
            (
                "- jobs: [RUN: x]\n  targets: [a b]\n".into(),
                "f:2:13: `targets`: found `a b`, expected the name of a node",
            ),
            (job("echo"), "f:2:5: found `echo`, expected a job such as `RUN: echo hello`"),
            (job("name: x"), "f:2:5: the job has no verb, expected RUN"),
            (job("RUN: x\n    COPY: a b"), "f:3:5: a job has one verb, found `RUN` and `COPY`"),
            (job("COPY: a b"), "f:2:5: verb `COPY` is not built yet, expected RUN"),
            (job("RNU: x"), "f:2:5: unknown key `RNU`, expected one of RUN, vars, name, assign, on_interrupt (did you"),
            (job("RUN: [a]"), "f:2:10: RUN: found a list, expected the shell's text"),
            (job("RUN:"), "f:2:8: RUN: found nothing, expected the shell's text"),
            (job("RUN: ~"), "f:2:10: RUN: found nothing, expected the shell's text"),
            (job("RUN: ''"), "f:2:10: RUN has no text"),
            (job("RUN: 5"), "f:2:10: RUN: found the number `5`, expected text: write `'5'`"),
            (job("RUN: true"), "f:2:10: RUN: found the truth value `true`, expected text: write `'true'`"),
            (job("RUN: {a: b}"), "f:2:10: RUN: found a mapping, expected the shell's text"),
            (job("RUN: --timeout"), "f:2:10: option `--timeout`: found nothing, expected seconds, a number above 0"),
            (job("RUN: x\n    vars: {retry: true}"), "f:3:12: `vars`, option `retry`: found `true`, expected how many"),
            (job("RUN: --skip-cache"), "f:2:10: RUN has no text"),
            (job("RUN: --timeout x y"), "f:2:10: option `--timeout`: found `x`, expected seconds"),
            (
                job("RUN: x\n    vars: {stdout_arg: A}"),
                "f:3:12: `vars`, option `stdout_arg`: jobs cannot pass values on",
            ),
            (job("RUN: x\n    vars: {timeout: [1]}"), "f:3:21: `timeout`: found a list, expected a single value"),
            (job("RUN: x\n    on_interrupt: maybe"), "f:3:19: `on_interrupt`: found `maybe`, expected run or fail"),
            (job("RUN: \"x\n"), "f:2:10: the quote that opens here is not closed before line"),
        ] {
            let problems = parse("f", &text).unwrap_err().to_string();
            assert!(problems.starts_with(told), "{text:?} gave\n{problems}\ninstead of\n{told}");
            assert_eq!(problems.lines().count(), 1, "{problems}");
        }
    }

    #[test]
    fn all_problems_of_a_file_are_told_at_once() {
        let text = "- nam: x\n  jobs:\n  - RUN: --retry x y\n  - COPY: a b\n  - RUN: fine\n    vras: {}\n";
        let problems = parse("f", text).unwrap_err();
        let lines: Vec<_> = problems.found().iter().filter_map(|problem| problem.place).map(|at| at.line).collect();
        assert_eq!(lines, [1, 3, 4, 6]);
    }
}
