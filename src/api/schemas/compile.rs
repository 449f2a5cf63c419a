//! A JSON Schema (2020-12) as a program told it becomes one that checks.
//!
//! Owns which keywords are heeded. What is not, such as a pattern, makes its part of the schema one that
//! nobody here can be sure of: it never refuses. Refuses what makes no sense, and other documents.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Number, Value};

/// Says nothing of which args fit.
const NOTES: [&str; 19] = [
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "format",
    "contentMediaType",
    "contentEncoding",
    "contentSchema",
    "$schema",
    "$id",
    "$comment",
    "$defs",
    "definitions",
    "$anchor",
    "$vocabulary",
    "secret",
];
/// The kinds of JSON values.
pub const TYPES: [&str; 7] = ["null", "boolean", "object", "array", "number", "string", "integer"];

/// The place of a part.
pub type At = usize;

/// A compiled schema.
#[derive(Debug)]
pub struct Schema {
    /// The first is that of the whole.
    pub parts: Vec<Part>,
}

/// What one part of a schema asks of a value.
#[derive(Debug, Default)]
pub struct Part {
    /// Nothing fits.
    pub never: bool,
    /// It asks for more than is known here.
    pub unsure: bool,
    /// Names of [`TYPES`].
    pub types: Option<Vec<&'static str>>,
    /// One of these.
    pub values: Option<Vec<Value>>,
    /// Of numbers: the keyword and its bound.
    pub bounds: Vec<(&'static str, Number)>,
    /// Of sizes: the keyword and its bound.
    pub sizes: Vec<(&'static str, u64)>,
    /// No item twice.
    pub unique: bool,
    /// Fields that must be there.
    pub required: Vec<String>,
    /// Fields by name.
    pub fields: BTreeMap<String, At>,
    /// All other fields.
    pub others: Option<At>,
    /// The first items.
    pub first: Vec<At>,
    /// All other items.
    pub items: Option<At>,
    /// Each of these, `$ref` among them.
    pub all: Vec<At>,
    /// One of these at least.
    pub any: Option<Vec<At>>,
    /// Exactly one of these.
    pub one: Option<Vec<At>>,
    /// Not this.
    pub not: Option<At>,
}

struct Compiler<'a> {
    root: &'a Value,
    parts: Vec<Part>,
    /// Parts by their pointer, so that what refers to itself comes to an end.
    known: HashMap<String, At>,
}

/// Compiles it, or tells what makes no sense, and where.
pub fn schema(schema: &Value) -> Result<Schema, String> {
    let mut compiler = Compiler { root: schema, parts: Vec::new(), known: HashMap::new() };
    compiler.part(schema, "")?;
    Ok(Schema { parts: compiler.parts })
}

impl Compiler<'_> {
    fn part(&mut self, schema: &Value, place: &str) -> Result<At, String> {
        if let Some(at) = self.known.get(place) {
            return Ok(*at);
        }
        let at = self.parts.len();
        self.known.insert(place.to_owned(), at);
        self.parts.push(Part::default());
        let part = match schema {
            Value::Bool(sense) => Part { never: !sense, ..Part::default() },
            // Places inside it count from there.
            Value::Object(words) if !place.is_empty() && words.contains_key("$id") => {
                Part { unsure: true, ..Part::default() }
            }
            Value::Object(words) => self.words(words, place)?,
            _ => return Err(format!("{}: expected an object, true or false", shown(place))),
        };
        self.parts[at] = part;
        Ok(at)
    }

    fn words(&mut self, words: &Map<String, Value>, place: &str) -> Result<Part, String> {
        let mut part = Part::default();
        for (word, value) in words {
            let place = format!("{place}/{}", escaped(word));
            self.word(&mut part, word, value, &place)?;
        }
        // Which fields are others depends on it.
        if words.contains_key("patternProperties") {
            part.others = None;
        }
        Ok(part)
    }

    fn word(&mut self, part: &mut Part, word: &str, value: &Value, place: &str) -> Result<(), String> {
        let wrong = |expected: &str| format!("{}: expected {expected}", shown(place));
        match word {
            "$ref" => part.all.push(self.referred(value, place)?),
            "type" => part.types = Some(types(value).ok_or_else(|| wrong("the name of a type, or a list of them"))?),
            "const" => part.values = Some(vec![value.clone()]),
            "enum" => part.values = Some(value.as_array().ok_or_else(|| wrong("a list of values"))?.clone()),
            "required" => part.required = names(value).ok_or_else(|| wrong("a list of names"))?,
            "properties" => {
                for (name, inner) in value.as_object().ok_or_else(|| wrong("an object of schemas"))? {
                    let inner = self.part(inner, &format!("{place}/{}", escaped(name)))?;
                    part.fields.insert(name.clone(), inner);
                }
            }
            "additionalProperties" => part.others = Some(self.part(value, place)?),
            "items" => part.items = Some(self.part(value, place)?),
            "not" => part.not = Some(self.part(value, place)?),
            "prefixItems" => part.first = self.parts(value, place)?,
            "allOf" => {
                let all = self.parts(value, place)?;
                part.all.extend(all);
            }
            "anyOf" => part.any = Some(self.parts(value, place)?),
            "oneOf" => part.one = Some(self.parts(value, place)?),
            "uniqueItems" => part.unique = value.as_bool().ok_or_else(|| wrong("true or false"))?,
            "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" => {
                let Value::Number(bound) = value else { return Err(wrong("a number")) };
                part.bounds.extend(BOUNDS.into_iter().find(|known| *known == word).map(|word| (word, bound.clone())));
            }
            "minLength" | "maxLength" | "minItems" | "maxItems" | "minProperties" | "maxProperties" => {
                let size = value.as_u64().ok_or_else(|| wrong("a whole number that is not negative"))?;
                part.sizes.extend(SIZES.into_iter().find(|known| *known == word).map(|word| (word, size)));
            }
            _ if NOTES.contains(&word) => {}
            _ => part.unsure = true,
        }
        Ok(())
    }

    fn parts(&mut self, value: &Value, place: &str) -> Result<Vec<At>, String> {
        let some = value.as_array().filter(|some| !some.is_empty());
        let some = some.ok_or_else(|| format!("{}: expected a list of schemas", shown(place)))?;
        some.iter().enumerate().map(|(number, inner)| self.part(inner, &format!("{place}/{number}"))).collect()
    }

    fn referred(&mut self, value: &Value, place: &str) -> Result<At, String> {
        let name = value.as_str().unwrap_or_default();
        let pointer = name.strip_prefix('#').filter(|rest| rest.is_empty() || rest.starts_with('/'));
        let root = self.root;
        match pointer.and_then(|pointer| Some((pointer, root.pointer(pointer)?))) {
            Some((pointer, schema)) => self.part(schema, pointer),
            None => Err(format!("{}: `{name}` is no place in this schema, such as `#/$defs/name`", shown(place))),
        }
    }
}

const BOUNDS: [&str; 4] = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"];
const SIZES: [&str; 6] = ["minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"];

fn types(value: &Value) -> Option<Vec<&'static str>> {
    let of = |name: &Value| TYPES.into_iter().find(|known| name.as_str() == Some(known));
    match value {
        Value::Array(some) if !some.is_empty() => some.iter().map(of).collect(),
        one => Some(vec![of(one)?]),
    }
}

fn names(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|name| name.as_str().map(str::to_owned)).collect()
}

fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn shown(place: &str) -> &str {
    if place.is_empty() { "the schema" } else { place }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::schema;

    #[test]
    fn a_schema_that_makes_no_sense_or_asks_for_another_document_is_told_with_its_place() {
        for (wrong, place) in [
            (json!(7), "the schema"),
            (json!({"type": 7}), "/type"),
            (json!({"properties": {"a/b": {"type": "text"}}}), "/properties/a~1b/type"),
            (json!({"anyOf": []}), "/anyOf"),
            (json!({"required": "a"}), "/required"),
            (json!({"minLength": -1}), "/minLength"),
            (json!({"$ref": "https://example.org/schema.json"}), "/$ref"),
            (json!({"items": {"$ref": "#/$defs/none"}}), "/items/$ref"),
        ] {
            let why = schema(&wrong).map(|_| ()).expect_err("it makes no sense");
            assert!(why.starts_with(&format!("{place}: ")), "{wrong}: {why}");
        }
    }

    #[test]
    fn a_schema_that_refers_to_itself_is_compiled_once() {
        let tree = schema(&json!({"properties": {"leaves": {"items": {"$ref": "#"}}}})).expect("it makes sense");
        assert_eq!(tree.parts.len(), 3);
        assert_eq!(schema(&json!({"$ref": "#"})).expect("it makes sense").parts.len(), 1);
    }
}
