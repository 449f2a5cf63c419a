//! What is said of bad expressions; the good ones are compared with an oracle in the root's tests.

use jiff::{Timestamp, tz::TimeZone};
use spinor_executors::{Job, Json};
use uuid::Uuid;

use super::{Cron, Spec, Timing};

const BAD: [(&str, &str); 34] = [
    ("", "expression, column 1: it is empty; `*/5 * * * *` is every five minutes"),
    (
        "*",
        "expression, column 1: it has 1 field, and needs minute, hour, day of month, month and day of week, with the second before them if it is wanted",
    ),
    (
        "* * * *",
        "expression, column 1: it has 4 fields, and needs minute, hour, day of month, month and day of week, with the second before them if it is wanted",
    ),
    (
        "* * * * * * *",
        "expression, column 1: it has 7 fields, and needs minute, hour, day of month, month and day of week, with the second before them if it is wanted",
    ),
    ("60 * * * *", "minute, column 1: 60 is not between 0 and 59"),
    ("* 24 * * *", "hour, column 3: 24 is not between 0 and 23"),
    ("* * 0 * *", "day of month, column 5: 0 is not between 1 and 31"),
    ("*  * 32 * *", "day of month, column 6: 32 is not between 1 and 31"),
    ("* * * 13 *", "month, column 7: 13 is not between 1 and 12"),
    ("* * * 0 *", "month, column 7: 0 is not between 1 and 12"),
    ("* * * * 8", "day of week, column 9: 8 is not between 0 and 7"),
    ("61 * * * * *", "second, column 1: 61 is not between 0 and 59"),
    ("300 * * * *", "minute, column 1: 300 is not between 0 and 59"),
    (
        "* * * foo *",
        "month, column 7: `foo` is no number, nor one of jan, feb, mar, apr, may, jun, jul, aug, sep, oct, nov, dec",
    ),
    ("* * * * noon", "day of week, column 9: `noon` is no number, nor one of sun, mon, tue, wed, thu, fri, sat"),
    ("x * * * *", "minute, column 1: `x` is no number"),
    ("* 1.5 * * *", "hour, column 3: `1.5` is no number"),
    ("5- * * * *", "minute, column 3: a value is missing"),
    ("-5 * * * *", "minute, column 1: a value is missing"),
    ("30-10 * * * *", "minute, column 1: `30-10` goes backwards; write it as two ranges: `30-59,0-10`"),
    ("10-20-30 * * * *", "minute, column 4: `20-30` is no number"),
    ("*/0 * * * *", "minute, column 3: a step of 0 never gets anywhere"),
    (
        "*/90 * * * *",
        "minute, column 3: a step of 90 is longer than the range it goes through, so only its first value would fire; write that",
    ),
    ("*/x * * * *", "minute, column 3: the step `x` is no number from 1 to 255"),
    ("1,,2 * * * *", "minute, column 3: a value is missing"),
    ("1,2, * * * *", "minute, column 5: a value is missing"),
    ("* * L-3 * *", "day of month, column 5: `L` is no number"),
    ("* * 30 2 *", "day of month, column 5: no such day is ever in these months"),
    ("* * * * L", "day of week, column 9: `L` alone is no day; `5L` or `friL` is the last Friday"),
    ("* * * * fri#6", "day of week, column 9: `#6` is not between #1 and #5"),
    ("* * * * #2", "day of week, column 9: a value is missing"),
    (
        "@fortnightly",
        "expression, column 1: `@fortnightly` is none of @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly",
    ),
    ("@every 5m", "expression, column 1: `@every` is not cron: give the time between two as `every`"),
    ("@reboot", "expression, column 1: `@reboot` is not a time"),
];

#[test]
fn each_bad_expression_is_told_what_is_wrong_and_where() {
    for (expression, expected) in BAD {
        let told = expression.parse::<Cron>().map(|cron| cron.to_string()).map_err(|error| error.to_string());
        assert_eq!(told, Err(expected.to_owned()), "{expression:?}");
    }
}

fn spec(timing: Timing) -> Spec {
    Spec::new(timing, Job::new("noop", "default", Json::null()))
}

#[test]
fn the_last_friday_and_the_second_monday_are_found_and_both_days_together_mean_either() {
    let zone = TimeZone::UTC;
    let next = |cron: &str, after: &str| {
        let cron = cron.parse::<Cron>().map_err(|error| error.to_string())?;
        let after = after.parse::<Timestamp>().map_err(|error| error.to_string())?;
        Ok::<_, String>(cron.next(after, &zone).map(|at| at.to_string()))
    };
    let table = [
        ("0 6 * * friL", "2026-11-01T00:00:00Z", "2026-11-27T06:00:00Z"),
        ("0 6 * * 5L", "2026-11-27T06:00:00Z", "2026-12-25T06:00:00Z"),
        ("0 6 * * mon#2", "2026-11-09T06:00:00Z", "2026-12-14T06:00:00Z"),
        ("0 0 L * *", "2028-02-01T00:00:00Z", "2028-02-29T00:00:00Z"),
        ("0 0 13 * fri", "2026-11-01T00:00:00Z", "2026-11-06T00:00:00Z"),
        ("0 0 13 * fri", "2026-12-11T00:00:00Z", "2026-12-13T00:00:00Z"),
        ("0 0 29 2 *", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"),
        ("15 30 8 1 jan ?", "2026-01-01T08:30:15Z", "2027-01-01T08:30:15Z"),
        ("0 0 * * fri-sun", "2026-11-29T00:00:00Z", "2026-12-04T00:00:00Z"),
    ];
    for (cron, after, expected) in table {
        assert_eq!(next(cron, after), Ok(Some(expected.to_owned())), "{cron} after {after}");
    }
}

#[test]
fn an_interval_counts_from_1970_within_start_and_end_and_its_jitter_is_drawn_once() {
    let at = |text: &str| text.parse::<Timestamp>().unwrap_or_default();
    let mut every = spec(Timing::Every { ms: 90_000 });
    (every.start, every.end) = (Some(at("2026-01-01T00:00:00Z")), Some(at("2026-01-01T00:03:00Z")));
    every.jitter_ms = 20_000;
    let schedule = every.schedule().unwrap_or_else(|error| unreachable!("{error}"));
    let mut instants = Vec::new();
    let mut after = at("2020-01-01T00:00:00Z");
    while let Some(next) = schedule.next(after) {
        instants.push(next.to_string());
        after = next;
    }
    assert_eq!(instants, ["2026-01-01T00:00:00Z", "2026-01-01T00:01:30Z", "2026-01-01T00:03:00Z"]);
    let drawn: Vec<i64> = (0..50)
        .map(|second| {
            let instant = Timestamp::from_second(second * 90).unwrap_or_default();
            let fire = schedule.fire_at(Uuid::nil(), instant);
            assert_eq!(fire, schedule.fire_at(Uuid::nil(), instant));
            fire.as_microsecond() - instant.as_microsecond()
        })
        .collect();
    assert!(drawn.iter().all(|off| (0..=20_000_000).contains(off)), "{drawn:?}");
    assert!(drawn.iter().max().zip(drawn.iter().min()).is_some_and(|(most, least)| most - least > 10_000_000));
}

#[test]
fn one_moment_comes_once_however_exact_it_is() {
    let instant = "2026-01-01T00:00:00.123456789Z".parse().unwrap();
    let schedule = spec(Timing::At { instant }).schedule().unwrap();
    let next = schedule.next(Timestamp::UNIX_EPOCH).unwrap();
    assert_eq!((next.as_microsecond(), schedule.next(next)), (instant.as_microsecond(), None));
}

#[test]
fn what_cannot_be_is_told_by_its_field() {
    let field = |spec: &Spec| spec.schedule().map(drop).map_err(|error| error.field);
    let cron = |cron: &str, zone: &str| spec(Timing::Cron { cron: cron.to_owned(), zone: zone.to_owned() });
    assert_eq!(field(&cron("* * * * *", "UTC")), Ok(()));
    assert_eq!(field(&cron("* * * *", "UTC")), Err("cron"));
    assert_eq!(field(&cron("* * * * *", "Mars/Olympus")), Err("zone"));
    assert_eq!(field(&spec(Timing::Every { ms: 999 })), Err("every"));
    let mut wrong = cron("@daily", "UTC");
    (wrong.start, wrong.end) = (Some(Timestamp::UNIX_EPOCH), Some(Timestamp::UNIX_EPOCH));
    assert_eq!(field(&wrong), Err("end"));
    let mut wrong = spec(Timing::Every { ms: 1000 });
    wrong.max_runs = Some(0);
    assert_eq!(field(&wrong), Err("max_runs"));
    (wrong.max_runs, wrong.jitter_ms) = (None, 1000);
    assert_eq!(field(&wrong), Err("jitter"));
}
