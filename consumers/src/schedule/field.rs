//! One field of a cron expression: which of its values fire.
//!
//! Owns lists, ranges, steps and names, and what is said of a field that is wrong. Refuses to know
//! what the values of two fields mean together.

use super::CronError;

/// What one field may hold.
pub struct Rules {
    /// For people.
    pub name: &'static str,
    /// The least and the greatest value.
    pub range: (u8, u8),
    /// Words for the values from `range.0` on, three letters each.
    pub words: &'static [&'static str],
}

pub const SECOND: Rules = Rules { name: "second", range: (0, 59), words: &[] };
pub const MINUTE: Rules = Rules { name: "minute", range: (0, 59), words: &[] };
pub const HOUR: Rules = Rules { name: "hour", range: (0, 23), words: &[] };
pub const DAY: Rules = Rules { name: "day of month", range: (1, 31), words: &[] };
pub const MONTH: Rules = Rules {
    name: "month",
    range: (1, 12),
    words: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
/// Sunday is 0, and 7 as well.
pub const WEEKDAY: Rules =
    Rules { name: "day of week", range: (0, 7), words: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] };

/// One comma-separated piece of a field, and where it stands.
#[derive(Clone, Copy)]
pub struct Piece<'a> {
    /// The rules of its field.
    pub rules: &'a Rules,
    /// Its text.
    pub text: &'a str,
    /// The column of its first character, from 1.
    pub column: usize,
}

impl<'a> Piece<'a> {
    /// The pieces of a field.
    pub fn of(rules: &'a Rules, field: &'a str, column: usize) -> impl Iterator<Item = Piece<'a>> {
        let mut at = column;
        field.split(',').map(move |text| {
            let piece = Piece { rules, text, column: at };
            at += text.chars().count() + 1;
            piece
        })
    }

    /// An error at this piece.
    pub fn wrong(&self, what: impl Into<String>) -> CronError {
        CronError { column: self.column, field: self.rules.name, what: what.into() }
    }

    /// A part of it, `skip` bytes on.
    fn part(&self, text: &'a str) -> Piece<'a> {
        let skip = text.as_ptr() as usize - self.text.as_ptr() as usize;
        Piece { text, column: self.column + self.text[..skip].chars().count(), ..*self }
    }

    /// The values of `*`, `a`, `a-b`, each with `/step`, as bits.
    pub fn values(&self) -> Result<u64, CronError> {
        let (range, step) = match self.text.split_once('/') {
            Some((range, step)) => (self.part(range), Some(self.part(step))),
            None => (*self, None),
        };
        let (least, most) = self.rules.range;
        let (from, to) = match range.text {
            "*" | "?" => (least, most),
            text => match text.split_once('-') {
                Some((from, to)) => {
                    let (from, to) = (range.part(from).value()?, range.part(to).value()?);
                    // A week may be told to end with its Sunday.
                    let to = if to == 0 && most == 7 && from > 0 { 7 } else { to };
                    if from > to {
                        return Err(range.wrong(format!(
                            "`{text}` goes backwards; write it as two ranges: `{from}-{most},{least}-{to}`"
                        )));
                    }
                    (from, to)
                }
                None if step.is_some() => (range.value()?, most),
                None => {
                    let value = range.value()?;
                    (value, value)
                }
            },
        };
        let step = step.map_or(Ok(1), |step| step.step(to - from))?;
        Ok((from..=to).step_by(usize::from(step)).fold(0, |bits, value| bits | 1 << value))
    }

    /// One value, by number or by name.
    pub fn value(&self) -> Result<u8, CronError> {
        let Rules { range: (least, most), words, .. } = self.rules;
        if self.text.is_empty() {
            return Err(self.wrong("a value is missing"));
        }
        let word = words.iter().zip(*least..).find(|(word, _)| self.text.eq_ignore_ascii_case(word));
        if let Some((_, value)) = word {
            return Ok(value);
        }
        if !self.text.bytes().all(|byte| byte.is_ascii_digit()) {
            let known = if words.is_empty() { String::new() } else { format!(", nor one of {}", words.join(", ")) };
            return Err(self.wrong(format!("`{}` is no number{known}", self.text)));
        }
        match self.text.parse::<u8>() {
            Ok(value) if (*least..=*most).contains(&value) => Ok(value),
            _ => Err(self.wrong(format!("{} is not between {least} and {most}", self.text))),
        }
    }

    fn step(&self, span: u8) -> Result<u8, CronError> {
        match self.text.parse::<u8>() {
            Ok(0) => Err(self.wrong("a step of 0 never gets anywhere")),
            Ok(step) if step > span => Err(self.wrong(format!(
                "a step of {step} is longer than the range it goes through, so only its first value would fire; write that"
            ))),
            Ok(step) => Ok(step),
            Err(_) => Err(self.wrong(format!("the step `{}` is no number from 1 to 255", self.text))),
        }
    }
}
