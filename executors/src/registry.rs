//! Which executor runs which kind, and which kinds are allowed to run here.

use std::{collections::BTreeMap, sync::Arc};

use crate::Executor;

/// Kind -> executor. Built once at start; a duplicate is a start-up error.
#[derive(Clone, Default)]
pub struct Registry {
    kinds: BTreeMap<String, Arc<dyn Executor>>,
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

    /// Keeps only the kinds that one of the patterns allows.
    pub fn allow(&mut self, patterns: &[KindPattern]) {
        self.kinds.retain(|kind, _| patterns.iter().any(|pattern| pattern.matches(kind)));
    }

    /// The executor of a kind.
    pub fn get(&self, kind: &str) -> Option<&Arc<dyn Executor>> {
        self.kinds.get(kind)
    }

    /// The kinds served, sorted.
    pub fn kinds(&self) -> impl Iterator<Item = &str> {
        self.kinds.keys().map(String::as_str)
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
    }
}
