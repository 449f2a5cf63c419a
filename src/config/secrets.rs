//! The secrets file: a few passwords, readable by its owner only.
//!
//! Owns its form and the check of its mode. Refuses to show a value, in a problem too.

use std::{
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use config::ValueKind;

use super::{Problem, layers};

/// The keys of the secrets file, and where each goes.
pub const SECRETS: &[(&str, &str)] = &[
    ("broker_password", "into the address of `broker`"),
    ("results_password", "into the address of `results`"),
    ("state_password", "into the address of `state`"),
    ("blobs_access_key", "the key of the bucket in `blobs`, in place of `AWS_ACCESS_KEY_ID`"),
    ("blobs_secret_key", "its secret, in place of `AWS_SECRET_ACCESS_KEY`"),
    ("blobs_session_token", "the token of keys that are valid for a while, in place of `AWS_SESSION_TOKEN`"),
    ("outbox_password", "into the addresses of `outbox.databases` that name a user and no password"),
    ("each_password", "into each `database` of `triggers.*.each` that names a user and no password"),
    ("search_password", "into the address of `search`"),
    ("search_api_key", "the API key of `search`, instead of a user and a password"),
    ("notify_password", "into each `notify.*.smtp` that names a user and no password"),
    ("api_token", "in place of `api.token`"),
];

/// What the file said.
#[derive(Clone, Default)]
pub(super) struct Secrets {
    pub(super) file: String,
    pub(super) broker_password: Option<String>,
    pub(super) results_password: Option<String>,
    pub(super) state_password: Option<String>,
    pub(super) blobs_access_key: Option<String>,
    pub(super) blobs_secret_key: Option<String>,
    pub(super) blobs_session_token: Option<String>,
    pub(super) outbox_password: Option<String>,
    pub(super) each_password: Option<String>,
    pub(super) search_password: Option<String>,
    pub(super) search_api_key: Option<String>,
    pub(super) notify_password: Option<String>,
    pub(super) api_token: Option<String>,
}

impl Secrets {
    fn slot(&mut self, name: &str) -> Option<&mut Option<String>> {
        Some(match name {
            "broker_password" => &mut self.broker_password,
            "results_password" => &mut self.results_password,
            "state_password" => &mut self.state_password,
            "blobs_access_key" => &mut self.blobs_access_key,
            "blobs_secret_key" => &mut self.blobs_secret_key,
            "blobs_session_token" => &mut self.blobs_session_token,
            "outbox_password" => &mut self.outbox_password,
            "each_password" => &mut self.each_password,
            "search_password" => &mut self.search_password,
            "search_api_key" => &mut self.search_api_key,
            "notify_password" => &mut self.notify_password,
            "api_token" => &mut self.api_token,
            _ => return None,
        })
    }

    /// The names that are set.
    pub(super) fn names(&self) -> Vec<&'static str> {
        let mut copy = self.clone();
        SECRETS
            .iter()
            .map(|(name, _)| *name)
            .filter(|name| copy.slot(name).is_some_and(|slot| slot.is_some()))
            .collect()
    }
}

/// Reads the file; what is wrong with it goes to `problems`. `origin` is where the file was named.
pub(super) fn read(path: &Path, origin: &str, problems: &mut Vec<Problem>) -> Secrets {
    let name = path.display().to_string();
    let mut secrets = Secrets { file: name.clone(), ..Secrets::default() };
    match std::fs::metadata(path) {
        Err(error) => {
            problems.push(Problem { place: origin.to_owned(), what: format!("`secrets`: {name}: {error}") });
            return secrets;
        }
        Ok(meta) if meta.permissions().mode() & 0o077 != 0 => {
            let mode = meta.mode() & 0o777;
            let what = format!("others may read it (mode {mode:04o}), expected 0600: chmod 600 {name}");
            problems.push(Problem { place: name, what });
            return secrets;
        }
        Ok(_) => {}
    }
    let layer = match layers::file(path) {
        Ok(layer) => layer,
        Err(problem) => {
            problems.push(problem);
            return secrets;
        }
    };
    for leaf in layer.0 {
        let key = leaf.path.join(".");
        let what = match (secrets.slot(&key), leaf.value) {
            (Some(slot), ValueKind::String(text)) if !text.is_empty() && !text.contains(['\n', '\r', '\0']) => {
                *slot = Some(text);
                continue;
            }
            (Some(_), _) => format!("`{key}`: expected one line of text that is not empty"),
            (None, _) => {
                let names: Vec<_> = SECRETS.iter().map(|(name, _)| *name).collect();
                format!("`{key}` is no secret known here; there are {}", names.join(", "))
            }
        };
        problems.push(Problem { place: leaf.origin, what });
    }
    secrets
}
