//! What `/proc` tells of a process's children: the check that none outlives it.
//!
//! Beside the product: it shares no code with what ends those children.

use std::{collections::BTreeSet, fs};

/// A process that cannot be taken for another: its number and its start.
pub type Child = (u32, String);

/// The children of a process, guardian included.
pub fn children(parent: u32) -> BTreeSet<Child> {
    processes().into_iter().filter(|(_, _, of)| *of == parent).map(|(pid, start, _)| (pid, start)).collect()
}

/// Those of them that still run.
pub fn alive(children: &BTreeSet<Child>) -> BTreeSet<Child> {
    let running: BTreeSet<Child> = processes().into_iter().map(|(pid, start, _)| (pid, start)).collect();
    children.intersection(&running).cloned().collect()
}

/// Every process that carries this mark in its environment.
pub fn marked(mark: &str) -> Vec<u32> {
    let carries = |pid: &u32| {
        fs::read(format!("/proc/{pid}/environ"))
            .is_ok_and(|environ| environ.split(|byte| *byte == 0).any(|entry| entry.starts_with(mark.as_bytes())))
    };
    processes().into_iter().map(|(pid, ..)| pid).filter(carries).collect()
}

/// Does a process with this number run?
pub fn runs(pid: u32) -> bool {
    look(pid).is_some()
}

/// Number, start and parent of every process that has not ended.
fn processes() -> Vec<(u32, String, u32)> {
    let numbers =
        fs::read_dir("/proc").expect("/proc").flatten().filter_map(|entry| entry.file_name().into_string().ok());
    numbers.filter_map(|name| look(name.parse().ok()?)).collect()
}

fn look(pid: u32) -> Option<(u32, String, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ended = matches!(*fields.first()?, "Z" | "X");
    (!ended).then_some((pid, (*fields.get(19)?).to_owned(), fields.get(1)?.parse().ok()?))
}
