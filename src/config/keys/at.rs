//! The keys of the secrets file, and the key at a path. Owns how a `*` is read.

use super::{KEYS, Key};

/// The keys of the secrets file, and where each goes.
pub const SECRETS: &[(&str, &str)] = &[
    ("broker_password", "into the address of `broker`"),
    ("results_password", "into the address of `results`"),
    ("state_password", "into the address of `state`"),
    ("blobs_access_key", "the key of the bucket in `blobs`, in place of `AWS_ACCESS_KEY_ID`"),
    ("blobs_secret_key", "its secret, in place of `AWS_SECRET_ACCESS_KEY`"),
    ("blobs_session_token", "the token of keys that are valid for a while, in place of `AWS_SESSION_TOKEN`"),
    ("outbox_password", "into the addresses of `outbox.databases` that name a user and no password"),
    ("search_password", "into the address of `search`"),
    ("search_api_key", "the API key of `search`, instead of a user and a password"),
    ("api_token", "in place of `api.token`"),
];

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
