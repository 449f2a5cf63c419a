//! Who tells the items of a trigger: asked by its consumers, with a password that is in no table and no message.
//!
//! Owns what of it people see. Refuses to ask, and to judge its fields: [`crate::api::NewTrigger`] does.

use spinor_executors::Json;

use super::{Endpoint, OtherDatabase, outbox};
use crate::api::new_source::NewSource;

/// Where the items of a trigger come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemsConfig {
    /// Who is asked.
    pub asked: AskedConfig,
    /// At most so many items are taken.
    pub limit: usize,
}

/// Who is asked for items.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AskedConfig {
    /// A database; that of the results when none is named.
    Sql(Option<OtherDatabase>, String),
    /// A program with its arguments.
    Command(Vec<String>),
}

/// What a checked source says.
pub(super) fn items(source: NewSource, password: Option<&str>) -> Option<ItemsConfig> {
    let limit = source.most();
    let database = source.database.map(|text| outbox::database(&text, password));
    let asked = match (source.sql, source.command) {
        (Some(sql), _) => AskedConfig::Sql(database, sql),
        (None, Some(command)) => AskedConfig::Command(command),
        (None, None) => return None,
    };
    Some(ItemsConfig { asked, limit })
}

/// The same text without a password.
pub(super) fn masked(text: &str) -> String {
    let Some(source) = read(text) else {
        return if text.contains("://") { "something else".to_owned() } else { text.to_owned() };
    };
    let database = source.database.map(|text| Endpoint::new(text).to_string());
    Json::of(&NewSource { database, ..source }).map(|json| json.text().to_owned()).unwrap_or_default()
}

/// A source, where the text is one.
pub(super) fn read(text: &str) -> Option<NewSource> {
    text.starts_with('{').then(|| serde_json::from_str(text).ok()).flatten()
}
