//! Where values come from: the defaults, a file, the environment, flags; later ones win.
//!
//! Each value carries its origin (`file:line`, a variable, a flag) from here on. The merge is the
//! crate `config`'s; this file only feeds it. Refuses to judge values.

use std::{collections::BTreeMap, path::Path};

use config::{ConfigError, Map, Source, Value, ValueKind};
use toml::de::{DeTable, DeValue};

use super::{
    Problem,
    keys::{self, KEYS},
};

/// One value with its way and its origin.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// Its path, a name a part.
    pub path: Vec<String>,
    /// As it was given.
    pub value: ValueKind,
    /// `file:line`, `SPINOR_...`, `--flag` or `default`.
    pub origin: String,
}

/// All values of one origin's kind.
#[derive(Clone, Debug, Default)]
pub struct Layer(pub Vec<Leaf>);

/// What `SPINOR_` variables mean something else than a key: set for jobs by their executor, by the
/// command line's own search, or by Kubernetes for a service of our name.
const NOT_KEYS: [&str; 11] =
    ["CONFIG", "LOG", "JOB", "EXECUTION", "EXECUTOR_FD", "EXECUTOR_PROTOCOL", "RUN", "ATTEMPT", "HOST", "NODE", "PORT"];

/// The defaults of the table.
pub fn defaults() -> Layer {
    let leaves = KEYS.iter().filter(|key| !key.default.is_empty()).filter_map(|key| {
        let text = format!("{} = {}", key.path, key.default);
        let mut leaves = file_text("default", &text).ok()?.0;
        leaves.iter_mut().for_each(|leaf| leaf.origin = "default".to_owned());
        Some(leaves)
    });
    Layer(leaves.flatten().collect())
}

/// A TOML file, each value with its line.
pub fn file(path: &Path) -> Result<Layer, Problem> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Problem { place: path.display().to_string(), what: format!("cannot be read: {error}") })?;
    file_text(&path.display().to_string(), &text)
}

/// TOML text as if it came from a file of this name.
pub fn file_text(name: &str, text: &str) -> Result<Layer, Problem> {
    let table = DeTable::parse(text).map_err(|error| {
        let (line, column) = position(text, error.span().map_or(0, |span| span.start));
        let what = error.message().lines().collect::<Vec<_>>().join(", ");
        Problem { place: format!("{name}:{line}:{column}"), what: format!("is no TOML here: {what}") }
    })?;
    let mut leaves = Vec::new();
    walk(table.get_ref(), &mut Vec::new(), &mut |path, value, start| {
        let origin = format!("{name}:{}", position(text, start).0);
        leaves.push(Leaf { path: path.to_vec(), value, origin });
    });
    Ok(Layer(leaves))
}

/// Variables that start with `SPINOR_`; two underscores go one table down.
pub fn environment(variables: &BTreeMap<String, String>) -> Layer {
    let leaves = variables.iter().filter_map(|(name, text)| {
        let rest = name.strip_prefix("SPINOR_")?;
        if rest == "LOG" {
            return Some(leaf(vec!["log".to_owned(), "level".to_owned()], text, name));
        }
        if NOT_KEYS.contains(&rest) || rest.starts_with("SERVICE_") || rest.starts_with("PORT_") {
            return None;
        }
        Some(leaf(rest.to_lowercase().split("__").map(str::to_owned).collect(), text, name))
    });
    Layer(leaves.collect())
}

/// Flags: the key each stands for, its text, its name.
pub fn flags(flags: &[(&str, String, &str)]) -> Layer {
    let leaves = flags.iter().map(|(path, text, flag)| leaf(path.split('.').map(str::to_owned).collect(), text, flag));
    Layer(leaves.collect())
}

fn leaf(path: Vec<String>, text: &str, origin: &str) -> Leaf {
    let value = keys::find(&path).map_or_else(|| ValueKind::String(text.to_owned()), |key| key.form.value(text));
    Leaf { path, value, origin: origin.to_owned() }
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        let mut root = Map::new();
        for leaf in &self.0 {
            put(&mut root, &leaf.path, Value::new(Some(&leaf.origin), leaf.value.clone()));
        }
        Ok(root)
    }
}

fn put(table: &mut Map<String, Value>, path: &[String], value: Value) {
    let Some((first, rest)) = path.split_first() else {
        return;
    };
    if rest.is_empty() {
        table.insert(first.clone(), value);
        return;
    }
    let below = table.entry(first.clone()).or_insert_with(|| Value::new(None, Map::<String, Value>::new()));
    if let ValueKind::Table(below) = &mut below.kind {
        put(below, rest, value);
    }
}

/// Calls `found` for each value that is no table, and for each empty table.
fn walk(table: &DeTable<'_>, path: &mut Vec<String>, found: &mut dyn FnMut(&[String], ValueKind, usize)) {
    for (name, value) in table {
        path.push(name.get_ref().to_string());
        match value.get_ref() {
            list @ DeValue::Array(_) if is_each(path) => {
                found(path, ValueKind::String(json(list).to_string()), name.span().start);
            }
            // What is fired has args of any form: it is one value, as JSON.
            job @ DeValue::Table(_) if is_job(path) || is_each(path) => {
                found(path, ValueKind::String(json(job).to_string()), name.span().start);
            }
            DeValue::Table(below) if !below.is_empty() => walk(below, path, found),
            other => found(path, kind(other), name.span().start),
        }
        path.pop();
    }
}

/// Is it the job of a trigger?
fn is_job(path: &[String]) -> bool {
    matches!(path, [triggers, _, job] if triggers == "triggers" && job == "job")
}

/// Is it the items of a trigger, or who tells them? They may have any form, too.
fn is_each(path: &[String]) -> bool {
    matches!(path, [triggers, _, each] if triggers == "triggers" && each == "each")
}

fn json(value: &DeValue<'_>) -> serde_json::Value {
    match value {
        DeValue::Table(table) => {
            table.iter().map(|(name, value)| (name.get_ref().to_string(), json(value.get_ref()))).collect()
        }
        DeValue::Array(items) => items.iter().map(|item| json(item.get_ref())).collect(),
        other => match kind(other) {
            ValueKind::Boolean(flag) => flag.into(),
            ValueKind::I64(number) => number.into(),
            ValueKind::Float(number) => number.into(),
            other => other.to_string().into(),
        },
    }
}

fn kind(value: &DeValue<'_>) -> ValueKind {
    match value {
        DeValue::String(text) => ValueKind::String(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| ValueKind::String(number.to_string()), ValueKind::I64),
        DeValue::Float(number) => {
            number.as_str().parse().map_or_else(|_| ValueKind::String(number.to_string()), ValueKind::Float)
        }
        DeValue::Boolean(flag) => ValueKind::Boolean(*flag),
        DeValue::Datetime(time) => ValueKind::String(time.to_string()),
        DeValue::Array(items) => {
            ValueKind::Array(items.iter().map(|item| Value::new(None, kind(item.get_ref()))).collect())
        }
        DeValue::Table(_) => ValueKind::Table(Map::new()),
    }
}

/// Line and column of a byte, from 1.
fn position(text: &str, byte: usize) -> (usize, usize) {
    let before = text.get(..byte).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    (line, column)
}
