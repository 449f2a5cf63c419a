//! What a process costs here, against the floor: a bare loop of spawn and wait, nothing captured.
//!
//! `spawn_floor [COUNT] [TASKS] [ROUNDS]` runs `/bin/sh -c 'echo hello world'` COUNT times in
//! TASKS threads or tasks; floor and product alternate, and the median of the ratios counts.

use std::{
    error::Error,
    process::{Command, Stdio},
    thread,
};

use spinor_executors::{
    Context,
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
    let mut ratios = Vec::new();
    for round in 1..=rounds {
        let start = Instant::now();
        floor(count / tasks, tasks)?;
        let bare = start.elapsed();
        let start = Instant::now();
        runtime.block_on(product(count / tasks, tasks))?;
        let ours = start.elapsed();
        let ratio = ours.as_secs_f64() / bare.as_secs_f64();
        println!("round {round}: floor {bare:.2?}, spinor {ours:.2?}, ratio {ratio:.3}");
        ratios.push(ratio);
    }
    ratios.sort_by(f64::total_cmp);
    println!("median ratio {:.3}", ratios.get(rounds / 2).ok_or("no rounds")?);
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

async fn product(each: usize, tasks: usize) -> Result<(), Box<dyn Error>> {
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
