//! What the value of a key must look like: checked, and said for people.

use config::{Value, ValueKind};
use spinor_executors::KindPattern;

use super::{blobs, endpoint, measure, outbox};

/// What a value must look like.
#[derive(Clone, Copy, Debug)]
pub enum Form {
    /// Text that is not empty.
    Text,
    /// A name: letters, digits, `.`, `_`, `-`, at most 100.
    Name,
    /// One of these words.
    Word(&'static [&'static str]),
    /// True or false.
    Flag,
    /// A whole number within bounds.
    Count(i64, i64),
    /// A number within bounds.
    Number(f64, f64),
    /// A duration of at least so many milliseconds, at most a week.
    Duration(u64),
    /// So many in each such time.
    Rate,
    /// A size up to so many bytes.
    Size(u64),
    /// A list of names.
    Names,
    /// A list of kind patterns.
    Patterns,
    /// A program and its arguments.
    Words,
    /// Texts.
    Texts,
    /// A path.
    Path,
    /// `embedded`, or an AMQP address.
    Broker,
    /// `sqlite`, or a MySQL address.
    Results,
    /// `results`, or the address of a directory or of a bucket.
    Blobs,
    /// A duration without a bound, or `forever`.
    Keep,
    /// `results`, or a Redis address.
    State,
    /// `off`, or a search address.
    Search,
    /// A list of addresses of databases.
    Databases,
    /// An address and port to listen on.
    Listen,
    /// Text that is never shown.
    Secret,
    /// A duration of at least so many milliseconds, however long.
    Period(u64),
    /// A list of windows in which nothing fires.
    Blackouts,
    /// A moment with its offset.
    Moment,
    /// A list of anything, or who tells one, as JSON.
    Items,
    /// A job, as JSON.
    Job,
}

impl Form {
    /// What is expected, for people; goes on after "expected".
    pub fn expected(self) -> String {
        match self {
            Self::Text | Self::Secret => "text that is not empty".to_owned(),
            Self::Name => "a name of letters, digits, `.`, `_` and `-`, at most 100".to_owned(),
            Self::Word(words) => format!("one of {}", words.join(", ")),
            Self::Flag => "true or false".to_owned(),
            Self::Count(low, high) => format!("a whole number from {low} to {high}"),
            Self::Number(low, high) => format!("a number from {low} to {high}"),
            Self::Duration(0) => "a duration such as \"250ms\", \"60s\" or \"5m\", at most 7d".to_owned(),
            Self::Duration(low) => format!("a duration such as \"250ms\", \"60s\" or \"5m\", from {low}ms to 7d"),
            Self::Period(0) => "a duration such as \"30s\", \"5m\" or \"8d\"".to_owned(),
            Self::Period(low) => format!("a duration such as \"30s\", \"5m\" or \"8d\", at least {low}ms"),
            Self::Rate => "so many in each such time, such as \"100/1m\"".to_owned(),
            Self::Size(high) => format!("a size such as \"64KiB\" or \"8MiB\", at most {}", bound(high)),
            Self::Names => "a list of names, such as [\"default\", \"images\"]".to_owned(),
            Self::Patterns => "a list of kinds, `prefix*` or `*`, such as [\"image.*\", \"noop\"]".to_owned(),
            Self::Words => "a program and its arguments, such as [\"python\", \"-m\", \"images.jobs\"]".to_owned(),
            Self::Texts => "a list of texts, such as [\"10.1.0.0/16\"]".to_owned(),
            Self::Path => "a path".to_owned(),
            Self::Broker => "\"embedded\", or an address such as \"amqp://user@host/vhost\"".to_owned(),
            Self::Results => "\"sqlite\", or an address such as \"mysql://user@host/database\"".to_owned(),
            Self::Blobs => "\"results\", a directory such as \"file:///srv/spinor/blobs\", or a bucket such as \"s3://bucket/prefix?region=eu-central-1\"".to_owned(),
            Self::Keep => "a duration such as \"12h\" or \"30d\", or \"forever\"".to_owned(),
            Self::State => "\"results\", or an address such as \"redis://host\"".to_owned(),
            Self::Search => "\"off\", or an address such as \"https://host:9200\"".to_owned(),
            Self::Databases => "a list of addresses, such as [\"mysql://user@host/database\", \"sqlite:///srv/shop.db\"]".to_owned(),
            Self::Listen => "an address and port, such as \"127.0.0.1:7070\"".to_owned(),
            Self::Blackouts => "a list of windows, such as [\"22:00-06:00\", \"sat,sun 00:00-24:00\"]".to_owned(),
            Self::Moment => "a moment with its offset, such as 2030-01-31T12:00:00Z".to_owned(),
            Self::Items => "a list of items, such as [\"north\", \"south\"], or a table such as { sql = \"SELECT name FROM sites\" } or { command = [\"list-sites\"] }".to_owned(),
            Self::Job => "a job, such as { kind = \"image.sweep\", queue = \"images\", args = { older = \"7d\" } }".to_owned(),
        }
    }

    /// Does a value have this form?
    pub fn takes(self, value: &ValueKind) -> bool {
        let all = |check: &dyn Fn(&str) -> bool| match value {
            ValueKind::Array(items) => {
                !items.is_empty()
                    && items.iter().all(|item| matches!(&item.kind, ValueKind::String(text) if check(text)))
            }
            _ => false,
        };
        match (self, value) {
            (Self::Names, _) => all(&is_name),
            (Self::Patterns, _) => all(&|text| KindPattern::new(text).is_ok()),
            (Self::Databases, _) => all(&outbox::has_form),
            // What is wrong with one is told by the rules of the trigger.
            (Self::Blackouts, _) => all(&|text| !text.trim().is_empty()),
            (Self::Words | Self::Texts, _) => all(&|text| !text.contains('\0')),
            (Self::Flag, ValueKind::Boolean(_)) => true,
            (Self::Count(low, high), ValueKind::I64(number)) => (low..=high).contains(number),
            (Self::Number(low, high), ValueKind::Float(number)) => (low..=high).contains(number),
            (Self::Number(low, high), ValueKind::I64(number)) => (low..=high).contains(&(*number as f64)),
            (_, ValueKind::String(text)) => self.takes_text(text),
            _ => false,
        }
    }

    fn takes_text(self, text: &str) -> bool {
        match self {
            Self::Text | Self::Secret | Self::Path => !text.trim().is_empty() && !text.contains('\0'),
            Self::Name => is_name(text),
            Self::Word(words) => words.contains(&text),
            Self::Duration(low) => measure::duration(text)
                .is_some_and(|time| time.as_millis() >= low.into() && time.as_secs() <= 7 * 86_400),
            Self::Period(low) => measure::duration(text).is_some_and(|time| time.as_millis() >= low.into()),
            Self::Rate => measure::rate(text).is_some(),
            Self::Size(high) => measure::size(text).is_some_and(|size| size > 0 && size <= high),
            Self::Broker => text == "embedded" || endpoint::is(text, &["amqp", "amqps"]),
            Self::Results => text == "sqlite" || endpoint::is(text, &["mysql"]),
            Self::Blobs => blobs::has_form(text),
            Self::Keep => text == "forever" || measure::duration(text).is_some_and(|time| !time.is_zero()),
            Self::State => text == "results" || endpoint::is(text, &["redis", "rediss"]),
            Self::Search => text == "off" || endpoint::is(text, &["http", "https"]),
            Self::Listen => text.parse::<std::net::SocketAddr>().is_ok(),
            Self::Moment => text.parse::<jiff::Timestamp>().is_ok(),
            // What is wrong with a table is told by the rules of the trigger.
            Self::Items if text.starts_with('{') => spinor_executors::Json::new(text.to_owned()).is_ok(),
            Self::Items => {
                serde_json::from_str::<Vec<serde::de::IgnoredAny>>(text).is_ok_and(|items| !items.is_empty())
            }
            Self::Job => text.starts_with('{') && spinor_executors::Json::new(text.to_owned()).is_ok(),
            Self::Flag
            | Self::Count(..)
            | Self::Number(..)
            | Self::Names
            | Self::Words
            | Self::Texts
            | Self::Blackouts
            | Self::Patterns
            | Self::Databases => false,
        }
    }

    /// The value a text of the environment or of a flag stands for.
    pub fn value(self, text: &str) -> ValueKind {
        let parsed = match self {
            Self::Flag => text.parse().ok().map(ValueKind::Boolean),
            Self::Count(..) => text.parse().ok().map(ValueKind::I64),
            Self::Number(..) => text.parse().ok().map(ValueKind::Float),
            Self::Names | Self::Words | Self::Texts | Self::Patterns | Self::Databases => Some(ValueKind::Array(
                text.split(',')
                    .map(str::trim)
                    .filter(|part| !part.is_empty())
                    .map(|part| Value::new(None, part))
                    .collect(),
            )),
            // A window has commas of its own.
            Self::Blackouts => {
                Some(ValueKind::Array(text.split(';').map(|part| Value::new(None, part.trim())).collect()))
            }
            _ => None,
        };
        parsed.unwrap_or_else(|| ValueKind::String(text.to_owned()))
    }
}

/// A largest size, for people.
fn bound(bytes: u64) -> String {
    if bytes >= 1 << 40 { format!("{}TiB", bytes >> 40) } else { format!("{}MiB", bytes >> 20) }
}

/// Is it a name: of a queue, a group, a kind?
pub fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 100
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
        // `.` and `..` mean something else in every path.
        && text.chars().any(|c| c != '.')
}
