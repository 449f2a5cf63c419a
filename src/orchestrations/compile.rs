//! From files to plans: one for each node, holding all that the node does, in file order.
//!
//! Owns whose word on targets counts (`assign` of the job, `--target`, `assign` of the
//! orchestration, `targets`, the nodes that answer) and the bound on a plan's size. Refuses to ask
//! which nodes exist: it is told.

use spinor_consumers::blobs::LARGEST;
use spinor_executors::{
    Json,
    plan::{Action, Plan, Sequence, Step},
};

use super::parse::{File, Job, Orchestration};

/// Who is meant where a file does not say.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nodes<'a> {
    /// `--target`: instead of what an orchestration says; empty when not given.
    pub chosen: &'a [String],
    /// The nodes that answer: for files without targets.
    pub answering: &'a [String],
}

/// A plan that is ready to be sent.
#[derive(Clone, Debug)]
pub struct Ready {
    /// What the node does.
    pub plan: Plan,
    /// The same as the args of a job.
    pub args: Json,
    /// How many steps it has.
    pub steps: u32,
}

/// Is there a job for which nobody is named, so that the nodes that answer must be asked for?
pub fn needs_answering(files: &[File], chosen: &[String]) -> bool {
    chosen.is_empty()
        && orchestrations(files)
            .any(|one| one.assign.is_none() && one.targets.is_none() && one.jobs.iter().any(|job| job.assign.is_none()))
}

/// One plan for each node that has anything to do, in the order nodes are first named.
pub fn compile(files: &[File], nodes: Nodes<'_>) -> Result<Vec<Ready>, Vec<String>> {
    if nodes.answering.is_empty() && needs_answering(files, nodes.chosen) {
        return Err(vec!["the file names no targets and no node answers; name some, or start nodes".to_owned()]);
    }
    let mut plans: Vec<Plan> = Vec::new();
    for (part, orchestration) in orchestrations(files).enumerate() {
        let usual = usual(orchestration, nodes);
        for (item, job) in orchestration.jobs.iter().enumerate() {
            let targets = job.assign.as_deref().unwrap_or(usual);
            let many = if job.options.run_once { 1 } else { targets.len() };
            for node in &targets[..many.min(targets.len())] {
                sequence(&mut plans, node, number(part), orchestration).steps.push(step(number(item), job));
            }
        }
    }
    ready(plans)
}

fn orchestrations(files: &[File]) -> impl Iterator<Item = &Orchestration> {
    files.iter().flat_map(|file| &file.orchestrations)
}

/// The nodes of the jobs that name none themselves.
fn usual<'a>(orchestration: &'a Orchestration, nodes: Nodes<'a>) -> &'a [String] {
    if !nodes.chosen.is_empty() {
        return nodes.chosen;
    }
    orchestration.assign.as_deref().or(orchestration.targets.as_deref()).unwrap_or(nodes.answering)
}

/// The node's sequence for this part of the file, made when it is first needed.
fn sequence<'a>(plans: &'a mut Vec<Plan>, node: &str, part: u32, from: &Orchestration) -> &'a mut Sequence {
    let place = plans.iter().position(|plan| plan.node == node).unwrap_or_else(|| {
        plans.push(Plan { node: node.to_owned(), sequences: Vec::new() });
        plans.len() - 1
    });
    let sequences = &mut plans[place].sequences;
    let last = sequences.len();
    // Parts come in order, so the part is the last one or new.
    if sequences.last().is_none_or(|sequence| sequence.part != part) {
        sequences.push(Sequence { part, name: from.name.clone(), beside: from.beside, steps: Vec::new() });
        return &mut sequences[last];
    }
    &mut sequences[last - 1]
}

fn step(item: u32, job: &Job) -> Step {
    Step {
        item,
        name: job.name.clone(),
        action: Action::Run { script: job.script.clone(), env: Default::default(), no_block: job.options.no_block },
        timeout_ms: u64::try_from(job.options.timeout.as_millis()).unwrap_or(u64::MAX),
        tries: job.options.tries,
        on_interrupt: job.on_interrupt,
    }
}

fn ready(plans: Vec<Plan>) -> Result<Vec<Ready>, Vec<String>> {
    let mut ready = Vec::with_capacity(plans.len());
    let mut problems = Vec::new();
    for plan in plans {
        match Json::of(&plan) {
            Ok(args) if args.bytes().len() <= LARGEST => {
                let steps = number(plan.sequences.iter().map(|sequence| sequence.steps.len()).sum());
                ready.push(Ready { plan, args, steps });
            }
            Ok(args) => problems.push(format!(
                "the plan of node `{}` has {} bytes, more than the limit of {LARGEST}; split the file",
                plan.node,
                args.bytes().len()
            )),
            Err(error) => problems.push(format!("the plan of node `{}` cannot be written: {error}", plan.node)),
        }
    }
    if problems.is_empty() { Ok(ready) } else { Err(problems) }
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use spinor_executors::plan::{Action, Plan};

    use super::{Nodes, compile, needs_answering};
    use crate::orchestrations::parse::{File, parse};

    fn file(text: &str) -> File {
        parse("f", text).unwrap()
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// `node: part/item script` of every step, plan by plan.
    fn told(files: &[File], chosen: &[&str], answering: &[&str]) -> Vec<String> {
        let (chosen, answering) = (names(chosen), names(answering));
        let ready = compile(files, Nodes { chosen: &chosen, answering: &answering }).unwrap();
        ready.iter().flat_map(|ready| lines(&ready.plan)).collect()
    }

    fn lines(plan: &Plan) -> Vec<String> {
        let mut lines = Vec::new();
        for sequence in &plan.sequences {
            for step in &sequence.steps {
                let Action::Run { script, .. } = &step.action;
                lines.push(format!("{}: {}/{} {script}", plan.node, sequence.part, step.item));
            }
        }
        lines
    }

    #[test]
    fn the_word_on_targets_is_job_assign_then_target_then_assign_then_targets_then_who_answers() {
        let all = "- targets: [a]\n  assign: [b]\n  jobs: [{RUN: x}, {RUN: y, assign: [c]}]\n";
        let targets = "- targets: [a]\n  jobs: [{RUN: x}]\n";
        let none = "- jobs: [{RUN: x}]\n";
        assert_eq!(told(&[file(all)], &[], &["n"]), ["b: 0/0 x", "c: 0/1 y"]);
        assert_eq!(told(&[file(all)], &["t"], &["n"]), ["t: 0/0 x", "c: 0/1 y"]);
        assert_eq!(told(&[file(targets)], &[], &["n"]), ["a: 0/0 x"]);
        assert_eq!(told(&[file(none)], &[], &["n", "m"]), ["n: 0/0 x", "m: 0/0 x"]);
        assert_eq!(told(&[file(none)], &["t"], &["n"]), ["t: 0/0 x"]);
    }

    #[test]
    fn a_job_keeps_its_place_on_every_node_and_files_go_on_counting() {
        let one = "- targets: [a, b]\n  jobs: [{RUN: x, assign: [b]}, {RUN: y}, {RUN: z, vars: {run_once: true}}]\n";
        let two = "- targets: [b]\n  async: true\n  jobs: [{RUN: w}]\n";
        assert_eq!(
            told(&[file(one), file(two)], &[], &[]),
            ["b: 0/0 x", "b: 0/1 y", "b: 1/0 w", "a: 0/1 y", "a: 0/2 z"]
        );
    }

    #[test]
    fn nodes_are_asked_for_only_when_somebody_needs_them() {
        let none = [file("- jobs: [{RUN: x}]\n")];
        assert!(needs_answering(&none, &[]));
        assert!(!needs_answering(&none, &names(&["t"])));
        assert!(!needs_answering(&[file("- jobs: [{RUN: x, assign: [a]}]\n")], &[]));
        let problems = compile(&none, Nodes::default()).unwrap_err();
        assert!(problems[0].contains("no node answers"), "{problems:?}");
    }

    #[test]
    fn a_plan_larger_than_any_args_is_refused_with_the_node_named() {
        let big =
            format!("- targets: [a, b]\n  jobs: [{{RUN: \"{}\", assign: [a]}}, {{RUN: x}}]\n", "y".repeat(65 << 20));
        let problems = compile(&[file(&big)], Nodes::default()).map(|_| ()).unwrap_err();
        assert_eq!(problems.len(), 1);
        assert!(problems[0].starts_with("the plan of node `a` has 681"), "{problems:?}");
    }
}
