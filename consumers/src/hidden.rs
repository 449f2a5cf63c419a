//! Fields of args that a kind calls secret: they are shown to nobody.
//!
//! A part of a kind's schema with `"secret": true` or `"writeOnly": true` names one. Whatever of the schemas that were ever
//! told of the kind says so counts, so that an old program cannot bring to light what a new one hides; until the schemas
//! are known, all args of kinds that programs serve are hidden. Refuses to change what runs: an executor gets what was
//! published, and the record keeps it, so that it can be run again.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::{Map, Value};
use spinor_executors::{BUILTIN_KINDS, Job, Json};

use crate::{
    consumer::Served,
    marks::Marks,
    state::{Kind, Subject},
};

/// What is shown in the place of a secret.
pub const MASK: &str = "***";
/// Words of a schema that hold for the same value.
const SAME: [&str; 3] = ["allOf", "anyOf", "oneOf"];
const BRANCHES: [&str; 4] = ["if", "then", "else", "not"];
/// A schema that leads on and on without going deeper into the value ends here.
const DEEPEST: u32 = 64;

/// The secret fields of all kinds, as far as their schemas are known.
#[derive(Default)]
pub struct Hidden {
    marks: Arc<Marks>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    changes: Option<u64>,
    /// The schemas with a secret in them, by kind.
    kinds: HashMap<String, Arc<[Value]>>,
}

/// What is done with the values at secret places.
enum Secrets<'a> {
    Hide,
    /// Notes whether somebody gave back what is shown in their place.
    Find(&'a mut bool),
}

impl Hidden {
    /// Those that these marks tell.
    pub fn new(marks: Arc<Marks>) -> Self {
        Self { marks, known: Mutex::default() }
    }

    /// These args without their secrets; `None`: nothing of them is one.
    pub fn hide(&self, kind: &str, args: &Json) -> Option<Json> {
        if args.text() == "null" {
            return None;
        }
        if !self.marks.is_whole() && !BUILTIN_KINDS.contains(&kind) {
            return Json::of(&MASK).ok();
        }
        let schemas = self.schemas(kind)?;
        // What cannot be read is shown to nobody either.
        let Ok(mut value) = serde_json::from_slice::<Value>(args.bytes()) else { return Json::of(&MASK).ok() };
        for schema in schemas.iter() {
            walk(schema, schema, &mut value, &mut Secrets::Hide, DEEPEST);
        }
        Json::of(&value).ok()
    }

    /// The same in a job.
    pub fn hide_in(&self, job: &mut Job) {
        if let Some(args) = self.hide(&job.kind, &job.args) {
            job.args = args;
        }
    }

    /// Has this kind a secret at all, as far as is known?
    pub fn has_some(&self, kind: &str) -> bool {
        !self.marks.is_whole() && !BUILTIN_KINDS.contains(&kind) || self.schemas(kind).is_some()
    }

    /// Was what is shown in the place of a secret given back as its value?
    pub fn is_given_back(&self, kind: &str, args: &Json) -> bool {
        let Some(schemas) = self.schemas(kind).filter(|_| args.text().contains(MASK)) else { return false };
        let Ok(mut value) = serde_json::from_slice::<Value>(args.bytes()) else { return false };
        let mut found = false;
        for schema in schemas.iter() {
            walk(schema, schema, &mut value, &mut Secrets::Find(&mut found), DEEPEST);
        }
        found
    }

    fn schemas(&self, kind: &str) -> Option<Arc<[Value]>> {
        let changes = self.marks.changed_last(Kind::Served);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.changes != Some(changes) {
            *known = Known { changes: Some(changes), kinds: read(&self.marks) };
        }
        known.kinds.get(kind).map(Arc::clone)
    }
}

fn read(marks: &Marks) -> HashMap<String, Arc<[Value]>> {
    let mut kinds: HashMap<String, Vec<Value>> = HashMap::new();
    for mark in marks.all(Kind::Served) {
        let Subject::Served { kind, .. } = mark.subject else { continue };
        let served: Served = mark.value.and_then(|value| serde_json::from_value(value).ok()).unwrap_or_default();
        if let Some(schema) = served.schema.filter(names_one) {
            kinds.entry(kind).or_default().push(schema);
        }
    }
    kinds.into_iter().map(|(kind, schemas)| (kind, schemas.into())).collect()
}

fn is_secret(words: &Map<String, Value>) -> bool {
    ["secret", "writeOnly"].iter().any(|word| words.get(*word) == Some(&Value::Bool(true)))
}

/// Is there a secret anywhere in this schema?
fn names_one(schema: &Value) -> bool {
    match schema {
        Value::Object(words) => is_secret(words) || words.values().any(names_one),
        Value::Array(some) => some.iter().any(names_one),
        _ => false,
    }
}

fn walk(root: &Value, schema: &Value, value: &mut Value, secrets: &mut Secrets<'_>, deepest: u32) {
    let (Value::Object(words), Some(deepest)) = (schema, deepest.checked_sub(1)) else { return };
    if is_secret(words) {
        match secrets {
            Secrets::Hide => *value = Value::from(MASK),
            Secrets::Find(found) => **found |= *value == MASK,
        }
        return;
    }
    let same = SAME.iter().filter_map(|word| words.get(*word)?.as_array()).flatten();
    let branches = BRANCHES.iter().filter_map(|word| words.get(*word));
    let pointer = words.get("$ref").and_then(Value::as_str).and_then(|name| name.strip_prefix('#'));
    for schema in same.chain(branches).chain(pointer.and_then(|pointer| root.pointer(pointer))) {
        walk(root, schema, value, secrets, deepest);
    }
    match value {
        Value::Object(fields) => {
            let named = words.get("properties").and_then(Value::as_object);
            // A pattern is not read here: it may be any field.
            let patterns = words.get("patternProperties").and_then(Value::as_object).into_iter().flat_map(Map::values);
            let patterns: Vec<&Value> = patterns.collect();
            for (name, value) in fields {
                let of_name = named.and_then(|named| named.get(name));
                let others = words.get("additionalProperties").filter(|_| of_name.is_none());
                for schema in of_name.into_iter().chain(others).chain(patterns.iter().copied()) {
                    walk(root, schema, value, secrets, DEEPEST);
                }
            }
        }
        Value::Array(items) => {
            let first = words.get("prefixItems").and_then(Value::as_array);
            for (place, value) in items.iter_mut().enumerate() {
                let own = first.and_then(|first| first.get(place)).or_else(|| words.get("items"));
                for schema in own.into_iter().chain(words.get("contains")) {
                    walk(root, schema, value, secrets, DEEPEST);
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn hidden(schema: &Value, mut value: Value) -> Value {
        walk(schema, schema, &mut value, &mut Secrets::Hide, DEEPEST);
        value
    }

    #[test]
    fn what_a_schema_calls_secret_is_hidden_wherever_it_is_named() {
        let schema = json!({
            "properties": {
                "password": {"type": "string", "writeOnly": true},
                "login": {"$ref": "#/$defs/login"},
                "keys": {"items": {"secret": true}},
                "open": {"type": "string", "secret": false}
            },
            "additionalProperties": {"anyOf": [{"type": "null"}, {"properties": {"token": {"secret": true}}}]},
            "$defs": {"login": {"properties": {"pin": {"secret": true}, "next": {"$ref": "#/$defs/login"}}}}
        });
        assert!(names_one(&schema));
        let args = json!({
            "password": "p", "open": "o", "login": {"pin": 1, "name": "n", "next": {"pin": [2]}}, "keys": ["a", "b"],
            "other": {"token": {"a": 1}, "b": 2}
        });
        let shown = json!({
            "password": MASK, "open": "o", "login": {"pin": MASK, "name": "n", "next": {"pin": MASK}},
            "keys": [MASK, MASK], "other": {"token": MASK, "b": 2}
        });
        assert_eq!(hidden(&schema, args), shown);
    }

    #[test]
    fn a_schema_that_leads_on_for_ever_ends() {
        let schema = json!({"allOf": [{"$ref": "#"}], "properties": {"a": {"secret": true}}});
        assert_eq!(hidden(&schema, json!({"a": 1})), json!({"a": MASK}));
        assert!(!names_one(&json!({"properties": {"a": {"secret": "yes"}}})));
    }
}
