//! What a process costs here, against the floor: a bare loop of spawn and wait, nothing captured.
//!
//! `spawn_floor [COUNT] [TASKS] [ROUNDS]` runs `/bin/sh -c 'echo hello world'` COUNT times in
//! TASKS threads (the floor), as jobs of TASKS tasks, and as the steps of TASKS plans with their
//! journals. They alternate, and the median of the ratios counts.

use std::{
    error::Error,
    path::Path,
    process::{Command, Stdio},
    thread,
};

use spinor_executors::{
    Context, Executor, Job, Json, Outcome,
    plan::{Action, PLAN_KIND, Plan, PlanExecutor, Sequence, Step},
    process::{Spawn, run},
};
use tokio::{task::JoinSet, time::Instant};
use uuid::Uuid;

const SCRIPT: &str = "echo hello world";

fn main() -> Result<(), Box<dyn Error>> {
    let numbers: Vec<usize> = std::env::args().skip(1).map(|word| word.parse()).collect::<Result<_, _>>()?;
    let [count, tasks, rounds] = [6000, 6, 5].map({
        let mut given = numbers.into_iter();
        move |default| given.next().unwrap_or(default)
    });
    let runtime = tokio::runtime::Runtime::new()?;
    let journals = std::env::temp_dir().join(format!("spawn-floor-{}", std::process::id()));
    let mut ratios = [Vec::new(), Vec::new()];
    for round in 1..=rounds {
        let start = Instant::now();
        floor(count / tasks, tasks)?;
        let bare = start.elapsed();
        let start = Instant::now();
        runtime.block_on(jobs(count / tasks, tasks))?;
        let jobs = start.elapsed();
        let start = Instant::now();
        runtime.block_on(plans(count / tasks, tasks, &journals))?;
        let plans = start.elapsed();
        let of_floor = [jobs, plans].map(|time| time.as_secs_f64() / bare.as_secs_f64());
        println!("round {round}: floor {bare:.2?}, jobs {jobs:.2?}, plans {plans:.2?}, ratios {of_floor:.3?}");
        ratios.iter_mut().zip(of_floor).for_each(|(all, ratio)| all.push(ratio));
    }
    std::fs::remove_dir_all(&journals)?;
    for (name, mut ratios) in ["jobs", "plans"].into_iter().zip(ratios) {
        ratios.sort_by(f64::total_cmp);
        println!("{name}: median ratio {:.3}", ratios.get(rounds / 2).ok_or("no rounds")?);
    }
    Ok(())
}

fn floor(each: usize, threads: usize) -> Result<(), String> {
    let work = move || -> Result<(), String> {
        for _ in 0..each {
            let mut child = Command::new("/bin/sh")
                .args(["-c", SCRIPT])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .map_err(|error| error.to_string())?;
            child.wait().map_err(|error| error.to_string())?;
        }
        Ok(())
    };
    let threads: Vec<_> = (0..threads).map(|_| thread::spawn(work)).collect();
    threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a thread panicked".to_owned())?)
}

async fn jobs(each: usize, tasks: usize) -> Result<(), Box<dyn Error>> {
    let mut set = JoinSet::new();
    for _ in 0..tasks {
        set.spawn(async move {
            for _ in 0..each {
                let context = Context::new(Uuid::now_v7(), None);
                let ended = run(Spawn::shell(SCRIPT), &context).await.map_err(|error| error.to_string())?;
                if ended.stdout.head != "hello world\n" {
                    return Err(format!("unexpected output: {ended:?}"));
                }
            }
            Ok(())
        });
    }
    while let Some(ended) = set.join_next().await {
        ended??;
    }
    Ok(())
}

async fn plans(steps: usize, nodes: usize, journals: &Path) -> Result<(), Box<dyn Error>> {
    let mut set = JoinSet::new();
    for node in 0..nodes {
        let name = format!("n{node}");
        let executor = PlanExecutor::new(&name, &journals.join(&name))?;
        let steps = (0..u32::try_from(steps)?).map(step).collect();
        let sequence = Sequence { part: 0, name: String::new(), beside: false, steps };
        let job = Job::new(PLAN_KIND, &name, Json::of(&Plan { node: name.clone(), sequences: vec![sequence] })?);
        set.spawn(async move { executor.run(&job, &Context::new(Uuid::now_v7(), None)).await });
    }
    while let Some(outcome) = set.join_next().await {
        let outcome = outcome?;
        if !matches!(outcome, Outcome::Succeeded(_)) {
            return Err(format!("unexpected outcome: {outcome:?}").into());
        }
    }
    Ok(())
}

fn step(item: u32) -> Step {
    let action = Action::Run { script: SCRIPT.to_owned(), env: [].into(), no_block: false };
    Step { item, name: String::new(), action, timeout_ms: 60_000, tries: 1, on_interrupt: Default::default() }
}
