//! Torture: an installation of real processes under a seeded plan of faults, and an oracle over the
//! ledgers it leaves (`docs/decisions/011-torture.md`).
//!
//! The short form deals each fault once. With `SPINOR_TORTURE_SECONDS` (and `SPINOR_TORTURE_SEED`)
//! the same test is the long form: `deploy/torture.sh`; `make soak` takes ten minutes. A planted
//! fault has the seed of the plain run, and has to be found.

mod ledgers;
mod mix;
mod oracle;
mod part;
mod plan;
mod publisher;
mod stage;
mod striker;
mod summary;

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{recorder::entries::Draw, support::soak};
use ledgers::Ledgers;
use oracle::{Problem, Rule};
use plan::Plan;
use publisher::Publisher;
use stage::Stage;
use striker::Striker;

const SEED: u64 = 0x5EED_0004;
/// After the last strike all must be quiet within this.
const QUIET: Duration = Duration::from_secs(240);
/// A planted fault shows sooner.
const SHOWN: Duration = Duration::from_secs(40);

/// One run on each broker at a time: a run takes about a core.
static EMBEDDED: Mutex<()> = Mutex::const_new(());
static RABBITMQ: Mutex<()> = Mutex::const_new(());

/// How a run is asked for.
struct Form {
    seed: u64,
    /// The long form's duration; the short form deals its decks once.
    seconds: Option<u64>,
    planted: Option<&'static str>,
}

impl Form {
    fn asked() -> Self {
        let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
        Self {
            seed: number("SPINOR_TORTURE_SEED").unwrap_or(SEED),
            seconds: number("SPINOR_TORTURE_SECONDS").or(soak::or(None, Some(600))),
            planted: None,
        }
    }

    const fn planted(fault: &'static str) -> Self {
        Self { seed: SEED, seconds: None, planted: Some(fault) }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_one_process_under_a_plan_of_faults_loses_no_job_and_records_each_once() {
    embedded(&Form::asked()).await.assert_clean();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_consumers_on_rabbitmq_under_a_plan_of_faults_lose_no_job_and_record_each_once() {
    rabbitmq(&Form::asked()).await.assert_clean();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn planted_an_ack_before_the_confirm_is_found() {
    rabbitmq(&Form::planted("ack-before-confirm")).await.assert_found(Rule::Lost);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn planted_a_returned_message_that_counts_as_published_is_found() {
    rabbitmq(&Form::planted("drop-on-return")).await.assert_found(Rule::Lost);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn planted_a_hold_that_is_forgotten_when_its_holder_dies_is_found() {
    // Few jobs are held when their consumer is killed: more decks, so that one is for certain.
    rabbitmq(&Form { seconds: Some(75), ..Form::planted("forgotten-hold") }).await.assert_found(Rule::Lost);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn planted_a_cancel_that_is_not_obeyed_is_found() {
    rabbitmq(&Form::planted("lost-cancel")).await.assert_found(Rule::LostCancel);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn planted_a_settle_done_twice_is_found() {
    embedded(&Form::planted("settle-twice")).await.assert_found(Rule::Unexplained);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn planted_a_retry_without_bound_is_found() {
    embedded(&Form::planted("retry-without-bound")).await.assert_found(Rule::BeyondPolicy);
}

/// A run that is over, and where its ledgers are.
struct Ran {
    problems: Vec<Problem>,
    kept: PathBuf,
}

impl Ran {
    fn assert_clean(&self) {
        assert!(self.problems.is_empty(), "{} problems, {}", self.problems.len(), self.first());
    }

    fn assert_found(&self, rule: Rule) {
        let found = self.problems.iter().filter(|problem| problem.rule == rule).count();
        assert!(found > 0, "{rule:?} was not found; {}", self.first());
    }

    fn first(&self) -> String {
        let first: Vec<&Problem> = self.problems.iter().take(20).collect();
        format!("ledgers and logs are kept in {}; the first problems: {first:#?}", self.kept.display())
    }
}

async fn embedded(form: &Form) -> Ran {
    let _alone = EMBEDDED.lock().await;
    let stage = Stage::embedded(form.planted).await;
    let plans = vec![Plan::new(form.seed, plan::AT_THE_PROCESS, 1, form.seconds.is_some())];
    torture("embedded", &stage, form, plans, 1).await
}

async fn rabbitmq(form: &Form) -> Ran {
    let _alone = RABBITMQ.lock().await;
    let stage = Stage::rabbitmq(form.planted).await;
    let long = form.seconds.is_some();
    let servers = if long { [plan::AT_SERVERS, plan::SLOW].concat() } else { plan::AT_SERVERS.to_vec() };
    let plans = vec![
        Plan::new(form.seed, plan::AT_CONSUMERS, stage::MANY, long),
        Plan::new(form.seed.rotate_left(17), &servers, stage::MANY, long),
        Plan::new(form.seed.rotate_left(29), plan::AT_THE_SIDES, stage::ONCE, long),
    ];
    torture("rabbitmq", &stage, form, plans, 2).await
}

/// Publishes and strikes, heals, waits, and asks the oracle.
async fn torture(broker: &str, stage: &Stage, form: &Form, plans: Vec<Plan>, publishers: u64) -> Ran {
    let begun = Instant::now();
    let publisher = Publisher::new(stage.spinor.path(), stage.broker.is_some());
    let striker = Striker::new(stage);
    let stop = CancellationToken::new();
    let publishing = async {
        let one = |number: u64| {
            let draw = Draw::new(form.seed.wrapping_add(number));
            publisher.publish(stage.client(), draw, stop.clone())
        };
        let all = futures_util::future::join_all((0..publishers).map(one));
        tokio::join!(all, publisher.look(stage.client(), stop.clone()));
    };
    let until = form.seconds.map(|seconds| begun + Duration::from_secs(seconds));
    let striking = async {
        let hands = plans.into_iter().map(|plan| deal(&striker, plan, until));
        futures_util::future::join_all(hands).await;
        stop.cancel();
    };
    let looking = async {
        while !stop.is_cancelled() {
            for part in stage.parts() {
                striker.look_after(part).await;
            }
            sleep(Duration::from_millis(500)).await;
        }
    };
    tokio::join!(publishing, striking, looking);
    let struck = begun.elapsed();
    stage.quiet(publisher.sure(), if form.planted.is_some() { SHOWN } else { QUIET }).await;
    let quiet = begun.elapsed().saturating_sub(struck);
    for part in stage.parts() {
        striker.look_after(part).await;
    }
    let boots = stage.boots();
    stage.end(&boots, striker.left()).await;
    let ledgers = Ledgers::read(stage.spinor.path());
    let problems = oracle::problems(&ledgers);
    let summary = summary::of(broker, form, &ledgers, &problems, struck, quiet);
    let kept = summary::keep(&summary, stage.spinor.path());
    Ran { problems, kept }
}

/// One hand deals strikes: its deck once, or until the end of the long form.
async fn deal(striker: &Striker<'_>, mut plan: Plan, until: Option<Instant>) {
    let mut left = plan.round();
    while until.map_or(left > 0, |until| Instant::now() < until) {
        let planned = plan.deal();
        sleep(planned.after).await;
        striker.strike(planned).await;
        left = left.saturating_sub(1);
    }
}

/// The rules by which a run may fail, for the summary.
fn rules(problems: &[Problem]) -> BTreeSet<Rule> {
    problems.iter().map(|problem| problem.rule).collect()
}
