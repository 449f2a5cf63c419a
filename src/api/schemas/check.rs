//! Does a value fit a schema? Where not, what is expected there.
//!
//! Owns the verdict, one of three: what a keyword that is not heeded would say is not known, and what is not
//! known never refuses. Bounded: a schema that goes on for ever about one value is given up, and lets it
//! pass. Values may be secret and are never repeated.

use std::cmp::Ordering;

use serde_json::{Number, Value};

use super::compile::{At, Part, Schema};

/// So many looks at a value by a part, and the rest passes.
const MOST: usize = 200_000;
/// So far into each other parts and values go.
const DEEPEST: usize = 250;
/// In longer lists nothing is looked for twice.
const LONGEST: usize = 1000;

/// What is said of a value.
pub enum Verdict {
    /// It fits.
    Fits,
    /// It may fit.
    Unsure,
    /// It does not.
    Refused(Refusal),
}

/// Where a value does not fit, and why.
#[derive(Debug)]
pub struct Refusal {
    /// The way to it: `.path`, `[1]`.
    pub place: String,
    /// For people.
    pub why: String,
    /// What would fit there by its type, if that is all that is wrong.
    expected: Option<String>,
}

struct Look<'a> {
    schema: &'a Schema,
    left: usize,
}

/// Looks.
pub fn check(schema: &Schema, value: &Value) -> Verdict {
    Look { schema, left: MOST }.at(0, value, 0)
}

/// What several verdicts on one value come to when each counts.
struct Both {
    unsure: bool,
}

impl Both {
    fn and(&mut self, verdict: Verdict) -> Option<Refusal> {
        match verdict {
            Verdict::Refused(refusal) => return Some(refusal),
            Verdict::Unsure => self.unsure = true,
            Verdict::Fits => {}
        }
        None
    }
}

impl Look<'_> {
    fn at(&mut self, at: At, value: &Value, depth: usize) -> Verdict {
        self.left = self.left.saturating_sub(1);
        let Some(part) = self.schema.parts.get(at).filter(|_| self.left > 0 && depth < DEEPEST) else {
            return Verdict::Unsure;
        };
        let mut both = Both { unsure: part.unsure };
        let refusal = alone(part, value, &mut both)
            .or_else(|| self.inside(part, value, depth + 1, &mut both))
            .or_else(|| self.beside(part, value, depth + 1, &mut both));
        match refusal {
            Some(refusal) => Verdict::Refused(refusal),
            None if both.unsure => Verdict::Unsure,
            None => Verdict::Fits,
        }
    }

    /// What is in it. The place is made on the way out, of what does not fit alone.
    fn inside(&mut self, part: &Part, value: &Value, depth: usize, both: &mut Both) -> Option<Refusal> {
        match value {
            Value::Object(fields) => fields.iter().find_map(|(name, inner)| {
                let at = part.fields.get(name).copied().or(part.others)?;
                let refusal = if self.schema.parts[at].never {
                    Some(refused("is none of its arguments"))
                } else {
                    both.and(self.at(at, inner, depth))
                };
                refusal.map(|refusal| refusal.under(&format!(".{name}")))
            }),
            Value::Array(items) => items.iter().enumerate().find_map(|(number, inner)| {
                let at = part.first.get(number).copied().or(part.items)?;
                both.and(self.at(at, inner, depth)).map(|refusal| refusal.under(&format!("[{number}]")))
            }),
            _ => None,
        }
    }

    /// What other parts say of the same value.
    fn beside(&mut self, part: &Part, value: &Value, depth: usize, both: &mut Both) -> Option<Refusal> {
        let all = part.all.iter().find_map(|at| both.and(self.at(*at, value, depth)));
        all.or_else(|| {
            let (fit, _, refusals) = self.each(part.any.as_deref()?, value, depth, both);
            (fit == 0 && refusals.len() == part.any.as_ref().map_or(0, Vec::len)).then(|| best(refusals))
        })
        .or_else(|| {
            let (fit, unsure, refusals) = self.each(part.one.as_deref()?, value, depth, both);
            match fit {
                0 if unsure == 0 => Some(best(refusals)),
                0 | 1 => None,
                _ => Some(refused("fits more than one of what the schema lists, where exactly one may")),
            }
        })
        .or_else(|| match self.at(part.not?, value, depth) {
            Verdict::Fits => Some(refused("is what the schema excludes")),
            Verdict::Unsure => {
                both.unsure = true;
                None
            }
            Verdict::Refused(_) => None,
        })
    }

    /// How many fit, of how many that is not known, and why the others do not. Unsure if one that is unsure
    /// might change the end.
    fn each(&mut self, parts: &[At], value: &Value, depth: usize, both: &mut Both) -> (usize, usize, Vec<Refusal>) {
        let (mut fit, mut unsure, mut refusals) = (0, 0, Vec::new());
        for at in parts {
            match self.at(*at, value, depth) {
                Verdict::Fits => fit += 1,
                Verdict::Unsure => unsure += 1,
                Verdict::Refused(refusal) => refusals.push(refusal),
            }
        }
        both.unsure |= unsure > 0;
        (fit, unsure, refusals)
    }
}

/// What is asked of the value itself.
fn alone(part: &Part, value: &Value, both: &mut Both) -> Option<Refusal> {
    if part.never {
        return Some(refused("is not allowed"));
    }
    if let Some(types) = &part.types
        && !types.iter().any(|name| is(name, value))
    {
        let expected = types.iter().map(|name| word(name)).collect::<Vec<_>>().join(" or ");
        return Some(wrong_type(expected, value));
    }
    if let Some(values) = &part.values
        && !values.iter().any(|one| same(one, value))
    {
        let list = values.iter().take(20).map(ToString::to_string).collect::<Vec<_>>().join(", ");
        return Some(refused(&format!("expected one of {list}")));
    }
    match value {
        Value::Number(number) => part.bounds.iter().find_map(|(word, bound)| {
            let order = order(number, bound);
            let (ok, says) = match *word {
                "minimum" => (order.is_ge(), "at least"),
                "maximum" => (order.is_le(), "at most"),
                "exclusiveMinimum" => (order.is_gt(), "more than"),
                _ => (order.is_lt(), "less than"),
            };
            (!ok).then(|| refused(&format!("expected {says} {bound}")))
        }),
        Value::String(text) => sized(part, text.chars().count(), "Length", "characters"),
        Value::Array(items) => sized(part, items.len(), "Items", "items").or_else(|| {
            if !part.unique || items.len() > LONGEST {
                both.unsure |= part.unique;
                return None;
            }
            let twice = (1..items.len()).find(|at| items[..*at].iter().any(|before| same(before, &items[*at])));
            twice.map(|at| refused("is in the list twice").under(&format!("[{at}]")))
        }),
        Value::Object(fields) => {
            let missing = part.required.iter().find(|name| !fields.contains_key(*name));
            let missing = missing.map(|name| refused("is missing").under(&format!(".{name}")));
            missing.or_else(|| sized(part, fields.len(), "Properties", "fields"))
        }
        Value::Null | Value::Bool(_) => None,
    }
}

fn sized(part: &Part, size: usize, of: &str, unit: &str) -> Option<Refusal> {
    let size = u64::try_from(size).unwrap_or(u64::MAX);
    part.sizes.iter().filter(|(word, _)| word.ends_with(of)).find_map(|(word, bound)| {
        let (ok, says) =
            if word.starts_with("min") { (size >= *bound, "at least") } else { (size <= *bound, "at most") };
        (!ok).then(|| refused(&format!("expected {says} {bound} {unit}, got {size}")))
    })
}

impl Refusal {
    /// The same, one step further out.
    fn under(mut self, step: &str) -> Self {
        self.place.insert_str(0, step);
        self
    }
}

fn refused(why: &str) -> Refusal {
    Refusal { place: String::new(), why: why.to_owned(), expected: None }
}

fn wrong_type(expected: String, value: &Value) -> Refusal {
    let got = match value {
        Value::Number(number) if is_whole(number) => "a whole number",
        value => word(super::compile::TYPES.into_iter().find(|name| is(name, value)).unwrap_or_default()),
    };
    let why = format!("expected {expected}, got {got}");
    Refusal { place: String::new(), why, expected: Some(expected) }
}

/// Of several refusals that which says most: all types that would fit, or what is wrong deepest inside.
fn best(refusals: Vec<Refusal>) -> Refusal {
    let here = |refusal: &Refusal| refusal.place.is_empty();
    let expected: Option<Vec<&str>> =
        refusals.iter().map(|refusal| refusal.expected.as_deref().filter(|_| here(refusal))).collect();
    if let Some(expected) = expected {
        let got = refusals.first().and_then(|refusal| refusal.why.rsplit_once(", got ")).map_or("", |(_, got)| got);
        let expected = expected.join(" or ");
        let why = format!("expected {expected}, got {got}");
        return Refusal { place: String::new(), why, expected: Some(expected) };
    }
    // Of several as deep the first: a schema lists what is meant most at its start.
    let depth = |refusal: &Refusal| refusal.place.matches(['.', '[']).count();
    let deepest = refusals.into_iter().rev().max_by_key(depth);
    deepest.unwrap_or_else(|| refused("fits nothing that the schema lists"))
}

fn is(name: &str, value: &Value) -> bool {
    match value {
        Value::Null => name == "null",
        Value::Bool(_) => name == "boolean",
        Value::Object(_) => name == "object",
        Value::Array(_) => name == "array",
        Value::String(_) => name == "string",
        Value::Number(number) => name == "number" || (name == "integer" && is_whole(number)),
    }
}

fn word(name: &str) -> &'static str {
    match name {
        "null" => "null",
        "boolean" => "true or false",
        "object" => "an object",
        "array" => "a list",
        "number" => "a number",
        "string" => "text",
        _ => "a whole number",
    }
}

fn is_whole(number: &Number) -> bool {
    number.is_i64() || number.is_u64() || number.as_f64().is_some_and(|number| number.fract() == 0.0)
}

fn order(one: &Number, other: &Number) -> Ordering {
    let whole = |number: &Number| number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
    match (whole(one), whole(other)) {
        (Some(one), Some(other)) => one.cmp(&other),
        _ => {
            let float = |number: &Number| number.as_f64().unwrap_or_default();
            float(one).partial_cmp(&float(other)).unwrap_or(Ordering::Equal)
        }
    }
}

/// The same value, however its numbers are written.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => order(one, other).is_eq(),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            let in_other = |(name, value): (&String, &Value)| other.get(name).is_some_and(|its| same(value, its));
            one.len() == other.len() && one.iter().all(in_other)
        }
        (one, other) => one == other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Verdict, check};
    use crate::api::schemas::compile;

    /// Place and reason; nothing when it may fit.
    fn refusal(schema: &Value, value: &Value) -> Option<(String, String)> {
        match check(&compile::schema(schema).expect("it makes sense"), value) {
            Verdict::Refused(refusal) => Some((refusal.place, refusal.why)),
            Verdict::Fits | Verdict::Unsure => None,
        }
    }

    #[test]
    fn what_does_not_fit_is_named_with_what_is_expected_and_never_repeated() {
        let schema = json!({
            "type": "object", "required": ["path"], "additionalProperties": false,
            "properties": {
                "path": {"type": "string", "minLength": 1}, "how": {"enum": ["fast", "slow"]}, "width": {"$ref": "#/$defs/size"},
                "sizes": {"type": "array", "items": {"type": "integer", "exclusiveMinimum": 0}, "maxItems": 2, "uniqueItems": true},
                "maybe": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
                "either": {"oneOf": [{"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}}}, {"type": "array"}]},
                "pair": {"type": "array", "prefixItems": [{"type": "string"}, {"type": "boolean"}], "items": false},
            },
            "$defs": {"size": {"type": "number", "minimum": 1, "maximum": 10}},
        });
        let with = |name: &str, value: Value| json!({"path": "a", name: value});
        for good in [
            json!({"path": "a"}),
            with("width", json!(10.0)),
            with("how", json!("slow")),
            with("sizes", json!([1, 2.0])),
            with("maybe", json!(null)),
            with("either", json!([])),
            with("pair", json!(["x", true])),
        ] {
            assert_eq!(refusal(&schema, &good), None, "{good}");
        }
        for (wrong, place, why) in [
            (json!("secret"), "", "expected an object, got text"),
            (json!({}), ".path", "is missing"),
            (json!({"path": 7}), ".path", "expected text, got a whole number"),
            (json!({"path": ""}), ".path", "at least 1 characters"),
            (with("wdith", json!("secret")), ".wdith", "is none of its arguments"),
            (with("how", json!("secret")), ".how", "expected one of \"fast\", \"slow\""),
            (with("width", json!(0.5)), ".width", "at least 1"),
            (with("width", json!(11)), ".width", "at most 10"),
            (with("sizes", json!([1, "secret"])), ".sizes[1]", "expected a whole number, got text"),
            (with("sizes", json!([0])), ".sizes[0]", "more than 0"),
            (with("sizes", json!([1, 2, 3])), ".sizes", "at most 2 items, got 3"),
            (with("sizes", json!([1, 1.0])), ".sizes[1]", "twice"),
            (with("maybe", json!(true)), ".maybe", "expected a whole number or null, got true or false"),
            (with("either", json!({"a": 7})), ".either.a", "expected text"),
            (with("pair", json!(["x", 1])), ".pair[1]", "expected true or false"),
            (with("pair", json!(["x", true, "secret"])), ".pair[2]", "not allowed"),
        ] {
            let (at, said) = refusal(&schema, &wrong).unwrap_or_default();
            assert_eq!(at, place, "{wrong}: {said}");
            assert!(said.contains(why) && !said.contains("secret"), "{wrong}: {said}");
        }
    }

    #[test]
    fn what_is_not_known_never_refuses_however_it_is_used() {
        let unknown = json!({"pattern": "^a"});
        for schema in [
            unknown.clone(),
            json!({"not": unknown}),
            json!({"oneOf": [unknown, {"type": "string"}]}),
            json!({"anyOf": [unknown, {"type": "null"}]}),
            json!({"not": {"anyOf": [unknown, {"type": "null"}]}}),
            json!({"if": unknown, "then": false, "else": {"type": "null"}}),
            json!({"patternProperties": {"^a": true}, "additionalProperties": false}),
        ] {
            assert_eq!(refusal(&schema, &json!("b")), None, "{schema}");
            assert_eq!(refusal(&schema, &json!({"b": 1})), None, "{schema}");
        }
        let certain = json!({"allOf": [unknown, {"not": {"type": "string"}}, {"type": "number"}]});
        assert!(refusal(&certain, &json!("b")).is_some(), "one part of it is certain");
        assert!(refusal(&json!({"oneOf": [{"minimum": 1}, {"type": "integer"}]}), &json!(2)).is_some(), "both fit");
    }

    #[test]
    fn a_schema_that_goes_on_for_ever_comes_to_an_end() {
        let twice = |of: &str| json!({"anyOf": [{"$ref": of}, {"$ref": of}]});
        let mut many = json!({"$ref": "#/$defs/n0", "$defs": {"n40": {"type": "null"}}});
        for n in 0..40 {
            many["$defs"][format!("n{n}")] = twice(&format!("#/$defs/n{}", n + 1));
        }
        for endless in [json!({"$ref": "#"}), json!({"not": {"$ref": "#"}}), twice("#"), many] {
            assert_eq!(refusal(&endless, &json!(7)), None);
        }
        let tree = json!({"type": "object", "properties": {"leaves": {"type": "array", "items": {"$ref": "#"}}}});
        assert_eq!(refusal(&tree, &json!({"leaves": [{"leaves": []}]})), None);
        let (place, _) = refusal(&tree, &json!({"leaves": [{}, {"leaves": 7}]})).expect("it does not fit");
        assert_eq!(place, ".leaves[1].leaves");
    }
}
