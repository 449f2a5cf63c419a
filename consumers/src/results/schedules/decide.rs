//! Which instants of a trigger fire now, and which were missed. Pure.

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::schedule::{Misfire, Schedule};

/// What is later than this has been missed; of short periods it is the half.
const LATE: SignedDuration = SignedDuration::from_secs(60);
/// Of what was missed so many fire at most.
const MOST: usize = 100;
/// So many of them at once, the others a second later: downtime is no reason for a storm.
const AT_ONCE: usize = 10;
/// After a long downtime nobody counts further back than so many periods.
const COUNTED: i32 = 10_000;

/// What is done.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// These fire, with the time that was planned for it.
    pub fire: Vec<(Timestamp, Timestamp)>,
    /// So many were missed, the first and the last.
    pub missed: Option<(usize, Timestamp, Timestamp)>,
    /// These do not: they lie in blackouts.
    pub black: Vec<Black>,
    /// Up to here it is decided.
    pub last: Timestamp,
    /// More of what was missed is to be fired a moment later.
    pub more: bool,
}

/// Instants in one blackout.
#[derive(Debug, PartialEq, Eq)]
pub struct Black {
    /// The window.
    pub window: String,
    /// So many, at least.
    pub count: usize,
    /// The first.
    pub first: Timestamp,
    /// The last, which may be to come.
    pub last: Timestamp,
}

impl Black {
    fn of(schedule: &Schedule, first: Timestamp) -> Option<Self> {
        let (window, until) = schedule.blackout(first)?;
        let (count, last) = schedule.count(first, until);
        Some(Self { window: window.to_owned(), count, first, last })
    }
}

/// Decides from the planned instant on.
pub fn decide(schedule: &Schedule, id: Uuid, planned: Timestamp, misfire: Misfire, now: Timestamp) -> Decision {
    if schedule.counts_from_end() {
        return after_end(schedule, id, planned, misfire, now);
    }
    let mut black = Vec::new();
    let (mut late, mut fire) = (Vec::new(), Vec::new());
    let period = schedule.next(planned).map(|next| next.duration_since(planned));
    let bound = period.map_or(LATE, |period| LATE.min(period / 2));
    let (mut at, mut last) = (Some(planned), planned.checked_sub(SignedDuration::from_micros(1)).unwrap_or(planned));
    let until = schedule.end().map_or(now, |end| end.min(now));
    if let Some(back) = period.and_then(|period| period.checked_mul(COUNTED))
        && until.checked_sub(back).is_ok_and(|from| from > planned)
        // Back from the last instant: they may come in bursts with long pauses.
        && let Ok(from) = last_by(schedule, planned, until).checked_sub(back)
        && from > planned
    {
        (at, last) = (schedule.next(from), from);
    }
    // None fires before the one before it, whatever was drawn for both.
    let mut before = Timestamp::MIN;
    while let Some(instant) = at {
        let time = schedule.fire_at(id, instant).max(before);
        if time > now {
            break;
        }
        if let Some(window) = Black::of(schedule, instant) {
            last = window.last;
            at = schedule.next(last);
            black.push(window);
            continue;
        }
        before = time;
        last = instant;
        if now.duration_since(time) > bound {
            late.push((instant, time));
        } else {
            fire.push((instant, time));
        }
        at = schedule.next(instant);
    }
    let keep = match misfire {
        Misfire::Skip => 0,
        Misfire::Once => 1,
        Misfire::All => MOST,
    };
    let mut kept = late.split_off(late.len().saturating_sub(keep));
    let missed = late.first().zip(late.last()).map(|(first, last)| (late.len(), first.0, last.0));
    let more = kept.len() > AT_ONCE;
    if more {
        kept.truncate(AT_ONCE);
        fire.clear();
        last = kept.last().map_or(last, |kept| kept.0);
    }
    kept.append(&mut fire);
    Decision { fire: kept, missed, black, last, more }
}

/// The same where the interval is counted from the end of a job: of the one instant there is.
fn after_end(schedule: &Schedule, id: Uuid, planned: Timestamp, misfire: Misfire, now: Timestamp) -> Decision {
    let time = schedule.fire_at(id, planned);
    let decision = Decision { last: planned, ..Decision::default() };
    if let Some(black) = Black::of(schedule, planned) {
        return Decision { last: black.last, black: vec![black], ..decision };
    }
    let period = schedule.next(planned).map_or(LATE, |next| next.duration_since(planned));
    if misfire == Misfire::Skip && now.duration_since(time) > LATE.min(period / 2) {
        // No end will come: the next one is counted from now.
        return Decision { missed: Some((1, planned, planned)), last: now, ..decision };
    }
    Decision { fire: vec![(planned, time)], ..decision }
}

/// The last instant up to `until`, from one on that is before it.
fn last_by(schedule: &Schedule, from: Timestamp, until: Timestamp) -> Timestamp {
    let (mut low, mut high) = (from, until);
    // No two are closer.
    while high.duration_since(low) >= SignedDuration::from_secs(1) {
        let middle = low + high.duration_since(low) / 2;
        match schedule.next(middle) {
            Some(at) if at <= until => low = at,
            _ => high = middle,
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use spinor_executors::{Job, Json};

    use super::*;
    use crate::schedule::{Spec, Timing};

    fn schedule(ms: u64) -> Schedule {
        Spec::new(Timing::Every { ms }, Job::new("noop", "default", Json::null())).schedule().unwrap()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// The seconds that fire, how many were missed, the last that is decided, and whether more are to come.
    fn decided(ms: u64, planned: i64, misfire: Misfire, now: i64) -> (Vec<i64>, usize, i64, bool) {
        let decision = decide(&schedule(ms), Uuid::nil(), at(planned), misfire, at(now));
        let fire = decision.fire.iter().map(|(instant, _)| instant.as_second()).collect();
        (fire, decision.missed.map_or(0, |missed| missed.0), decision.last.as_second(), decision.more)
    }

    #[test]
    fn three_missed_periods_are_treated_by_each_policy() {
        let minute = 60_000;
        assert_eq!(decided(minute, 600, Misfire::Skip, 600), (vec![600], 0, 600, false));
        assert_eq!(decided(minute, 600, Misfire::Skip, 630), (vec![600], 0, 600, false));
        assert_eq!(decided(minute, 600, Misfire::Skip, 631), (vec![], 1, 600, false));
        assert_eq!(decided(minute, 600, Misfire::Skip, 780), (vec![780], 3, 780, false));
        assert_eq!(decided(minute, 600, Misfire::Once, 771), (vec![720], 2, 720, false));
        assert_eq!(decided(minute, 600, Misfire::Once, 780), (vec![720, 780], 2, 780, false));
        assert_eq!(decided(minute, 600, Misfire::All, 780), (vec![600, 660, 720, 780], 0, 780, false));
    }

    #[test]
    fn after_a_long_downtime_all_means_the_last_hundred_ten_at_a_time() {
        let (fire, missed, last, more) = decided(1000, 1000, Misfire::All, 1500);
        assert_eq!((fire, missed, last, more), ((1400..1410).collect(), 400, 1409, true));
        let (fire, missed, last, more) = decided(1000, 1490, Misfire::All, 1500);
        assert_eq!((fire, missed, last, more), ((1490..=1500).collect(), 0, 1500, false));
        let mut spec = Spec::new(Timing::Every { ms: 1000 }, Job::new("noop", "default", Json::null()));
        spec.end = Some(at(20_000));
        let decision = decide(&spec.schedule().unwrap(), Uuid::nil(), at(1), Misfire::Once, at(50_000_000));
        assert_eq!(decision.fire, [(at(20_000), at(20_000))]);
        let (fire, missed, ..) = decided(1000, 1, Misfire::Once, 50_000_000);
        assert_eq!((fire, missed), (vec![49_999_999, 50_000_000], 9998));
    }

    #[test]
    fn of_an_interval_after_an_end_the_one_instant_fires_late_or_is_counted_anew() {
        let spec = Spec::new(Timing::AfterEnd { ms: 60_000 }, Job::new("noop", "default", Json::null()));
        let schedule = spec.schedule().unwrap();
        let decided = |misfire, now| {
            let decision = decide(&schedule, Uuid::nil(), at(600), misfire, at(now));
            let fire: Vec<i64> = decision.fire.iter().map(|(instant, _)| instant.as_second()).collect();
            (fire, decision.missed.is_some(), decision.last.as_second())
        };
        assert_eq!(decided(Misfire::Skip, 630), (vec![600], false, 600));
        assert_eq!(decided(Misfire::Skip, 900), (vec![], true, 900));
        assert_eq!(decided(Misfire::Once, 900), (vec![600], false, 600));
        assert_eq!(decided(Misfire::All, 900), (vec![600], false, 600));
    }

    #[test]
    fn instants_of_a_blackout_neither_fire_nor_count_as_missed_and_are_passed_at_once() {
        let mut spec = Spec::new(Timing::Every { ms: 3_600_000 }, Job::new("noop", "default", Json::null()));
        spec.blackout = vec!["22:00-06:00".to_owned()];
        spec.zone = Some("Europe/Berlin".to_owned());
        let schedule = spec.schedule().unwrap();
        let moment = |text: &str| text.parse::<Timestamp>().unwrap();
        // The night in which the clock is put forward has seven of these hours.
        let decision = decide(
            &schedule,
            Uuid::nil(),
            moment("2026-03-28T20:00:00Z"),
            Misfire::All,
            moment("2026-03-28T21:30:00Z"),
        );
        let black = &decision.black[0];
        let (first, last) = (moment("2026-03-28T21:00:00Z"), moment("2026-03-29T03:00:00Z"));
        assert_eq!((black.window.as_str(), black.count, black.first, black.last), ("22:00-06:00", 7, first, last));
        assert_eq!((decision.fire.len(), decision.missed, decision.last), (1, None, last));
        assert_eq!(schedule.coming(moment("2026-03-28T20:00:00Z")), Some(moment("2026-03-29T04:00:00Z")));
        spec.blackout = vec!["00:00-24:00".to_owned()];
        assert_eq!(spec.schedule().unwrap().coming(moment("2026-03-28T20:00:00Z")), None);
    }

    fn cron(text: &str, jitter_ms: u64) -> Schedule {
        let timing = Timing::Cron { cron: text.to_owned(), zone: "UTC".to_owned() };
        let job = Job::new("noop", "default", Json::null());
        Spec { jitter_ms, ..Spec::new(timing, job) }.schedule().unwrap()
    }

    #[test]
    fn instants_that_come_in_bursts_are_found_after_a_downtime_many_times_their_period() {
        let schedule = cron("0-5 0 1 * *", 0);
        let (first, later) = ("2027-03-01T00:00:00Z".parse().unwrap(), "2027-03-20T12:00:00Z".parse().unwrap());
        let once = decide(&schedule, Uuid::nil(), first, Misfire::Once, later);
        let last: Timestamp = "2027-03-01T00:05:00Z".parse().unwrap();
        assert_eq!((once.fire.len(), once.fire[0].0, once.missed.unwrap().0, once.last), (1, last, 5, last));
        assert_eq!(decide(&schedule, Uuid::nil(), first, Misfire::All, later).fire.len(), 6);
    }

    #[test]
    fn an_instant_put_off_by_more_than_its_period_puts_the_next_ones_off_and_none_is_missed() {
        let schedule = cron("* * * * *", 300_000);
        let start: Timestamp = "2027-03-01T00:00:00Z".parse().unwrap();
        for id in (1..50).map(Uuid::from_u128) {
            let (mut planned, mut fired) = (start, 0);
            // A leader that looks each second for an hour.
            for second in 0..3600 {
                let decision = decide(&schedule, id, planned, Misfire::Skip, start + SignedDuration::from_secs(second));
                assert_eq!(decision.missed, None, "{id} {second}");
                fired += decision.fire.len();
                planned = schedule.next(decision.last).unwrap();
            }
            assert!((50..=60).contains(&fired), "{fired}");
        }
    }
}
