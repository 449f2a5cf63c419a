//! Cron expressions: five fields, or six with seconds in front, and the next instant of one.
//!
//! Owns what an expression means in a time zone, also where its clock is moved: an instant in the gap
//! fires at the gap's end, an hour that comes twice fires the first time. Refuses expressions that
//! never fire.

use std::{fmt, str::FromStr};

use jiff::{
    Timestamp,
    civil::{Date, DateTime, Time},
    tz::{AmbiguousOffset, TimeZone},
};

use super::{
    CronError,
    field::{DAY, HOUR, MINUTE, MONTH, Piece, Rules, SECOND, WEEKDAY},
};

/// Dates repeat after 400 years, but a 29 February on a given weekday comes within 40.
const YEARS: i16 = 41;

const MACROS: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

/// A cron expression that fires at some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    text: String,
    seconds: u64,
    minutes: u64,
    hours: u64,
    days: Days,
}

/// Which days fire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Days {
    months: u64,
    /// Of the month.
    days: u64,
    last_day: bool,
    /// Sunday is bit 0.
    weekdays: u64,
    /// The nth of a weekday, from 1; `LAST` is the last.
    nth: Vec<(u8, u8)>,
    /// Both the day of the month and that of the week are told: either will do.
    either: bool,
}

const LAST: u8 = 0;

impl Cron {
    /// The first instant after `after` at which it fires in `zone`.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let mut local = zone.to_datetime(after);
        loop {
            local = self.next_local(local)?;
            let at = instant(local, zone)?;
            // In the hour that comes twice the clock shows again what has fired.
            if at > after {
                return Some(at);
            }
        }
    }

    /// The first local time after `after`.
    fn next_local(&self, after: DateTime) -> Option<DateTime> {
        if self.days.fires(after.date())
            && let Some(time) = self.next_time(after.time())
        {
            return Some(after.date().to_datetime(time));
        }
        let date = self.days.next(after.date())?;
        Some(date.to_datetime(self.first_time()))
    }

    fn first_time(&self) -> Time {
        at(first(self.hours), first(self.minutes), first(self.seconds))
    }

    /// The first time of the day after `after`.
    fn next_time(&self, after: Time) -> Option<Time> {
        let (hour, minute, second) = (after.hour(), after.minute(), after.second());
        if has(self.hours, hour) {
            if has(self.minutes, minute)
                && let Some(second) = above(self.seconds, second)
            {
                return Some(at(hour, minute, second));
            }
            if let Some(minute) = above(self.minutes, minute) {
                return Some(at(hour, minute, first(self.seconds)));
            }
        }
        above(self.hours, hour).map(|hour| at(hour, first(self.minutes), first(self.seconds)))
    }
}

impl Days {
    fn fires(&self, date: Date) -> bool {
        has(self.months, date.month()) && {
            let (by_month, by_week) = (self.in_month(date), self.in_week(date));
            if self.either { by_month || by_week } else { by_month && by_week }
        }
    }

    fn in_month(&self, date: Date) -> bool {
        has(self.days, date.day()) || (self.last_day && date.day() == date.days_in_month())
    }

    fn in_week(&self, date: Date) -> bool {
        let weekday = date.weekday().to_sunday_zero_offset();
        has(self.weekdays, weekday)
            || self.nth.iter().any(|(of, nth)| {
                let is = if *nth == LAST {
                    date.day() + 7 > date.days_in_month()
                } else {
                    (date.day() + 6) / 7 == i8::try_from(*nth).unwrap_or(0)
                };
                i8::try_from(*of) == Ok(weekday) && is
            })
    }

    /// The first day after `after`.
    fn next(&self, after: Date) -> Option<Date> {
        let last = after.year().saturating_add(YEARS);
        let mut date = after.tomorrow().ok()?;
        while date.year() <= last {
            if !has(self.months, date.month()) {
                date = date.last_of_month().tomorrow().ok()?;
            } else if self.fires(date) {
                return Some(date);
            } else {
                date = date.tomorrow().ok()?;
            }
        }
        None
    }
}

/// When a local time is: the first of two, and the end of a gap for one that is left out.
fn instant(local: DateTime, zone: &TimeZone) -> Option<Timestamp> {
    match zone.to_ambiguous_timestamp(local).offset() {
        AmbiguousOffset::Unambiguous { offset } | AmbiguousOffset::Fold { before: offset, .. } => {
            offset.to_timestamp(local).ok()
        }
        // With the offset that is to come it lies before the gap, whose end is the next change.
        AmbiguousOffset::Gap { after, .. } => {
            zone.following(after.to_timestamp(local).ok()?).next().map(|change| change.timestamp())
        }
    }
}

impl FromStr for Cron {
    type Err = CronError;

    fn from_str(text: &str) -> Result<Self, CronError> {
        let fields = match text.trim() {
            word if word.starts_with('@') => expand(text, word)?,
            fields => fields,
        };
        let whole = |what: String| CronError { column: 1, field: "expression", what };
        let offset = |part: &str| part.as_ptr() as usize - fields.as_ptr() as usize;
        let parts: Vec<(&str, usize)> =
            fields.split_whitespace().map(|part| (part, fields[..offset(part)].chars().count() + 1)).collect();
        let (second, rest) = match parts.len() {
            5 => (None, &parts[..]),
            6 => (Some(parts[0]), &parts[1..]),
            0 => return Err(whole("it is empty; `*/5 * * * *` is every five minutes".to_owned())),
            count => {
                return Err(whole(format!(
                    "it has {count} field{}, and needs minute, hour, day of month, month and day of week, with the \
                     second before them if it is wanted",
                    if count == 1 { "" } else { "s" }
                )));
            }
        };
        let set = |rules: &Rules, (text, column): (&str, usize)| {
            Piece::of(rules, text, column).try_fold(0, |bits, piece| Ok::<_, CronError>(bits | piece.values()?))
        };
        let cron = Self {
            text: text.trim().to_owned(),
            seconds: second.map_or(Ok(1), |second| set(&SECOND, second))?,
            minutes: set(&MINUTE, rest[0])?,
            hours: set(&HOUR, rest[1])?,
            days: days(rest[2], set(&MONTH, rest[3])?, rest[4])?,
        };
        match cron.days.next(Date::constant(2000, 1, 1)) {
            Some(_) => Ok(cron),
            None => Err(CronError {
                column: rest[2].1,
                field: DAY.name,
                what: "no such day is ever in these months".to_owned(),
            }),
        }
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

fn expand(text: &str, word: &str) -> Result<&'static str, CronError> {
    let known = MACROS.iter().find(|(name, _)| name.eq_ignore_ascii_case(word));
    known.map(|(_, fields)| *fields).ok_or_else(|| {
        let what = match word.split_whitespace().next() {
            Some("@every") => "`@every` is not cron: give the time between two as `every`".to_owned(),
            Some("@reboot") => "`@reboot` is not a time".to_owned(),
            _ => format!("`{word}` is none of {}", MACROS.map(|(name, _)| name).join(", ")),
        };
        CronError { column: 1 + text.chars().take_while(|c| c.is_whitespace()).count(), field: "expression", what }
    })
}

fn days(day: (&str, usize), months: u64, weekday: (&str, usize)) -> Result<Days, CronError> {
    let mut days = Days { months, ..Days::default() };
    for piece in Piece::of(&DAY, day.0, day.1) {
        match piece.text {
            "L" | "l" => days.last_day = true,
            _ => days.days |= piece.values()?,
        }
    }
    for piece in Piece::of(&WEEKDAY, weekday.0, weekday.1) {
        let (of, nth) = match (piece.text.split_once('#'), piece.text.strip_suffix(['L', 'l'])) {
            (Some((of, nth)), _) => match nth.parse() {
                Ok(nth @ 1..=5) => (of, nth),
                _ => return Err(piece.wrong(format!("`#{nth}` is not between #1 and #5"))),
            },
            (None, Some("")) => return Err(piece.wrong("`L` alone is no day; `5L` or `friL` is the last Friday")),
            (None, Some(of)) => (of, LAST),
            (None, None) => {
                days.weekdays |= piece.values()?;
                continue;
            }
        };
        days.nth.push((Piece { text: of, ..piece }.value()? % 7, nth));
    }
    days.weekdays = (days.weekdays | days.weekdays >> 7) & 0x7f;
    let told = |field: &str| !field.starts_with(['*', '?']);
    days.either = told(day.0) && told(weekday.0);
    Ok(days)
}

const fn has(bits: u64, value: i8) -> bool {
    bits >> value & 1 == 1
}

/// The least value; there always is one.
fn first(bits: u64) -> i8 {
    i8::try_from(bits.trailing_zeros()).unwrap_or(0)
}

/// The least value above another.
fn above(bits: u64, value: i8) -> Option<i8> {
    let rest = bits & u64::MAX << (value + 1);
    (rest != 0).then(|| first(rest))
}

const fn at(hour: i8, minute: i8, second: i8) -> Time {
    Time::constant(hour, minute, second, 0)
}
