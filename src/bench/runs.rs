//! What a fan-in costs: a run whose members do nothing, and one more member that needs all of them and gets
//! their values.
//!
//! The watch is the record's: from the end of the last of them to the start of the one that needs them. The same
//! run with one such member stands as the floor, which is the way of any end to what follows it. Every round is
//! checked: each member succeeded at its first attempt, and there is no job besides.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;
use spinor_consumers::{
    next::{MOST_MEMBERS, job_id},
    results::{JobFilter, JobRow},
};
use spinor_executors::{Json, State};
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    Place, Request,
    figures::{Measure, Sample, Side, Summary},
    site::{QUEUE, Running, Site},
    system,
};
use crate::{
    api::{
        new_job::NewJob,
        new_run::{NewJobRun, NewMember},
    },
    client::Client,
};

const JOIN: &str = "join";
/// No run takes longer.
const PATIENCE: Duration = Duration::from_secs(600);

/// All rounds, with one product that stays up.
pub async fn run(request: &Request, place: &Place) -> Result<Summary> {
    let members = request.jobs.unwrap_or(MOST_MEMBERS);
    if !(3..=MOST_MEMBERS).contains(&members) {
        bail!("--jobs {members}: a run has at most {MOST_MEMBERS} members, and fewer than 3 are no fan-in");
    }
    let site = Site::new(place, request)?;
    let measured = rounds(&site, request.rounds, members).await;
    site.sweep(place).await?;
    let (many, one) = measured?;
    let rates: Vec<String> = many.iter().map(|sample| format!("{:.0}", sample.jobs as f64 / sample.seconds)).collect();
    let notes = vec![
        format!("members/s from the publish to the last end, round by round: {}", rates.join(", ")),
        "by the record's clock; each member succeeded at its first attempt, in every round".to_owned(),
    ];
    let sides = vec![
        Side { name: format!("after {} members", members - 1), samples: many },
        Side { name: "after 1 member".to_owned(), samples: one },
    ];
    let what = format!(
        "from the end of the last member to the start of the one that needs all {}, {}, {} slots",
        members - 1,
        if place.embedded() { "embedded" } else { "RabbitMQ" },
        request.slots
    );
    Ok(Summary::new(what, Measure::Latency, sides, notes))
}

async fn rounds(site: &Site, rounds: usize, members: usize) -> Result<(Vec<Sample>, Vec<Sample>)> {
    let running = site.start_whole().await?;
    let client = Client::unix(site.config.socket())?;
    let measured = async {
        // The first of a process pays for what later ones find ready.
        round(&client, &running, 2).await?;
        let (mut many, mut one) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            one.push(round(&client, &running, 2).await?);
            many.push(round(&client, &running, members).await?);
        }
        Ok((many, one))
    };
    let measured = measured.await;
    running.stop().await?;
    measured
}

async fn round(client: &Client, running: &Running, members: usize) -> Result<Sample> {
    let run = fan_in(members)?;
    let before = system::cpu_seconds(running.pid);
    let (begun, published) = (Instant::now(), Timestamp::now());
    let id = client.publish_run(&run).await?.run;
    let join = job_id(id, JOIN);
    if !client.wait(join, PATIENCE, true).await?.ended {
        bail!("the run did not come to its fan-in within {} s: {}", PATIENCE.as_secs(), running.said());
    }
    let after = system::cpu_seconds(running.pid);
    let rows = rows(client, id, members, begun).await?;
    let mut last = published;
    let mut start = None;
    for row in &rows {
        if row.state != State::Succeeded || row.attempt != 1 {
            bail!("job {} is {:?} at attempt {}, {:?}", row.id, row.state, row.attempt, row.error);
        }
        if row.id == join {
            start = row.started;
        } else {
            last = last.max(row.ended.context("a job that succeeded has an end")?);
        }
    }
    let start = start.context("the member that needs all has a start")?;
    let millis = start.duration_since(last).as_secs_f64() * 1e3;
    Ok(Sample {
        jobs: members as u64,
        seconds: last.duration_since(published).as_secs_f64(),
        cpu_seconds: before.zip(after).map(|(before, after)| after - before),
        peak_bytes: system::peak(running.pid),
        median_ms: Some(millis),
        ..Sample::default()
    })
}

fn fan_in(members: usize) -> Result<NewJobRun> {
    let job = |args: &str| -> Result<NewJob> {
        Ok(NewJob { queue: Some(QUEUE.to_owned()), args: Some(Json::new(args.to_owned())?), ..NewJob::new("noop") })
    };
    let names: Vec<String> = (1..members).map(|number| format!("m{number}")).collect();
    let mut all = Vec::with_capacity(members);
    for name in &names {
        all.push(NewMember { name: name.clone(), needs: Vec::new(), job: job("null")?, compensate: None });
    }
    all.push(NewMember { name: JOIN.to_owned(), needs: names, job: job(r#"{"$from": "*"}"#)?, compensate: None });
    Ok(NewJobRun::new("bench", all))
}

/// The run's jobs once all are recorded; a member's report may come after that of who needs it.
async fn rows(client: &Client, run: Uuid, members: usize, begun: Instant) -> Result<Vec<JobRow>> {
    loop {
        let mut rows = Vec::with_capacity(members);
        let mut cursor = None;
        loop {
            let filter = JobFilter { run: Some(run), limit: 1000, cursor, ..JobFilter::default() };
            let page = client.jobs(&filter).await?;
            rows.extend(page.rows);
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        if rows.len() > members {
            bail!("{} jobs are recorded of a run of {members}", rows.len());
        }
        if rows.len() == members && rows.iter().all(|row| row.state.is_final()) {
            return Ok(rows);
        }
        if begun.elapsed() > PATIENCE {
            bail!("{} of {members} jobs are recorded", rows.len());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
