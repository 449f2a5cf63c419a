//! Alert rules, their pages and the dashboard, against what a real Spinor tells on `/metrics`: each alert is
//! provoked by the state that it is about, and the rules are evaluated by Prometheus's own `promtool`.

mod promtool;
mod states;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use crate::support::process::Spinor;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(file(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The alerts of the rules, each with the page it names.
fn alerts() -> BTreeMap<String, String> {
    let rules = text("deploy/prometheus/alerts.yml");
    let after = |what: &str| -> Vec<String> {
        rules.lines().filter_map(|line| line.trim().strip_prefix(what)).map(|rest| rest.trim().to_owned()).collect()
    };
    let (names, pages) = (after("- alert:"), after("runbook:"));
    assert!(names.len() == pages.len() && !names.is_empty(), "{names:?} {pages:?}");
    names.into_iter().zip(pages).collect()
}

/// The names of metrics in a text, as they stand in `/metrics`.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|char: char| !char.is_ascii_alphanumeric() && char != '_');
    words.filter(|word| word.starts_with("spinor_") && word.len() > "spinor_".len()).map(str::to_owned).collect()
}

#[test]
fn each_alert_has_a_page_that_says_what_to_look_at_and_what_to_type() {
    let alerts = alerts();
    for (name, page) in &alerts {
        assert_eq!(*page, format!("docs/runbook/{name}.md"));
        let page = text(page);
        for title in ["## What it means", "## What to look at", "## What to do"] {
            assert!(page.contains(title), "{name}: no {title:?}");
        }
    }
    let pages = std::fs::read_dir(file("docs/runbook")).unwrap();
    let pages: BTreeSet<String> = pages.map(|page| page.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(pages, alerts.keys().map(|name| format!("{name}.md")).collect());
}

#[tokio::test]
async fn each_command_of_the_runbook_exists_with_its_flags() {
    let spinor = Spinor::new("");
    let mut helps: BTreeMap<Vec<String>, String> = BTreeMap::new();
    for page in alerts().values() {
        for line in text(page).lines().filter(|line| line.starts_with("spinor ")) {
            let words: Vec<&str> = line.split(' ').skip(1).collect();
            let is_verb = |word: &&&str| word.chars().all(|char| char.is_ascii_lowercase()) && **word != "default";
            let verb: Vec<String> = words.iter().take(2).take_while(is_verb).map(|word| (*word).to_owned()).collect();
            if !helps.contains_key(&verb) {
                let ask: Vec<&str> = verb.iter().map(String::as_str).chain(["--help"]).collect();
                let help = spinor.run(&ask).await.expect_success().stdout;
                helps.insert(verb.clone(), help);
            }
            for flag in words.iter().filter(|word| word.starts_with("--")) {
                assert!(helps[&verb].contains(flag), "{page}: {line}: no {flag} in\n{}", helps[&verb]);
            }
        }
    }
}
