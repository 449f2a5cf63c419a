//! The key at a path. Owns how a `*` is read.

use super::{KEYS, Key};

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
