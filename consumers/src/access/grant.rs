//! A role for a pattern of queues and a pattern of kinds.
//!
//! Owns the text form, `ROLE[:QUEUES[:KINDS]]`, and the rule by which several add up: the highest one that fits
//! counts. A job whose queue or kind is not known fits `*` alone.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// No pattern is longer.
const LONGEST: usize = 100;
/// Nobody has more.
const MOST: usize = 20;

/// What somebody may do; each may what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads.
    Viewer,
    /// Publishes.
    Publisher,
    /// Steers.
    Operator,
    /// Says who may.
    Admin,
}

impl Role {
    /// All, the least first.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Publisher, Self::Operator, Self::Admin];

    /// Its word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Publisher => "publisher",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

/// A role and what it is given for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Grant {
    role: Role,
    queues: String,
    kinds: String,
}

impl Grant {
    /// A role for everything.
    pub fn all(role: Role) -> Self {
        Self { role, queues: "*".to_owned(), kinds: "*".to_owned() }
    }

    fn fits(&self, queue: &str, kind: &str) -> bool {
        matches(&self.queues, queue) && matches(&self.kinds, kind)
    }
}

impl FromStr for Grant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(':');
        let word = parts.next().unwrap_or_default();
        let role = Role::ALL.into_iter().find(|role| role.word() == word);
        let role =
            role.ok_or("expected viewer, publisher, operator or admin, and then perhaps :QUEUES or :QUEUES:KINDS")?;
        let pattern = |text: Option<&str>| match text {
            None => Ok("*".to_owned()),
            Some("") => Err("a pattern is empty; * stands for any text"),
            Some(text) if text.len() > LONGEST => Err("a pattern is longer than 100 bytes"),
            Some(text) if text.chars().any(|c| c.is_control() || c.is_whitespace()) => Err("a pattern holds blanks"),
            Some(text) => Ok(text.to_owned()),
        };
        let (queues, kinds) = (pattern(parts.next())?, pattern(parts.next())?);
        match parts.next() {
            Some(_) => Err("has more than a role, a pattern of queues and a pattern of kinds".to_owned()),
            None => Ok(Self { role, queues, kinds }),
        }
    }
}

impl TryFrom<String> for Grant {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Grant> for String {
    fn from(grant: Grant) -> Self {
        grant.to_string()
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(self.role.word())?;
        match (self.queues.as_str(), self.kinds.as_str()) {
            ("*", "*") => Ok(()),
            (queues, "*") => write!(to, ":{queues}"),
            (queues, kinds) => write!(to, ":{queues}:{kinds}"),
        }
    }
}

/// All that somebody was given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Grants(Vec<Grant>);

impl Grants {
    /// One role for everything.
    pub fn all(role: Role) -> Self {
        Self(vec![Grant::all(role)])
    }

    /// These; at least one, and not more than 20.
    pub fn of(grants: Vec<Grant>) -> Result<Self, String> {
        match grants.len() {
            0 => Err("no role is given; give one at least".to_owned()),
            1..=MOST => Ok(Self(grants)),
            more => Err(format!("{more} roles are given, at most {MOST}")),
        }
    }

    /// The highest one, whatever it is given for.
    pub fn highest(&self) -> Option<Role> {
        self.0.iter().map(|grant| grant.role).max()
    }

    /// May somebody with these do what needs this role, for this queue and this kind?
    pub fn may(&self, role: Role, queue: &str, kind: &str) -> bool {
        self.0.iter().any(|grant| grant.role >= role && grant.fits(queue, kind))
    }

    /// The same for a queue and whatever is on it.
    pub fn may_queue(&self, role: Role, queue: &str) -> bool {
        self.0.iter().any(|grant| grant.role >= role && grant.kinds == "*" && matches(&grant.queues, queue))
    }

    /// The same for what is about no queue and no kind.
    pub fn may_all(&self, role: Role) -> bool {
        self.0.iter().any(|grant| grant.role >= role && grant.queues == "*" && grant.kinds == "*")
    }

    /// Those that let somebody do what needs this role; empty: no pattern bounds it.
    pub fn bounds(&self, role: Role) -> Vec<Grant> {
        if self.may_all(role) {
            return Vec::new();
        }
        self.0.iter().filter(|grant| grant.role >= role).cloned().collect()
    }
}

impl fmt::Display for Grants {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<String> = self.0.iter().map(Grant::to_string).collect();
        to.write_str(&words.join(", "))
    }
}

/// Does one of these fit? All do when there is none.
pub(crate) fn any_fits(bounds: &[Grant], queue: &str, kind: &str) -> bool {
    bounds.is_empty() || bounds.iter().any(|grant| grant.fits(queue, kind))
}

/// `*` stands for any text, also for none.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text_and_nothing_else_does() {
        for (pattern, text) in
            [("*", ""), ("mail.*", "mail.x"), ("*.x", "a.x"), ("a*b*c", "abbc"), ("a", "a"), ("*a*", "bab")]
        {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("mail.*", "mail"), ("a", "ab"), ("a", ""), ("a*a", "a"), ("*b", "ba"), ("a.c", "abc")]
        {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn a_grant_reads_what_it_writes_and_refuses_what_makes_no_sense() {
        for text in ["viewer", "publisher:mail.*", "operator:*:image.*"] {
            assert_eq!(text.parse::<Grant>().map(|grant| grant.to_string()), Ok(text.to_owned()));
        }
        for text in ["", "king", "viewer:", "viewer:a:", "viewer:a:b:c", "viewer:a b", "Viewer"] {
            assert!(text.parse::<Grant>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_highest_one_that_fits_counts() {
        let of = |texts: &[&str]| Grants::of(texts.iter().map(|text| text.parse().unwrap()).collect()).unwrap();
        let mixed = of(&["viewer", "operator:mail:send.*"]);
        assert!(mixed.may(Role::Operator, "mail", "send.now") && !mixed.may(Role::Operator, "mail", "noop"));
        assert!(mixed.may(Role::Viewer, "other", "noop") && !mixed.may(Role::Publisher, "other", "noop"));
        assert!(mixed.may_all(Role::Viewer) && !mixed.may_all(Role::Publisher));
        assert!(!mixed.may_queue(Role::Operator, "mail") && of(&["operator:mail"]).may_queue(Role::Operator, "mail"));
        assert_eq!((mixed.highest(), mixed.bounds(Role::Viewer)), (Some(Role::Operator), Vec::new()));
        assert_eq!(mixed.bounds(Role::Publisher).len(), 1);
        assert!(Grants::of(Vec::new()).is_err() && !Grants::default().may(Role::Viewer, "", ""));
    }
}
