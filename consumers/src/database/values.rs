//! Values on their way into a statement, and columns on their way out of a row.
//!
//! Owns what a value is in either database. Refuses to know connections and statements.

use sqlx::{
    Arguments as _, Row as _,
    mysql::{MySqlArguments, MySqlRow},
    sqlite::{SqliteArguments, SqliteRow},
};
use uuid::Uuid;

use super::errors::meaning;
use crate::results::ResultsError;

/// A value on its way in.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A whole number.
    Int(i64),
    /// A whole number or none.
    MaybeInt(Option<i64>),
    /// Text.
    Text(String),
    /// Text or none.
    MaybeText(Option<String>),
    /// Sixteen bytes.
    Id(Uuid),
    /// Sixteen bytes or none.
    MaybeId(Option<Uuid>),
    /// Bytes.
    Blob(Vec<u8>),
}

/// So many places for values.
pub fn holes(count: usize) -> String {
    vec!["?"; count].join(", ")
}

impl Value {
    /// About how many bytes it takes in a statement.
    pub fn size(&self) -> usize {
        match self {
            Self::Text(text) | Self::MaybeText(Some(text)) => text.len() + 4,
            Self::Blob(bytes) => bytes.len() + 4,
            _ => 17,
        }
    }
}

macro_rules! arguments {
    ($name:ident, $type:ty) => {
        #[doc = "Values as the arguments of a statement."]
        pub fn $name(values: Vec<Value>) -> Result<$type, ResultsError> {
            let mut into = <$type>::default();
            into.reserve(values.len(), values.iter().map(Value::size).sum());
            for value in values {
                match value {
                    Value::Int(number) => into.add(number),
                    Value::MaybeInt(number) => into.add(number),
                    Value::Text(text) => into.add(text),
                    Value::MaybeText(text) => into.add(text),
                    Value::Id(id) => into.add(&id.as_bytes()[..]),
                    Value::MaybeId(id) => into.add(id.as_ref().map(|id| &id.as_bytes()[..])),
                    Value::Blob(bytes) => into.add(bytes),
                }
                .map_err(|error| ResultsError::Refused(error.to_string()))?;
            }
            Ok(into)
        }
    };
}

arguments!(sqlite_arguments, SqliteArguments);
arguments!(mysql_arguments, MySqlArguments);

/// A row that came out, read by column number.
pub enum Column {
    /// Of SQLite.
    Sqlite(SqliteRow),
    /// Of a server.
    MySql(MySqlRow),
}

macro_rules! column {
    ($name:ident, $type:ty, $doc:literal) => {
        #[doc = $doc]
        pub fn $name(&self, at: usize) -> Result<$type, ResultsError> {
            match self {
                Self::Sqlite(row) => row.try_get_unchecked(at).map_err(meaning),
                Self::MySql(row) => row.try_get_unchecked(at).map_err(meaning),
            }
        }
    };
}

impl Column {
    column!(int, i64, "A whole number.");
    column!(maybe_int, Option<i64>, "A whole number or none.");
    column!(text, String, "Text.");
    column!(maybe_text, Option<String>, "Text or none.");
    column!(blob, Vec<u8>, "Bytes.");
    column!(maybe_blob, Option<Vec<u8>>, "Bytes or none.");

    /// An id.
    pub fn id(&self, at: usize) -> Result<Uuid, ResultsError> {
        uuid(&self.blob(at)?)
    }

    /// An id or none.
    pub fn maybe_id(&self, at: usize) -> Result<Option<Uuid>, ResultsError> {
        self.maybe_blob(at)?.as_deref().map(uuid).transpose()
    }
}

fn uuid(bytes: &[u8]) -> Result<Uuid, ResultsError> {
    Uuid::from_slice(bytes).map_err(|_| ResultsError::Misconfigured("an id in the record has no 16 bytes".to_owned()))
}
