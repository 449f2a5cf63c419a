//! The types by name, as they are read and as they are written, under one roof.
//!
//! Owns what happens to a name that has two forms: the one that is read is called `...Asked`.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::COMPONENTS;

/// Both sides' definitions; `paths` refers to those of its requests by their new names afterwards.
pub fn merged(mut read: Map<String, Value>, written: Map<String, Value>, paths: &mut Value) -> Map<String, Value> {
    let differ = differing(&read, &written);
    for operation in paths.as_object_mut().into_iter().flatten().flat_map(|(_, path)| path.as_object_mut()) {
        for (_, operation) in operation {
            for part in ["parameters", "requestBody"] {
                operation.get_mut(part).into_iter().for_each(|part| rename(part, &differ));
            }
        }
    }
    let mut all = written;
    for (name, schema) in &mut read {
        rename(schema, &differ);
        let name = if differ.contains(name) { format!("{name}Asked") } else { name.clone() };
        all.insert(name, schema.take());
    }
    all
}

/// The names that have two forms, or refer to one that has.
fn differing(read: &Map<String, Value>, written: &Map<String, Value>) -> BTreeSet<String> {
    let both: Vec<(&String, &Value, &Value)> =
        read.iter().filter_map(|(name, form)| Some((name, form, written.get(name)?))).collect();
    let mut differ: BTreeSet<String> =
        both.iter().filter(|(_, one, other)| one != other).map(|(name, ..)| (*name).clone()).collect();
    loop {
        let more = both.iter().filter(|(name, form, _)| !differ.contains(*name) && refers(form, &differ));
        let more: Vec<String> = more.map(|(name, ..)| (*name).clone()).collect();
        if more.is_empty() {
            return differ;
        }
        differ.extend(more);
    }
}

fn target(value: &Value) -> Option<&str> {
    value.as_str()?.strip_prefix('#')?.strip_prefix(COMPONENTS)?.strip_prefix('/')
}

fn refers(schema: &Value, names: &BTreeSet<String>) -> bool {
    match schema {
        Value::Object(fields) => fields.iter().any(|(field, value)| match target(value).filter(|_| field == "$ref") {
            Some(name) => names.contains(name),
            None => refers(value, names),
        }),
        Value::Array(items) => items.iter().any(|item| refers(item, names)),
        _ => false,
    }
}

fn rename(schema: &mut Value, names: &BTreeSet<String>) {
    match schema {
        Value::Object(fields) => {
            for (field, value) in fields {
                let named = target(value).filter(|name| field == "$ref" && names.contains(*name)).map(str::to_owned);
                match named {
                    Some(name) => *value = format!("#{COMPONENTS}/{name}Asked").into(),
                    None => rename(value, names),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, names)),
        _ => {}
    }
}
