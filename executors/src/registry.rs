//! Which executor runs which kind, and which kinds are allowed to run here.

use std::{collections::BTreeMap, sync::Arc};

use crate::{Executor, Offer};

/// Kind -> executor. Built once at start; a duplicate is a start-up error.
#[derive(Clone, Default)]
pub struct Registry {
    kinds: BTreeMap<String, Arc<dyn Executor>>,
    /// The most exact first.
    patterns: Vec<(KindPattern, Arc<dyn Executor>)>,
    /// Of what the patterns match only this; `None`: all.
    allowed: Option<Vec<KindPattern>>,
}

/// Two executors claim one kind.
#[derive(Debug, thiserror::Error)]
#[error("two executors serve the kind `{0}`; remove one of them")]
pub struct DuplicateKind(pub String);

impl Registry {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an executor for a kind.
    pub fn add(&mut self, kind: impl Into<String>, executor: Arc<dyn Executor>) -> Result<(), DuplicateKind> {
        let kind = kind.into();
        if self.kinds.contains_key(&kind) {
            return Err(DuplicateKind(kind));
        }
        self.kinds.insert(kind, executor);
        Ok(())
    }

    /// Adds an executor for the kinds of a pattern; what was added by name stays with whom it has.
    pub fn add_pattern(&mut self, pattern: KindPattern, executor: Arc<dyn Executor>) -> Result<(), DuplicateKind> {
        let taken = pattern.exact().is_some_and(|kind| self.kinds.contains_key(kind));
        if taken || self.patterns.iter().any(|(other, _)| *other == pattern) {
            return Err(DuplicateKind(pattern.0));
        }
        self.patterns.push((pattern, executor));
        self.patterns.sort_by_key(|(pattern, _)| std::cmp::Reverse(pattern.exactness()));
        Ok(())
    }

    /// Keeps only the kinds that one of the patterns allows.
    pub fn allow(&mut self, patterns: &[KindPattern]) {
        self.kinds.retain(|kind, _| patterns.iter().any(|pattern| pattern.matches(kind)));
        self.allowed = Some(patterns.to_vec());
    }

    /// The executor of a kind.
    pub fn get(&self, kind: &str) -> Option<&Arc<dyn Executor>> {
        let by_pattern = || {
            let allowed = self.allowed.as_ref().is_none_or(|some| some.iter().any(|pattern| pattern.matches(kind)));
            self.patterns.iter().find(|(pattern, _)| allowed && pattern.matches(kind)).map(|(_, executor)| executor)
        };
        self.kinds.get(kind).or_else(by_pattern)
    }

    /// The kinds served now, sorted.
    pub fn kinds(&self) -> Vec<String> {
        let mut kinds: Vec<String> = self.kinds.keys().cloned().collect();
        kinds.extend(self.offers().into_iter().filter(|offer| offer.trouble.is_none()).map(|offer| offer.kind));
        kinds.sort_unstable();
        kinds
    }

    /// The kinds that programs say they serve, of those that they are registered for, and those that are
    /// missed of them.
    pub fn offers(&self) -> Vec<Offer> {
        let mut offers: Vec<Offer> = Vec::new();
        for (pattern, executor) in &self.patterns {
            for offer in executor.offers() {
                let theirs = self.get(&offer.kind).is_some_and(|of| Arc::ptr_eq(of, executor));
                if theirs && pattern.matches(&offer.kind) && !offers.iter().any(|other| other.kind == offer.kind) {
                    offers.push(offer);
                }
            }
        }
        offers.sort_unstable_by(|one, other| one.kind.cmp(&other.kind));
        offers
    }

    /// Starts what executors keep running between jobs.
    pub fn open(&self) {
        for (_, executor) in &self.patterns {
            executor.open();
        }
    }

    /// Ends it.
    pub async fn close(&self) {
        futures_util::future::join_all(self.patterns.iter().map(|(_, executor)| executor.close())).await;
    }
}

/// `name`, `prefix*` or `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KindPattern(String);

impl KindPattern {
    /// Takes a pattern; a `*` may stand only at its end.
    pub fn new(text: impl Into<String>) -> Result<Self, String> {
        let text = text.into();
        match text.find('*') {
            _ if text.is_empty() => Err("a kind pattern is empty; write a kind, `prefix*` or `*`".to_owned()),
            Some(place) if place + 1 != text.len() => {
                Err(format!("`{text}`: a `*` may stand only at the end of a kind pattern"))
            }
            _ => Ok(Self(text)),
        }
    }

    /// The greater, the fewer kinds it stands for.
    fn exactness(&self) -> (usize, bool) {
        (self.0.trim_end_matches('*').len(), !self.0.ends_with('*'))
    }

    /// The one kind it stands for, if it is no pattern for many.
    pub fn exact(&self) -> Option<&str> {
        (!self.0.ends_with('*')).then_some(&self.0)
    }

    /// The text it was made of.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Does it allow this kind?
    pub fn matches(&self, kind: &str) -> bool {
        self.0.strip_suffix('*').map_or(self.0 == kind, |prefix| kind.starts_with(prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::KindPattern;

    #[test]
    fn a_star_stands_only_at_the_end() {
        assert!(
            KindPattern::new("image.*")
                .is_ok_and(|pattern| pattern.matches("image.resize") && !pattern.matches("imagine"))
        );
        assert!(KindPattern::new("*").is_ok_and(|pattern| pattern.matches("anything")));
        assert!(KindPattern::new("noop").is_ok_and(|pattern| !pattern.matches("noops")));
        assert!(KindPattern::new("*.resize").is_err());
        assert!(KindPattern::new("").is_err());
        assert_eq!(KindPattern::new("image.*").ok().as_ref().and_then(KindPattern::exact), None);
    }
}
