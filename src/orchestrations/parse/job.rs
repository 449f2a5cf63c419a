//! One job of an orchestration: its verb, what it runs, its options.
//!
//! Owns which keys a job has and what they take. Refuses every verb but RUN, and to know the
//! orchestration around it.

use spinor_executors::plan::OnInterrupt;

use super::{nodes, unknown, word};
use crate::orchestrations::{
    problem::Problems,
    run_text::Options,
    source::{Entry, Node, Value},
};

/// One job of an orchestration: a shell text, by the verb RUN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// For people; empty when the file gives none.
    pub name: String,
    /// Nodes instead of those of the orchestration.
    pub assign: Option<Vec<String>>,
    /// The shell's text, byte for byte.
    pub script: String,
    /// Limits and the like.
    pub options: Options,
    /// What becomes of it when a crash cuts it in the middle.
    pub on_interrupt: OnInterrupt,
}

const JOB_KEYS: [&str; 5] = ["RUN", "vars", "name", "assign", "on_interrupt"];
/// Verbs of the format that are not built: known by name so that the refusal can say more than "unknown".
pub const OTHER_VERBS: [&str; 18] = [
    "ARG",
    "ENV",
    "ADD",
    "COPY",
    "WORKDIR",
    "CACHEFILE",
    "CACHEEVICT",
    "QUERY",
    "QUERY_WAIT",
    "JOB_WAIT",
    "QUEUESENTINEL",
    "DNF",
    "SERVICE",
    "WAIT",
    "POD",
    "FACTER",
    "REBOOT",
    "ECHO",
];

/// Reads a job; none when it is wrong beyond reading, which is told.
pub fn read(node: &Node, problems: &mut Problems) -> Option<Job> {
    let Value::Map(entries) = &node.value else {
        problems.at(node.place, format!("found {}, expected a job such as `RUN: echo hello`", node.found()));
        return None;
    };
    let mut name = String::new();
    let mut assign = None;
    let mut on_interrupt = OnInterrupt::default();
    let mut vars = None;
    let mut verbs: Vec<&Entry> = Vec::new();
    let mut strange = false;
    for entry in entries {
        match entry.key.as_str() {
            "name" => name = word(entry, problems),
            "assign" => assign = nodes("assign", &entry.value, problems),
            "on_interrupt" => on_interrupt = interrupt(entry, problems),
            "vars" => vars = Some(&entry.value),
            key if is_verb(key) => verbs.push(entry),
            _ => {
                strange = true;
                unknown(entry, &JOB_KEYS, problems);
            }
        }
    }
    let verb = match verbs.as_slice() {
        [verb] => verb,
        [] => {
            // A misspelt verb was told already.
            if !strange {
                problems.at(node.place, "the job has no verb, expected RUN");
            }
            return None;
        }
        [_, second, ..] => {
            let named: Vec<String> = verbs.iter().map(|verb| format!("`{}`", verb.key)).collect();
            problems.at(second.place, format!("a job has one verb, found {}", named.join(" and ")));
            return None;
        }
    };
    let (script, options) = run(verb, vars, problems)?;
    Some(Job { name, assign, script, options, on_interrupt })
}

fn is_verb(key: &str) -> bool {
    key.eq_ignore_ascii_case("RUN") || OTHER_VERBS.iter().any(|verb| verb.eq_ignore_ascii_case(key))
}

/// The text and the options of a RUN; an option under `vars` wins over one in the text.
fn run(verb: &Entry, vars: Option<&Node>, problems: &mut Problems) -> Option<(String, Options)> {
    if !verb.key.eq_ignore_ascii_case("RUN") {
        problems.at(verb.place, format!("verb `{}` is not built yet, expected RUN", verb.key));
        return None;
    }
    let mut options = Options::default();
    let place = verb.value.place;
    let Value::Scalar(text, _) = &verb.value.value else {
        problems.at(place, format!("RUN: found {}, expected the shell's text", verb.value.found()));
        return None;
    };
    if let Some(what) = verb.value.is_no_text() {
        let found =
            format!("RUN: found the {what} `{text}`, expected text: write `'{text}'` if the shell shall run it");
        problems.at(place, found);
        return None;
    }
    if verb.value.is_null() {
        problems.at(place, "RUN: found nothing, expected the shell's text");
        return None;
    }
    let mut wrong = Vec::new();
    let script = options.split(text, &mut wrong).to_owned();
    let told = !wrong.is_empty();
    for what in wrong {
        problems.at(place, what);
    }
    if let Some(vars) = vars {
        self::vars(vars, &mut options, problems);
    }
    if script.trim().is_empty() {
        // An option without its value took the text for it, and that was told.
        if told {
            return None;
        }
        problems.at(place, "RUN has no text, expected what the shell shall run");
        return None;
    }
    if script.contains('\0') {
        problems.at(place, "RUN: found a NUL byte, which no process argument can carry");
        return None;
    }
    Some((script, options))
}

fn vars(node: &Node, options: &mut Options, problems: &mut Problems) {
    let Value::Map(entries) = &node.value else {
        problems.at(node.place, format!("`vars`: found {}, expected a mapping of options", node.found()));
        return;
    };
    for entry in entries {
        let Some(text) = entry.value.text() else {
            let what = format!("`{}`: found {}, expected a single value", entry.key, entry.value.found());
            problems.at(entry.value.place, what);
            continue;
        };
        if let Err(why) = options.set(&entry.key, Some(text)) {
            problems.at(entry.place, format!("`vars`, option `{}`: {why}", entry.key));
        }
    }
}

fn interrupt(entry: &Entry, problems: &mut Problems) -> OnInterrupt {
    match entry.value.text() {
        Some("run") => OnInterrupt::Run,
        Some("fail") => OnInterrupt::Fail,
        _ => {
            let what = format!("`on_interrupt`: found {}, expected run or fail", entry.value.found());
            problems.at(entry.value.place, what);
            OnInterrupt::default()
        }
    }
}
