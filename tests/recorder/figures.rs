//! Figures: each execution is counted once, however often it is stored, by minute and by kind.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use spinor_consumers::{
    entry::Entry,
    results::{FIGURES_KEPT, Figure, FigureFilter},
};
use spinor_executors::State;

use super::{
    Record,
    entries::{job, report},
};

fn ended(state: State, kind: &str, later: SignedDuration) -> Entry {
    let mut job = job();
    kind.clone_into(&mut job.kind);
    let mut report = report(&job, state);
    report.ended += later;
    Entry::Report(Box::new(report))
}

async fn counted(record: &Record) {
    let hour = SignedDuration::from_hours(1);
    let now = Timestamp::now();
    let (one, slow) = (ended(State::Succeeded, "a", -hour), ended(State::Succeeded, "a", hour));
    let (bad, other) = (ended(State::Failed, "a", SignedDuration::ZERO), ended(State::Retrying, "b", -hour));
    record.results.store(&[one.clone(), bad.clone()]).await.unwrap();
    // A pack that comes again, with others, as when the answer to it was lost.
    record.results.keep(&[one, slow.clone(), bad.clone(), other.clone(), other], true).await.unwrap();
    record.results.keep(&[slow, bad], true).await.unwrap();

    let filter = FigureFilter { from: now - hour - hour, to: now + hour + hour, kind: None };
    let kinds = record.results.figures_by_kind(&filter).await.unwrap();
    let states = |figure: &Figure| figure.ended.clone();
    assert_eq!(states(&kinds["a"]), BTreeMap::from([(State::Succeeded, 2), (State::Failed, 1)]));
    assert_eq!(states(&kinds["b"]), BTreeMap::from([(State::Retrying, 1)]));
    assert_eq!((kinds["a"].ran.times(), kinds["a"].waited.times()), (3, 3));
    let slowest = kinds["a"].ran.quantile(1.0).unwrap();
    assert!((3300.0..3900.0).contains(&slowest), "{slowest}");

    let only = FigureFilter { kind: Some("b".to_owned()), ..filter.clone() };
    let spans = record.results.figures_by_time(&only, 60).await.unwrap();
    assert_eq!(spans.keys().copied().collect::<Vec<_>>(), [1], "an hour after the first of four");
    let spans = record.results.figures_by_time(&filter, 60).await.unwrap();
    assert_eq!(spans.values().map(|figure| figure.ended.values().sum::<u64>()).sum::<u64>(), 4);

    // Days are read by the hour, and say the same.
    let day = Timestamp::from_second((now.as_second() / 3600 - 12) * 3600).unwrap();
    let days = FigureFilter { from: day, ..filter.clone() };
    let by_hour = record.results.figures_by_kind(&days).await.unwrap();
    assert_eq!(by_hour, kinds);
    record.execute("UPDATE figure_hours SET times = times * 10").await;
    let spans = record.results.figures_by_time(&days, 120).await.unwrap();
    assert_eq!(spans.values().map(|figure| figure.ended.values().sum::<u64>()).sum::<u64>(), 40, "{spans:?}");

    let totals = record.results.totals();
    assert_eq!(totals["a"].ended, kinds["a"].ended);
    assert!((totals["a"].ran.seconds - 3600.0).abs() < 1.0, "{}", totals["a"].ran.seconds);

    // What is too old goes with what a recorder stores next.
    let minutes = FIGURES_KEPT * 60;
    record.execute(&format!("UPDATE figures SET minute = minute - {minutes}")).await;
    record.execute(&format!("UPDATE figure_hours SET hour = hour - {FIGURES_KEPT}")).await;
    record.again().await.store(&[ended(State::Succeeded, "c", SignedDuration::ZERO)]).await.unwrap();
    let filter = FigureFilter { from: Timestamp::UNIX_EPOCH, ..filter };
    let kinds = record.results.figures_by_kind(&filter).await.unwrap();
    assert_eq!(kinds.keys().collect::<Vec<_>>(), ["c"]);
}

#[tokio::test]
async fn what_is_stored_again_is_counted_once_in_sqlite() {
    let record = Record::sqlite().await;
    counted(&record).await;
    record.end().await;
}

#[tokio::test]
async fn what_is_stored_again_is_counted_once_on_a_server() {
    let record = Record::server().await;
    counted(&record).await;
    record.end().await;
}
