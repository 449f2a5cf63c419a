//! Blackout windows: when nothing fires, by the clock of a zone.
//!
//! Owns their three forms, and what is said of one that is wrong: `22:00-06:00` each day, `sat,sun 00:00-24:00`
//! on some days of the week, `2026-12-24T00:00/2026-12-27T00:00` once. Refuses to know what fires.

use jiff::{
    SignedDuration,
    civil::{Date, DateTime},
};

use super::{
    CronError,
    field::{Piece, WEEKDAY},
};

const FORMS: &str = "write `22:00-06:00`, `sat,sun 00:00-24:00` or `2026-12-24T00:00/2026-12-27T00:00`";
const DAY: i64 = 24 * 60;

/// A window in which nothing fires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blackout {
    text: String,
    when: When,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum When {
    /// On these days of the week, Sunday is bit 0, between these minutes of the day; over midnight if the second
    /// is not the later one.
    Days { days: u64, from: i64, to: i64 },
    /// Once.
    Span { from: DateTime, to: DateTime },
}

impl Blackout {
    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// When the window ends that a local time lies in; its end is not part of it.
    pub fn end(&self, local: DateTime) -> Option<DateTime> {
        match &self.when {
            When::Span { from, to } => (*from <= local && local < *to).then_some(*to),
            When::Days { days, from, to } => {
                let (date, minute) = (local.date(), i64::from(local.hour()) * 60 + i64::from(local.minute()));
                let begins = |date: Date| days >> date.weekday().to_sunday_zero_offset() & 1 == 1;
                if begins(date) && *from <= minute && (minute < *to || to <= from) {
                    return at(if to <= from { date.tomorrow().ok()? } else { date }, *to);
                }
                // It began yesterday.
                (to <= from && minute < *to && date.yesterday().is_ok_and(begins)).then(|| at(date, *to)).flatten()
            }
        }
    }

    /// Reads one of the three forms.
    pub fn read(text: &str) -> Result<Self, CronError> {
        let when = if text.contains('/') { span(text)? } else { days(text)? };
        Ok(Self { text: text.trim().to_owned(), when })
    }
}

fn at(date: Date, minutes: i64) -> Option<DateTime> {
    date.to_datetime(jiff::civil::Time::midnight()).checked_add(SignedDuration::from_mins(minutes)).ok()
}

fn wrong(text: &str, part: &str, field: &'static str, what: String) -> CronError {
    let before = (part.as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
    CronError { column: text.get(..before).map_or(0, |before| before.chars().count()) + 1, field, what }
}

fn span(text: &str) -> Result<When, CronError> {
    let (from, to) = text.split_once('/').unwrap_or((text, ""));
    let moment = |part: &str| {
        let told = part.trim();
        let parsed = told.parse::<DateTime>().ok().filter(|_| told.contains(['T', 't']) && !told.ends_with(['Z', 'z']));
        parsed.ok_or_else(|| {
            let what = format!("`{told}` is no moment on the zone's clock, such as 2026-12-24T00:00");
            wrong(text, part, "span", what)
        })
    };
    let (begin, end) = (moment(from)?, moment(to)?);
    if end <= begin {
        return Err(wrong(text, to, "span", format!("it ends at {end}, and begins at {begin}")));
    }
    Ok(When::Span { from: begin, to: end })
}

fn days(text: &str) -> Result<When, CronError> {
    let parts: Vec<&str> = text.split_whitespace().collect();
    let (days, times) = match parts.as_slice() {
        [times] if times.contains(':') => (None, Some(*times)),
        [days] => (Some(*days), None),
        [days, times] => (Some(*days), Some(*times)),
        _ => return Err(wrong(text, text, "window", format!("it has {} words; {FORMS}", parts.len()))),
    };
    let days = days.map_or(Ok(0x7f), |part| {
        let column = wrong(text, part, WEEKDAY.name, String::new()).column;
        Piece::of(&WEEKDAY, part, column).try_fold(0, |bits, piece| Ok::<_, CronError>(bits | piece.values()?))
    })?;
    let days = (days | days >> 7) & 0x7f;
    let Some(times) = times else { return Ok(When::Days { days, from: 0, to: DAY }) };
    let Some((from, to)) = times.split_once('-') else {
        return Err(wrong(text, times, "times", format!("`{times}` has no end; {FORMS}")));
    };
    let (begin, end) = (minutes(text, from)?, minutes(text, to)?);
    if begin == end || begin == DAY {
        let what = format!("`{times}` is no stretch of time; `00:00-24:00` is the whole day");
        return Err(wrong(text, times, "times", what));
    }
    Ok(When::Days { days, from: begin, to: end })
}

/// The minute of the day, up to 24:00.
fn minutes(text: &str, part: &str) -> Result<i64, CronError> {
    let number = |digits: &str| (digits.len() == 2).then(|| digits.parse::<u8>().ok().map(i64::from)).flatten();
    let read = part.split_once(':').and_then(|(hour, minute)| Some((number(hour)?, number(minute)?)));
    read.filter(|(hour, minute)| *minute < 60 && hour * 60 + minute <= DAY)
        .map(|(hour, minute)| hour * 60 + minute)
        .ok_or_else(|| {
            wrong(text, part, "times", format!("`{part}` is no time of the day from 00:00 to 24:00, such as 06:30"))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_covers_what_it_says_and_not_its_end() {
        let table = [
            ("22:00-06:00", "2026-12-01T21:59:59", None),
            ("22:00-06:00", "2026-12-01T22:00", Some("2026-12-02T06:00")),
            ("22:00-06:00", "2026-12-02T05:59:59", Some("2026-12-02T06:00")),
            ("22:00-06:00", "2026-12-02T06:00", None),
            ("sat,sun 00:00-24:00", "2026-12-05T23:59", Some("2026-12-06T00:00")),
            ("sat,sun 00:00-24:00", "2026-12-07T00:00", None),
            ("sat-sun", "2026-12-06T12:00", Some("2026-12-07T00:00")),
            ("fri 22:00-06:00", "2026-12-05T05:00", Some("2026-12-05T06:00")),
            ("fri 22:00-06:00", "2026-12-04T05:00", None),
            ("2026-12-24T00:00/2026-12-27T12:00", "2026-12-27T11:59:59", Some("2026-12-27T12:00")),
            ("2026-12-24T00:00/2026-12-27T12:00", "2026-12-23T23:59:59", None),
        ];
        for (text, local, end) in table {
            let (window, local): (_, DateTime) = (Blackout::read(text).unwrap(), local.parse().unwrap());
            assert_eq!(window.end(local), end.map(|end| end.parse().unwrap()), "{text} at {local}");
        }
    }

    #[test]
    fn each_wrong_window_is_told_what_is_wrong_and_where() {
        let table = [
            ("", "window, column 1: it has 0 words; "),
            ("mon tue 00:00-24:00", "window, column 1: it has 3 words; "),
            ("night", "day of week, column 1: `night` is no number, nor one of sun, mon"),
            ("sat,sum 00:00-24:00", "day of week, column 5: `sum` is no number, nor one of sun, mon"),
            ("22:00", "times, column 1: `22:00` has no end; write `22:00-06:00`"),
            ("22:00-6:00", "times, column 7: `6:00` is no time of the day from 00:00 to 24:00, such as 06:30"),
            ("sat 00:00-24:01", "times, column 11: `24:01` is no time of the day"),
            ("06:00-06:00", "times, column 1: `06:00-06:00` is no stretch of time; `00:00-24:00` is the whole day"),
            ("2026-12-24/2026-12-27", "span, column 1: `2026-12-24` is no moment on the zone's clock"),
            ("2026-12-24T00:00/2026-12-24T00:00Z", "span, column 18: `2026-12-24T00:00Z` is no moment"),
            ("2026-12-24T00:00/2026-12-23T00:00", "span, column 18: it ends at 2026-12-23T00:00:00, and begins at"),
        ];
        for (text, expected) in table {
            let told = Blackout::read(text).unwrap_err().to_string();
            assert!(told.starts_with(expected), "{text}: {told}");
        }
    }
}
