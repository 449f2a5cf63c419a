//! A year of instants in three zones, compared line by line with what croniter and zoneinfo say.

use std::{fmt::Write as _, io::Write as _, path::Path, process::Stdio};

use jiff::{Timestamp, tz::TimeZone};
use spinor_consumers::schedule::Cron;

const ZONES: [&str; 3] = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"];

/// Ours, and the form that croniter wants: seconds last, `L5` for the last Friday.
const CRONS: [(&str, &str); 14] = [
    ("*/30 * * * *", "*/30 * * * *"),
    ("30 2 * * *", "30 2 * * *"),
    ("10,50 1-3 * * *", "10,50 1-3 * * *"),
    ("15 2 * mar,apr,oct,nov *", "15 2 * mar,apr,oct,nov *"),
    ("0 0 * * *", "0 0 * * *"),
    ("@monthly", "@monthly"),
    ("@weekly", "@weekly"),
    ("0 12 * * mon-fri", "0 12 * * mon-fri"),
    ("45 23 L * *", "45 23 L * *"),
    ("0 6 * * 5L", "0 6 * * L5"),
    ("0 6 * * tue#2", "0 6 * * tue#2"),
    ("0 6 13 * fri", "0 6 13 * fri"),
    ("5-59/25 0-4/2 1,15,29 */2 *", "5-59/25 0-4/2 1,15,29 */2 *"),
    ("*/20 59 1,2 * * sun", "59 1,2 * * sun */20"),
];

#[test]
fn a_year_with_both_changes_of_the_clock_in_three_zones_fires_as_the_oracle_says() {
    let (first, last) = ("2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z");
    let [first, last] = [first, last].map(|text| text.parse::<Timestamp>().unwrap());
    let (mut cases, mut ours) = (String::new(), String::new());
    let all = ZONES.iter().flat_map(|zone| CRONS.iter().map(move |crons| (crons, zone)));
    for (number, ((cron, croniter), name)) in all.enumerate() {
        writeln!(cases, "{cron}\t{croniter}\t{name}").unwrap();
        let (cron, zone): (Cron, _) = (cron.parse().unwrap(), TimeZone::get(name).unwrap());
        let mut at = first;
        while let Some(next) = cron.next(at, &zone).filter(|next| *next <= last) {
            writeln!(ours, "{number} {}", next.as_second()).unwrap();
            at = next;
        }
    }
    let theirs = oracle(&cases, first, last);
    let cases: Vec<&str> = cases.lines().collect();
    for (place, (ours, theirs)) in ours.lines().zip(theirs.lines()).enumerate() {
        let case = ours.split(' ').next().and_then(|number| number.parse::<usize>().ok()).map(|number| cases[number]);
        assert_eq!(ours, theirs, "line {place}, {case:?}");
    }
    assert_eq!(ours.lines().count(), theirs.lines().count());
    assert!(ours.lines().count() > 50_000, "{}", ours.lines().count());
}

/// Debian's own Python has croniter.
fn oracle(cases: &str, first: Timestamp, last: Timestamp) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/triggers/oracle.py");
    let mut child = std::process::Command::new("/usr/bin/python3")
        .arg(script)
        .args([first.as_second().to_string(), last.as_second().to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Python starts");
    child.stdin.take().expect("a pipe").write_all(cases.as_bytes()).expect("it reads");
    let done = child.wait_with_output().expect("it ends");
    assert!(done.status.success(), "the oracle ended with {}", done.status);
    String::from_utf8(done.stdout).expect("numbers")
}
