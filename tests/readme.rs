//! What README.md tells a new user to type does what it says.
//!
//! Runs every block marked "```sh run" with a shell in one scratch directory, in the order of the
//! page, against the binary under test: `spinor` on the path is that binary, and it has a home and
//! a data directory of its own. A block ends with exit code 0, or with the code that its last line
//! names as `# exit code N`.

use std::{os::unix::fs::symlink, path::Path, time::Duration};

use crate::support::process::Spinor;

const README: &str = include_str!("../README.md");
const MAKE: &str = include_str!("../Makefile");
const CI: &str = include_str!("../.ci/run");

/// A block of the page: what to type, and the exit code it ends with.
#[derive(Debug)]
struct Block {
    script: String,
    code: i32,
}

/// The blocks between these fences, in their order.
fn blocks(page: &str) -> Vec<Block> {
    let starts = page.split("\n```sh run\n").skip(1);
    let scripts = starts.map(|rest| rest.split("\n```\n").next().expect("a split has a first part"));
    scripts
        .map(|script| {
            let last = script.lines().last().unwrap_or_default();
            let code = last.split_once("# exit code ").map_or(0, |(_, code)| code.parse().expect("a number"));
            Block { script: script.to_owned(), code }
        })
        .collect()
}

/// An installation in which the page's paths and its program are at hand.
fn installation() -> Spinor {
    let mut spinor = Spinor::new("");
    let bin = spinor.join("bin");
    std::fs::create_dir(&bin).expect("a directory can be made");
    symlink(env!("CARGO_BIN_EXE_spinor"), bin.join("spinor")).expect("a link can be made");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    symlink(root.join("docs"), spinor.join("docs")).expect("a link can be made");
    let path = std::env::var("PATH").unwrap_or_default();
    spinor.set("PATH", &format!("{}:{path}", bin.display()));
    spinor
}

#[tokio::test]
async fn the_blocks_of_the_readme_that_are_marked_run_as_printed() {
    let blocks = blocks(README);
    assert!(blocks.len() >= 5, "the page has lost its marks: {blocks:?}");
    let spinor = installation();
    let mut up = spinor.start(&["up"]);
    up.says("spinor is up", Duration::from_secs(30)).await;
    for Block { script, code } in blocks {
        let done = spinor.start_program("sh", &["-euc", &script]).finish(Duration::from_secs(120)).await;
        assert_eq!(done.code(), code, "{script}\n{}{}", done.stdout, done.stderr);
    }
    up.terminate();
    assert!(up.wait(Duration::from_secs(60)).await.success());
}

#[test]
fn the_two_commands_come_first_and_ci_runs_the_same_test() {
    let first = README.split("```").nth(1).expect("the page has a block");
    let (run, test) = ("cargo run --release -- run --local 6 docs/examples/fleet.yaml", "make test");
    assert!(first.contains(run) && first.contains(test), "{first}");
    assert!(CI.lines().any(|line| line.ends_with(test)), "{CI}");
    assert!(MAKE.lines().any(|line| line.starts_with("test:")), "{MAKE}");
}

#[test]
fn every_page_the_readme_and_the_docs_point_at_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = root.join("docs");
    let pages = std::fs::read_dir(&docs).expect("docs can be listed").map(|entry| entry.expect("an entry").path());
    let decisions = std::fs::read_dir(docs.join("decisions")).expect("decisions can be listed");
    let pages = pages.chain(decisions.map(|entry| entry.expect("an entry").path()));
    let pages = pages.filter(|path| path.extension().is_some_and(|end| end == "md")).chain([root.join("README.md")]);
    let mut seen = 0;
    for page in pages {
        let text = std::fs::read_to_string(&page).expect("a page is text");
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
        for target in targets.filter(|target| !target.is_empty() && !target.contains("://")) {
            let path = page.parent().expect("a page is in a directory").join(target);
            assert!(path.exists(), "{} points at {target}, which is not there", page.display());
            seen += 1;
        }
    }
    assert!(seen > 10, "only {seen} links: the pages have lost theirs");
}
