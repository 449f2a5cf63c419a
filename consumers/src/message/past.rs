//! What a job went through in the hands of consumers before: the headers it is known by, and what
//! the death of a holder means for it. Pure; refuses to know how a death is noticed.
//!
//! A header that cannot be read counts as absent: nobody but a consumer sets these.

use spinor_executors::{HeaderValue, Headers};
use uuid::Uuid;

use super::{Properties, header};

/// So many deaths of a consumer that ran it alone, and it is parked.
pub const CRASHES: u32 = 2;
/// So many returns from dead consumers that prove nothing, and it is parked too.
pub const RETURNS: u32 = 10;

/// How a redelivered job was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probation {
    /// Beside others that came back like it.
    Together,
    /// The only one on probation in its consumer.
    Alone,
    /// It has run for a while and its consumer lives.
    Passed,
}

impl Probation {
    /// The header's word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Together => "together",
            Self::Alone => "alone",
            Self::Passed => "passed",
        }
    }

    fn of(word: &str) -> Option<Self> {
        [Self::Together, Self::Alone, Self::Passed].into_iter().find(|one| one.word() == word)
    }
}

/// A job's past.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// The boot id of the consumer that holds this copy.
    pub holder: Option<Uuid>,
    /// That consumer's name, for people.
    pub held_by: Option<String>,
    /// How the copy was started; `None`: as a first delivery, or not at all.
    pub probation: Option<Probation>,
    /// Consumers that died while they ran it alone.
    pub crashes: u32,
    /// Times it came back from a dead consumer that prove nothing.
    pub returns: u32,
}

impl Past {
    /// The past that a message tells of.
    pub fn of(properties: &Properties) -> Self {
        let count = |name| properties.int(name).and_then(|count| u32::try_from(count).ok()).unwrap_or(0);
        Self {
            holder: properties.text(header::HOLDER).and_then(|id| Uuid::parse_str(id).ok()),
            held_by: properties.text(header::HELD_BY).map(str::to_owned),
            probation: properties.text(header::PROBATION).and_then(Probation::of),
            crashes: count(header::CRASHES),
            returns: count(header::RETURNS),
        }
    }

    /// Makes a message tell of it.
    pub fn write(&self, headers: &mut Headers) {
        let text = |text: &str| Some(HeaderValue::Text(text.to_owned()));
        let count = |count: u32| (count > 0).then_some(HeaderValue::Int(count.into()));
        for (name, value) in [
            (header::HOLDER, self.holder.map(|id| HeaderValue::Text(id.to_string()))),
            (header::HELD_BY, self.held_by.as_deref().and_then(text)),
            (header::PROBATION, self.probation.map(Probation::word).and_then(text)),
            (header::CRASHES, count(self.crashes)),
            (header::RETURNS, count(self.returns)),
        ] {
            match value {
                Some(value) => headers.insert(name.to_owned(), value),
                None => headers.remove(name),
            };
        }
    }

    /// How its next start must be.
    pub const fn next_start(&self) -> Probation {
        match self.probation {
            Some(Probation::Alone) => Probation::Alone,
            _ => Probation::Together,
        }
    }

    /// Its holder is dead: what it is charged, and how it starts next. `false`: it is parked.
    #[must_use]
    pub fn charge(&mut self) -> bool {
        self.probation = Some(match self.probation {
            Some(Probation::Alone) => {
                self.crashes += 1;
                Probation::Alone
            }
            Some(Probation::Together) => {
                self.returns += 1;
                Probation::Alone
            }
            Some(Probation::Passed) | None => {
                self.returns += 1;
                Probation::Together
            }
        });
        self.crashes < CRASHES && self.returns < RETURNS
    }

    /// Its own process died under it, which nobody else did. `false`: it is parked.
    #[must_use]
    pub fn crash(&mut self) -> bool {
        self.crashes += 1;
        self.crashes < CRASHES
    }

    /// What goes on to the next attempt: what it did, not who had it.
    #[must_use]
    pub fn carried(&self) -> Self {
        Self { crashes: self.crashes, returns: self.returns, ..Self::default() }
    }

    /// Why it is parked.
    pub fn verdict(&self) -> String {
        let last = self.held_by.clone().or_else(|| self.holder.map(|id| id.to_string()));
        let last = last.map_or_else(String::new, |last| format!("; the last was {last}"));
        if self.crashes >= CRASHES {
            format!("crashes: {} consumers died while they ran it alone{last}", self.crashes)
        } else {
            format!("crashes: it came back {} times from consumers that died{last}", self.returns)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Dies under every consumer at once; the charges of each death.
    fn killer(mut past: Past) -> Vec<(u32, u32)> {
        let mut charges = Vec::new();
        loop {
            past.probation = Some(past.next_start());
            let goes_on = past.charge();
            charges.push((past.crashes, past.returns));
            if !goes_on {
                return charges;
            }
        }
    }

    #[test]
    fn a_killer_is_parked_after_two_deaths_alone() {
        assert_eq!(killer(Past::default()), [(0, 1), (1, 1), (2, 1)]);
    }

    #[test]
    fn a_job_that_passes_each_time_is_parked_at_ten_returns() {
        let mut past = Past::default();
        for returns in 1..=RETURNS {
            past.probation = Some(Probation::Passed);
            assert_eq!(past.charge(), returns < RETURNS);
            assert_eq!((past.crashes, past.returns, past.next_start()), (0, returns, Probation::Together));
        }
        assert!(past.verdict().starts_with("crashes: it came back 10 times"));
    }

    #[test]
    fn it_is_written_and_read_and_what_is_absent_is_taken_out() {
        let past = Past {
            holder: Some(Uuid::now_v7()),
            held_by: Some("g@h-1".into()),
            probation: Some(Probation::Alone),
            crashes: 1,
            returns: 3,
        };
        let mut properties = Properties::default();
        past.write(&mut properties.headers);
        assert_eq!(Past::of(&properties), past);
        assert!(past.verdict().ends_with("the last was g@h-1"));
        Past::default().write(&mut properties.headers);
        assert!(properties.headers.is_empty());
    }
}
