//! Every value of every layer against the table of keys; and what the user is shown.
//!
//! Owns the wording of problems: the key, what was found, what is expected. Refuses to stop at
//! the first one.

use config::{Value, ValueKind};

use super::{
    Config, Endpoint, Problem, Shown, each,
    keys::{self, Form, KEYS},
    layers::{Layer, Leaf},
    secrets::Secrets,
};

/// Checks each value where it was written, so that each problem has its own place.
pub(super) fn leaves(layers: &[Layer], problems: &mut Vec<Problem>) {
    for leaf in layers.iter().flat_map(|layer| &layer.0) {
        let path = leaf.path.join(".");
        let what = match keys::find(&leaf.path) {
            Some(key) if key.form.takes(&leaf.value) => name_problem(leaf),
            Some(key) => {
                Some(format!("`{path}` is {}, expected {}", found(&leaf.value, key.form), key.form.expected()))
            }
            None if KEYS.iter().any(|key| key.is_below(&leaf.path)) => match &leaf.value {
                ValueKind::Table(table) if table.is_empty() => name_problem(leaf),
                value => Some(format!("`{path}` is {}, expected a table", found(value, Form::Text))),
            },
            None => Some(unknown(&path)),
        };
        problems.extend(what.map(|what| Problem { place: leaf.origin.clone(), what }));
    }
}

/// The names of users' own tables are checked like the names in values.
fn name_problem(leaf: &Leaf) -> Option<String> {
    match leaf.path.as_slice() {
        [table, name, ..] if ["queues", "limits", "triggers"].contains(&table.as_str()) && !keys::is_name(name) => {
            Some(format!("`{table}.{name}`: expected {}", Form::Name.expected()))
        }
        _ => None,
    }
}

/// The value as far as it may be shown.
fn found(value: &ValueKind, form: Form) -> String {
    match (value, form) {
        (_, Form::Secret) => "something else".to_owned(),
        (ValueKind::String(text), Form::Broker | Form::Results | Form::State | Form::Search) => {
            format!("\"{}\"", clipped(&Endpoint::new(text.as_str()).to_string()).trim_start_matches("://"))
        }
        // A bucket's keys may stand there by mistake.
        (ValueKind::String(text), Form::Blobs) => {
            let shown = Endpoint::new(text.split('?').next().unwrap_or_default()).to_string();
            format!("\"{}\"", clipped(&shown).trim_start_matches("://"))
        }
        (ValueKind::Array(items), Form::Databases) => {
            let shown = |item: &Value| match &item.kind {
                ValueKind::String(text) => {
                    format!("{:?}", Endpoint::new(text.as_str()).to_string().trim_start_matches("://"))
                }
                other => text_of(other),
            };
            format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(", "))
        }
        (ValueKind::String(text), Form::Databases) => {
            format!("{:?}", clipped(&Endpoint::new(text.as_str()).to_string()).trim_start_matches("://"))
        }
        (ValueKind::String(text), Form::Items) => clipped(&format!("{:?}", each::masked(text))),
        (value, _) => clipped(&text_of(value)),
    }
}

fn clipped(text: &str) -> String {
    if text.chars().count() <= 80 { text.to_owned() } else { text.chars().take(77).chain("...".chars()).collect() }
}

/// A value as TOML.
fn text_of(value: &ValueKind) -> String {
    match value {
        ValueKind::String(text) => format!("{text:?}"),
        ValueKind::Array(items) => {
            format!("[{}]", items.iter().map(|item: &Value| text_of(&item.kind)).collect::<Vec<_>>().join(", "))
        }
        ValueKind::Table(_) => "a table".to_owned(),
        other => other.to_string(),
    }
}

fn unknown(path: &str) -> String {
    let nearest = KEYS.iter().map(|key| key.path).min_by_key(|key| distance(key, path));
    match nearest.filter(|key| distance(key, path) <= 3 || last(key) == last(path)) {
        Some(key) => format!("`{path}` is no key; did you mean `{key}`?"),
        None => format!("`{path}` is no key; `spinor config init` writes a file with all of them"),
    }
}

fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

/// How many letters to change, add or remove.
fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.bytes().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in right.bytes().enumerate() {
            let step = corner + usize::from(a != b);
            corner = row[j + 1];
            row[j + 1] = step.min(corner + 1).min(row[j] + 1);
        }
    }
    row[right.len()]
}

/// The values that count, one a path, later layers before earlier ones.
pub(super) fn merged(layers: &[Layer]) -> Vec<Leaf> {
    let mut merged: Vec<Leaf> = Vec::new();
    for leaf in layers.iter().flat_map(|layer| &layer.0) {
        merged.retain(|other| other.path != leaf.path);
        merged.push(leaf.clone());
    }
    merged
}

/// Each key with its value and origin, secrets masked, worked-out defaults filled in.
pub(super) fn shown(config: &Config, merged: Vec<Leaf>, secrets: &Secrets) -> Vec<Shown> {
    let mut shown: Vec<Shown> = merged
        .into_iter()
        .filter(|leaf| !matches!(leaf.value, ValueKind::Table(_)))
        .map(|leaf| {
            let value = match keys::find(&leaf.path).map(|key| key.form) {
                Some(Form::Secret) => "\"***\"".to_owned(),
                Some(form @ (Form::Broker | Form::Results | Form::State | Form::Search | Form::Databases)) => {
                    found(&leaf.value, form)
                }
                Some(Form::Items) => match &leaf.value {
                    ValueKind::String(text) => format!("{:?}", each::masked(text)),
                    other => text_of(other),
                },
                _ => text_of(&leaf.value),
            };
            Shown { key: dotted(&leaf.path), value, origin: leaf.origin }
        })
        .collect();
    let mut fill = |key: &str, value: String, origin: &str| {
        if !shown.iter().any(|line| line.key == key) {
            shown.push(Shown { key: key.to_owned(), value, origin: origin.to_owned() });
        }
    };
    fill("data", format!("{:?}", config.data), "default");
    fill("consumer.slots", config.consumer.slots.to_string(), "default, one for each core");
    for name in secrets.names() {
        fill(&format!("secrets:{name}"), "\"***\"".to_owned(), &secrets.file);
    }
    let rank = |line: &Shown| {
        let path: Vec<String> = line.key.split('.').map(str::to_owned).collect();
        KEYS.iter().position(|key| key.is_at(&path)).unwrap_or(KEYS.len())
    };
    shown.sort_by_key(|line| (rank(line), line.key.clone()));
    shown
}

/// A path with its odd names quoted.
fn dotted(path: &[String]) -> String {
    let bare = |name: &String| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    path.iter().map(|name| if bare(name) { name.clone() } else { format!("{name:?}") }).collect::<Vec<_>>().join(".")
}
