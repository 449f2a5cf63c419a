//! Durations and sizes as people write them: `250ms`, `1m30s`, `512MiB`.
//!
//! Owns both notations, there and back. Refuses numbers without a unit: `60` could mean anything.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error as _};

const TIMES: [(&str, u64); 5] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
const SIZES: [(&str, u64); 5] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

/// No rate counts over a longer time, in milliseconds.
const MONTH: u64 = 31 * 86_400_000;

/// Reads `250ms`, `60s`, `1m30s`; `None` when it is no duration.
pub fn duration(text: &str) -> Option<Duration> {
    sum(text, &TIMES).map(Duration::from_millis)
}

/// Reads `512MiB`, `100B`; `None` when it is no size.
pub fn size(text: &str) -> Option<u64> {
    sum(text, &SIZES)
}

/// Writes a duration so that [`duration`] reads it back; to the millisecond.
pub fn duration_text(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let (unit, scale) = TIMES.into_iter().rev().find(|(_, scale)| millis.is_multiple_of(*scale)).unwrap_or(TIMES[0]);
    if millis == 0 { "0s".to_owned() } else { format!("{}{unit}", millis / scale) }
}

/// Reads `100/1m`: so many in each such time; `None` when it is no rate.
pub fn rate(text: &str) -> Option<(u32, u64)> {
    let (count, time) = text.split_once('/')?;
    let count = count.trim().parse().ok().filter(|count| *count > 0)?;
    let millis = u64::try_from(duration(time)?.as_millis()).ok()?;
    (1..=MONTH).contains(&millis).then_some((count, millis))
}

/// Writes a rate so that [`rate`] reads it back.
pub fn rate_text((count, millis): (u32, u64)) -> String {
    format!("{count}/{}", duration_text(Duration::from_millis(millis)))
}

/// Numbers, each with its unit, added up.
fn sum(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let mut rest = text.trim();
    let mut total = 0_u64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (_, scale) = units.iter().find(|(unit, _)| *unit == &rest[..letters])?;
        rest = &rest[letters..];
        total = total.checked_add(number.checked_mul(*scale)?)?;
    }
    Some(total)
}

/// For serde: a duration written as text.
pub(super) fn read_duration<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    duration(&text).ok_or_else(|| D::Error::custom(format!("`{text}` is no duration")))
}

/// For serde: a duration written as text, or nothing.
pub(super) fn read_optional<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    read_duration(from).map(Some)
}

/// For serde: a size written as text.
pub(super) fn read_size<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    let text = String::deserialize(from)?;
    size(&text).ok_or_else(|| D::Error::custom(format!("`{text}` is no size")))
}

/// For serde: a size written as text, or nothing.
pub(super) fn read_optional_size<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    read_size(from).map(Some)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{duration, duration_text, rate, rate_text, size};

    #[test]
    fn durations_and_sizes_need_their_unit() {
        let table = [("250ms", Some(250)), ("1m30s", Some(90_000)), ("2d", Some(172_800_000)), ("0s", Some(0))];
        for (text, millis) in table {
            assert_eq!(duration(text), millis.map(Duration::from_millis), "{text}");
        }
        for text in ["", "60", "s", "5 m", "-1s", "1.5h", "99999999999999999999s", "1é"] {
            assert_eq!(duration(text), None, "{text}");
        }
        assert_eq!(size("512MiB"), Some(512 << 20));
        assert_eq!(size("5MB"), None);
    }

    #[test]
    fn a_rate_is_a_count_and_its_time() {
        assert_eq!(rate("100/1m"), Some((100, 60_000)));
        assert_eq!(rate("100/1m").map(rate_text).as_deref(), Some("100/1m"));
        for text in ["", "100", "0/1s", "5/0s", "-1/1s", "5/60", "5/32d", "1.5/1s"] {
            assert_eq!(rate(text), None, "{text}");
        }
    }

    #[test]
    fn a_written_duration_reads_back() {
        for millis in [0, 1, 250, 1000, 90_000, 3_600_000, 86_400_000, 86_400_001] {
            let time = Duration::from_millis(millis);
            assert_eq!(duration(&duration_text(time)), Some(time));
        }
    }
}
