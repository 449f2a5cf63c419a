//! Holds the layout: who may name whom, how long a file may be, how it must open.
//!
//! Reads the sources themselves: every path that code names, in `use` trees and inline. A boundary
//! that only a page describes is crossed within a month.

mod paths;

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A name that only some files may mention.
struct Boundary {
    /// How paths to it begin.
    name: &'static str,
    /// Where the rule holds.
    within: &'static [&'static str],
    /// The files, and folders with all in them, that may name it. Empty = nobody.
    allowed: &'static [&'static str],
    why: &'static str,
}

const SOURCES: &[&str] = &["executors/src", "consumers/src", "src"];

const WIRING: &[&str] = &["src/main", "src/lib", "src/app", "src/wiring", "src/cli"];

/// The raw programs that benchmarks are measured against: the clients themselves, by intent.
const FLOORS: &str = "src/bench/floor";

const BOUNDARIES: &[Boundary] = &[
    Boundary { name: "spinor_consumers", within: &["executors"], allowed: &[], why: "executors know no consumers" },
    Boundary { name: "spinor", within: &["executors", "consumers"], allowed: &[], why: "the engine knows no process" },
    Boundary {
        name: "lapin",
        within: SOURCES,
        allowed: &["consumers/src/broker/rabbitmq", FLOORS],
        why: "only the RabbitMQ module knows the AMQP client",
    },
    Boundary {
        name: "sqlx",
        within: SOURCES,
        allowed: &[
            "consumers/src/database",
            "consumers/src/results",
            "consumers/src/recorder",
            "consumers/src/state",
            "consumers/src/trigger",
            "consumers/src/broker/embedded",
            FLOORS,
        ],
        why: "SQL stays with the owners of tables",
    },
    Boundary {
        name: "redis",
        within: SOURCES,
        allowed: &["consumers/src/state/redis"],
        why: "only the store of state knows the Redis client",
    },
    Boundary {
        name: "axum",
        within: SOURCES,
        allowed: &["src/api"],
        why: "only the HTTP module knows the web framework",
    },
    Boundary {
        name: "clap",
        within: SOURCES,
        allowed: &["src/main", "src/cli", "src/bench", "src/orchestrations", "src/lab", "src/dirac"],
        why: "only verbs read the command line",
    },
    Boundary {
        name: "crate::orchestrations",
        within: &["src"],
        allowed: &["src/orchestrations"],
        why: "the worlds are imported by the wiring alone",
    },
    Boundary {
        name: "crate::lab",
        within: &["src"],
        allowed: &["src/lab"],
        why: "the worlds are imported by the wiring alone",
    },
    Boundary {
        name: "crate::dirac",
        within: &["src"],
        allowed: &["src/dirac"],
        why: "the worlds are imported by the wiring alone",
    },
];

impl Boundary {
    /// Whether this file may name it.
    fn admits(&self, file: &str) -> bool {
        let concerns = self.within.iter().any(|folder| covers(folder, file));
        let wiring = self.name.starts_with("crate::") && WIRING.iter().any(|path| covers(path, file));
        !concerns || wiring || self.allowed.iter().any(|path| covers(path, file))
    }

    /// Whether this path leads to it.
    fn names(&self, path: &str) -> bool {
        path.strip_prefix(self.name).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    }
}

/// Whether `file` is the module `path` (with or without its `.rs`) or lies in its folder.
fn covers(path: &str, file: &str) -> bool {
    file.strip_prefix(path).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
}

/// What is wrong with the paths that `source`, the text of `file`, names.
fn crossings(file: &str, source: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for path in paths::named(source) {
        for boundary in BOUNDARIES {
            if boundary.names(&path) && !boundary.admits(file) {
                wrong.push(format!("{file} names {path}: {}", boundary.why));
            }
        }
    }
    wrong
}

/// All Rust files of the workspace's own code below `folder`, with their paths from the root.
fn files(folder: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = vec![root.join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                found.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(!found.is_empty(), "no source in {folder}");
    found
}

fn assert_none(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn no_file_names_what_lies_beyond_its_boundary() {
    let wrong: Vec<String> =
        SOURCES.iter().flat_map(|folder| files(folder)).flat_map(|(file, source)| crossings(&file, &source)).collect();
    assert_none(&wrong);
}

#[test]
fn every_file_opens_with_what_it_owns_and_ends_before_line_500() {
    let mut wrong = Vec::new();
    for (file, source) in SOURCES.iter().chain(&["tests"]).flat_map(|folder| files(folder)) {
        if !source.starts_with("//! ") {
            wrong.push(format!("{file} does not open with a //! comment"));
        }
        let lines = source.lines().count();
        if lines >= 500 {
            wrong.push(format!("{file} has {lines} lines: split it"));
        }
    }
    assert_none(&wrong);
}

#[test]
fn no_file_is_named_after_nothing() {
    let vague = ["util", "utils", "common", "helpers", "misc"];
    let wrong: Vec<String> = SOURCES
        .iter()
        .flat_map(|folder| files(folder))
        .filter(|(file, _)| {
            Path::new(file).iter().any(|part| vague.contains(&part.to_str().unwrap().trim_end_matches(".rs")))
        })
        .map(|(file, _)| format!("{file}: say what it owns"))
        .collect();
    assert_none(&wrong);
}

#[test]
fn every_place_that_a_boundary_allows_is_written_as_a_path_of_sources() {
    for boundary in BOUNDARIES {
        for place in boundary.allowed {
            let inside = SOURCES.iter().any(|folder| covers(folder, place));
            assert!(inside && !place.ends_with(".rs"), "{place} of {} can never match", boundary.name);
        }
    }
}

#[test]
fn a_crossing_is_found_in_a_grouped_use_and_in_an_inline_path() {
    let source = "use std::{fmt, io};\nuse lapin::{Channel, options::*};\nfn f() -> axum::Router { todo!() }\n";
    let wrong = crossings("consumers/src/consumer.rs", source);
    assert_eq!(wrong.len(), 3, "{wrong:?}");
    assert!(crossings("consumers/src/broker/rabbitmq/link.rs", "use lapin::Channel;").is_empty());
    assert_eq!(crossings("src/api/jobs.rs", "use crate::{lab::Test, config};").len(), 1);
    assert!(crossings("src/cli/lab.rs", "use crate::lab::Test;").is_empty());
    assert_eq!(
        crossings("consumers/src/broker/rabbitmq_link.rs", "use lapin::Channel;").len(),
        1,
        "a like name is not inside"
    );
    assert_eq!(crossings("executors/src/pool.rs", "use spinor_consumers::message;").len(), 1);
}
