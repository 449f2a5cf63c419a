//! A key, and the one at a path. Owns how a `*` is read.

use super::{Form, KEYS};

/// One key. A `*` in its path stands for a name of the user's.
#[derive(Debug)]
pub struct Key {
    /// Dotted path.
    pub path: &'static str,
    /// What its value must be.
    pub form: Form,
    /// As TOML; empty when there is none.
    pub default: &'static str,
    /// What is shown in place of a default that is worked out or absent.
    pub example: &'static str,
    /// What it does, in a sentence or two.
    pub meaning: &'static str,
}

/// As the table writes it.
pub(super) const fn key(
    path: &'static str,
    form: Form,
    default: &'static str,
    example: &'static str,
    meaning: &'static str,
) -> Key {
    Key { path, form, default, example, meaning }
}

impl Key {
    /// Is this the key at a path?
    pub fn is_at(&self, path: &[String]) -> bool {
        let parts: Vec<&str> = self.path.split('.').collect();
        parts.len() == path.len() && parts.iter().zip(path).all(|(part, name)| *part == "*" || part == name)
    }

    /// Does a table at this path hold the key?
    pub fn is_below(&self, path: &[String]) -> bool {
        let parts: Vec<&str> = self.path.split('.').collect();
        parts.len() > path.len() && parts.iter().zip(path).all(|(part, name)| *part == "*" || part == name)
    }
}

/// The key at a path.
pub fn find(path: &[String]) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.is_at(path))
}
