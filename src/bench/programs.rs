//! Jobs that do nothing, run by a program in Python that is up already: what the consumer adds to it.
//!
//! Owns the program and the floors: the raw loop on RabbitMQ whose every delivery goes to the same program and
//! back before it is reported, and the two halves of that, each with the machine to itself, added up.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{
    Place, Request,
    figures::{Measure, Sample, Side, Spread, Summary, remarks},
    floors, inside, noop,
};

/// A round's jobs.
const JOBS: usize = 20_000;
/// What the program serves.
pub const KIND: &str = "bench.echo";
const PROGRAM: &str = include_str!("echo.py");

/// Writes the program; where it is.
pub fn write(dir: &Path) -> Result<PathBuf> {
    let path = dir.join("echo.py");
    std::fs::write(&path, PROGRAM)?;
    Ok(path)
}

/// All rounds.
pub async fn run(request: &Request, place: &Place) -> Result<Summary> {
    let jobs = request.jobs.unwrap_or(JOBS);
    let side = |name: &str| Side { name: name.to_owned(), samples: Vec::new() };
    let mut product = side("product");
    let [mut raw, mut both, mut ping] = ["raw consumer", "loop + ping-pong", "ping-pong"].map(side);
    for _ in 0..request.rounds {
        if floors::program().is_some() {
            if !place.embedded() {
                raw.samples.push(raw_consumer(request, place, jobs).await?);
            }
            let pinged = ping_pong(request, place, jobs).await?;
            let looped = noop::broker_loop(request, place, jobs, &[]).await?;
            both.samples.push(Sample {
                seconds: looped.seconds + pinged.seconds,
                cpu_seconds: looped.cpu_seconds.zip(pinged.cpu_seconds).map(|(one, other)| one + other),
                ..looped
            });
            ping.samples.push(pinged);
        }
        let sample = if place.embedded() {
            inside::round(request, place, jobs).await?
        } else {
            noop::remote_round(request, place, jobs).await?
        };
        product.samples.push(sample);
    }
    let mut notes = vec!["checked in every round: each job took effect exactly once".to_owned()];
    notes.extend([&product, &raw, &both, &ping].into_iter().filter_map(cpu));
    if place.embedded() {
        notes.push("the product's CPU is that of publisher, broker and consumer together".to_owned());
    }
    notes.extend(remarks(&product.samples));
    if ping.samples.is_empty() {
        notes.push("no floors: `spinor-floor` is not beside this program".to_owned());
    }
    let sides = [product, raw, both, ping].into_iter().filter(|side| !side.samples.is_empty()).collect();
    Ok(Summary::new(what(request, place, jobs), Measure::Rate, sides, notes))
}

/// CPU without that of the program, for people.
fn cpu(side: &Side) -> Option<String> {
    let micros = |sample: &Sample| Some(sample.cpu_seconds? * 1e6 / sample.jobs as f64);
    let Spread { median, least, most } = Spread::of(side.samples.iter().filter_map(micros))?;
    Some(format!(
        "CPU of `{}` for each job, without the program's: {median:.1} us ({least:.1} to {most:.1})",
        side.name
    ))
}

fn what(request: &Request, place: &Place, jobs: usize) -> String {
    let broker = if place.embedded() { "embedded" } else { "RabbitMQ" };
    let mode = if request.preloaded { "preloaded" } else { "live" };
    let (payload, slots) = (request.payload, request.slots);
    format!("{jobs} jobs of {payload} bytes in {slots} warm processes of Python, {broker}, not recorded, {mode}")
}

async fn raw_consumer(request: &Request, place: &Place, jobs: usize) -> Result<Sample> {
    let program = write(&place.scratch)?.to_string_lossy().into_owned();
    noop::broker_loop(request, place, jobs, &["--program", &program, "--processes", &request.slots.to_string()]).await
}

async fn ping_pong(request: &Request, place: &Place, jobs: usize) -> Result<Sample> {
    let program = write(&place.scratch)?.to_string_lossy().into_owned();
    let (jobs_text, payload, processes) = (jobs.to_string(), request.payload.to_string(), request.slots.to_string());
    let arguments =
        ["ping-pong", "--jobs", &jobs_text, "--payload", &payload, "--processes", &processes, "--program", &program];
    floors::sample(&arguments, jobs, None).await
}
