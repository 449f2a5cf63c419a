//! The table of delayed jobs in both dialects: who takes what, when, and that it stays until it is published.

use jiff::{SignedDuration, Timestamp};
use spinor_consumers::{
    entry::Entry,
    results::{DelayedChange, DelayedFilter, Lead},
};
use spinor_executors::{Job, Json, State};
use uuid::Uuid;

use crate::recorder::{Record, entries::report};

fn job(seconds: i64) -> Job {
    let mut job = Job::new("noop", "q", Json::null());
    job.due = Some(Timestamp::now() + SignedDuration::from_secs(seconds));
    job
}

#[tokio::test]
async fn only_who_leads_takes_delayed_jobs_that_are_due_and_what_it_does_not_publish_the_next_one_does() {
    for record in [Record::sqlite().await, Record::server().await] {
        let results = &record.results;
        let lead = || Lead { owner: Uuid::now_v7(), who: "test:1".to_owned(), alone: false };
        let (one, two) = (lead(), lead());
        results.take_turn(&one).await.expect("a turn");
        // More than a statement has.
        let mut jobs: Vec<Job> = (0..73).map(|number| job(-100 + number)).collect();
        jobs.push(job(3600));
        let all: Vec<&Job> = jobs.iter().collect();
        results.keep_delayed(&all, "ann").await.expect("they are kept");
        let mut other = jobs[0].clone();
        other.kind = "other".to_owned();
        results.keep_delayed(&[&other], "bob").await.expect("it is kept already");
        assert_eq!(results.delayed_job(other.id).await.expect("an answer").expect("a job").job, jobs[0]);

        // Nor is one kept that has ended.
        let over = job(-100);
        let ended = Entry::Report(Box::new(report(&over, State::Cancelled)));
        results.store(&[ended]).await.expect("it is recorded");
        results.keep_delayed(&[&over], "ann").await.expect("an answer");
        assert!(results.delayed_job(over.id).await.expect("an answer").is_none());

        assert!(results.take_delayed(two.owner, &[]).await.expect("an answer").is_empty());
        assert_eq!(results.look_at_delayed(two.owner).await.expect("a look").epoch, None);
        let look = results.look_at_delayed(one.owner).await.expect("a look");
        assert_eq!((look.epoch, look.wait, look.overdue), (Some(1), Some(std::time::Duration::ZERO), false));
        let taken = results.take_delayed(one.owner, &[]).await.expect("an answer");
        let ids: Vec<Uuid> = taken.iter().map(|one| one.job.id).collect();
        assert_eq!(ids, jobs[..73].iter().map(|job| job.id).collect::<Vec<_>>());
        assert!(results.take_delayed(one.owner, &[]).await.expect("an answer").is_empty());
        let wait = results.look_at_delayed(one.owner).await.expect("a look").wait.expect("one waits");
        assert!(wait.as_secs() > 3500, "{wait:?}");

        // What is being published is nobody else's.
        let gone = results.edit_delayed(&jobs[0], 0, "ann").await.expect("an answer");
        assert_eq!(gone, DelayedChange::Gone);
        assert_eq!(results.cancel_delayed(jobs[0].id, "ann", None).await.expect("an answer"), None);
        results.forget_delayed(&ids[1..]).await.expect("they are gone");
        results.give_up_lead(one.owner).await.expect("it is given up");
        results.take_turn(&two).await.expect("a turn");
        assert!(results.left_delayed(false).await.expect("an answer").is_empty());
        let left = results.left_delayed(true).await.expect("an answer");
        assert_eq!(left.iter().map(|one| one.job.id).collect::<Vec<_>>(), [jobs[0].id]);
        // A job that waits is not removed by who published it once.
        results.forget_delayed(&[jobs[0].id, jobs[73].id]).await.expect("it is gone");
        assert_eq!(results.delayed(&DelayedFilter::default()).await.expect("a list").rows.len(), 1);
        record.end().await;
    }
}

#[tokio::test]
async fn of_two_edits_of_one_delayed_job_the_second_is_told_and_a_cancelled_one_is_kept_until_that_is_known() {
    for record in [Record::sqlite().await, Record::server().await] {
        let results = &record.results;
        let (mut job, run) = (job(3600), Uuid::now_v7());
        job.run = Some(run);
        results.keep_delayed(&[&job], "ann").await.expect("it is kept");
        let edited = Job { priority: Some(9), ..job.clone() };
        assert_eq!(results.edit_delayed(&edited, 0, "bob").await.expect("an answer"), DelayedChange::Done);
        assert_eq!(results.edit_delayed(&job, 0, "cid").await.expect("an answer"), DelayedChange::Other);
        let found = results.delayed_job(job.id).await.expect("an answer").expect("a job");
        assert_eq!((found.job, found.row.revision, found.row.changed_by.as_str()), (edited, 1, "bob"));
        assert_eq!(results.delayed_until(&[job.id]).await.expect("an answer").len(), 1);

        assert_eq!(results.cancel_delayed_of(run, "dan", Some("no more")).await.expect("an answer"), 1);
        assert!(results.delayed(&DelayedFilter::default()).await.expect("a list").rows.is_empty());
        let left = results.left_delayed(false).await.expect("an answer");
        let wish = left[0].cancelled.clone().expect("a wish");
        assert_eq!((wish.by.as_str(), wish.why.as_deref()), ("dan", Some("no more")));
        results.forget_delayed(&[job.id]).await.expect("it is gone");
        assert_eq!(results.delayed_job(job.id).await.expect("an answer"), None);
        record.end().await;
    }
}
