//! What a member gets from the others: `{"$from": NAME}` in its args is the value of a member, `{"$state":
//! NAME}` how it ended; a list of names makes a list, `"*"` an object of all.
//!
//! Owns the form, and putting values in without touching another byte of the args. A value that lies in
//! the blob store stays there: its place in an [`Envelope`] names it, and who runs the job puts it in.
//! Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use bytes::Bytes;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;
use spinor_executors::{BlobRef, Json, State};
use uuid::Uuid;

/// Deeper in the args nothing is looked for.
pub(crate) const DEEPEST: usize = 64;

/// How a member ended, and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// Its job: what is large belongs to it.
    pub job: Uuid,
    /// The word of its state.
    pub state: String,
    /// Its value.
    pub value: Option<Json>,
    /// Where that lies.
    pub value_ref: Option<BlobRef>,
    /// Why it did not succeed.
    pub error: Option<String>,
}

/// Which members some args ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// These.
    pub names: BTreeSet<String>,
    /// All there are.
    pub all: bool,
}

/// Args, and what of them lies in the blob store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// The args, with `null` where values belong.
    pub args: Json,
    /// The values.
    pub inputs: Vec<Input>,
}

/// A value in the blob store and its place in the args.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Input {
    /// A JSON pointer.
    pub at: String,
    /// The job it belongs to.
    pub job: Uuid,
    /// The value.
    pub blob: BlobRef,
}

/// What stands for a value.
enum Ask {
    One(String),
    Many(Vec<String>),
    All,
}

/// Which members these args ask for; an error when the form is wrong.
pub fn asked(args: &Json) -> Result<Asked, String> {
    let mut asked = Asked::default();
    if mentions(args.text()) {
        look(args.text(), 0, &mut asked)?;
    }
    Ok(asked)
}

/// The args with what is known of the members in them.
pub fn fill(args: &Json, known: &BTreeMap<String, Known>) -> Result<Envelope, String> {
    if !mentions(args.text()) {
        return Ok(Envelope { args: args.clone(), inputs: Vec::new() });
    }
    let mut filling = Filling { known, text: String::with_capacity(args.bytes().len()), inputs: Vec::new() };
    filling.node(args.text(), &mut String::new(), 0)?;
    filling.done()
}

/// What a completion without args of its own gets: the run, whether all went well, and how each ended.
pub fn summary(run: Uuid, succeeded: bool, known: &BTreeMap<String, Known>) -> Result<Envelope, String> {
    let mut filling = Filling { known, text: String::new(), inputs: Vec::new() };
    filling.text.push_str(&format!("{{\"run\":\"{run}\",\"succeeded\":{succeeded},\"members\":{{"));
    for (place, (name, member)) in known.iter().enumerate() {
        let comma = if place == 0 { "" } else { "," };
        filling.text.push_str(&format!("{comma}{}:{{\"state\":{}", quoted(name), quoted(&member.state)));
        if let Some(error) = &member.error {
            filling.text.push_str(&format!(",\"error\":{}", quoted(error)));
        }
        if member.state == State::Succeeded.word() {
            filling.text.push_str(",\"value\":");
            filling.value(member, &format!("/members/{}/value", escaped(name)));
        }
        filling.text.push('}');
    }
    filling.text.push_str("}}");
    filling.done()
}

/// The args of an envelope, with the values, by place, in them.
pub fn open(envelope: &Envelope, values: &BTreeMap<String, Bytes>) -> Result<Json, String> {
    let mut text = String::with_capacity(envelope.args.bytes().len());
    put_in(envelope.args.text(), "", values, &mut text)?;
    Json::new(text).map_err(|error| error.to_string())
}

fn mentions(text: &str) -> bool {
    text.contains("\"$from\"") || text.contains("\"$state\"")
}

struct Filling<'a> {
    known: &'a BTreeMap<String, Known>,
    text: String,
    inputs: Vec<Input>,
}

impl Filling<'_> {
    fn node(&mut self, raw: &str, at: &mut String, depth: usize) -> Result<(), String> {
        if depth > DEEPEST || !mentions(raw) {
            self.text.push_str(raw);
            return Ok(());
        }
        match Shape::of(raw)? {
            Shape::Other => self.text.push_str(raw),
            Shape::Ask(is_state, ask) => self.answer(is_state, &ask, at)?,
            Shape::List(items) => {
                self.text.push('[');
                for (place, item) in items.iter().enumerate() {
                    self.comma(place);
                    within(at, &place.to_string(), |at| self.node(item.get(), at, depth + 1))?;
                }
                self.text.push(']');
            }
            Shape::Map(fields) => {
                self.text.push('{');
                for (place, (name, value)) in fields.iter().enumerate() {
                    self.comma(place);
                    self.text.push_str(&quoted(name));
                    self.text.push(':');
                    within(at, name, |at| self.node(value.get(), at, depth + 1))?;
                }
                self.text.push('}');
            }
        }
        Ok(())
    }

    fn answer(&mut self, is_state: bool, ask: &Ask, at: &str) -> Result<(), String> {
        let known = self.known;
        let of = |name: &String| known.get(name).ok_or_else(|| format!("there is no member `{name}`"));
        match ask {
            Ask::One(name) => self.one(is_state, of(name)?, at),
            Ask::Many(names) => {
                self.text.push('[');
                for (place, name) in names.iter().enumerate() {
                    self.comma(place);
                    self.one(is_state, of(name)?, &format!("{at}/{place}"));
                }
                self.text.push(']');
            }
            Ask::All => {
                self.text.push('{');
                for (place, (name, member)) in known.iter().enumerate() {
                    self.comma(place);
                    self.text.push_str(&quoted(name));
                    self.text.push(':');
                    self.one(is_state, member, &format!("{at}/{}", escaped(name)));
                }
                self.text.push('}');
            }
        }
        Ok(())
    }

    fn one(&mut self, is_state: bool, member: &Known, at: &str) {
        if is_state {
            self.text.push_str(&quoted(&member.state));
        } else {
            self.value(member, at);
        }
    }

    fn value(&mut self, member: &Known, at: &str) {
        if let Some(blob) = member.value_ref {
            self.inputs.push(Input { at: at.to_owned(), job: member.job, blob });
        }
        self.text.push_str(member.value.as_ref().map_or("null", |value| value.text()));
    }

    fn comma(&mut self, place: usize) {
        if place > 0 {
            self.text.push(',');
        }
    }

    fn done(self) -> Result<Envelope, String> {
        let args = Json::new(self.text).map_err(|error| error.to_string())?;
        Ok(Envelope { args, inputs: self.inputs })
    }
}

fn look(raw: &str, depth: usize, asked: &mut Asked) -> Result<(), String> {
    if depth > DEEPEST || !mentions(raw) {
        return Ok(());
    }
    match Shape::of(raw)? {
        Shape::Other => {}
        Shape::Ask(_, Ask::One(name)) => _ = asked.names.insert(name),
        Shape::Ask(_, Ask::Many(names)) => asked.names.extend(names),
        Shape::Ask(_, Ask::All) => asked.all = true,
        Shape::List(items) => {
            for item in items {
                look(item.get(), depth + 1, asked)?;
            }
        }
        Shape::Map(fields) => {
            for (_, value) in fields.0 {
                look(value.get(), depth + 1, asked)?;
            }
        }
    }
    Ok(())
}

fn put_in(raw: &str, at: &str, values: &BTreeMap<String, Bytes>, into: &mut String) -> Result<(), String> {
    if let Some(value) = values.get(at) {
        into.push_str(std::str::from_utf8(value).map_err(|error| error.to_string())?);
        return Ok(());
    }
    let below = format!("{at}/");
    if values.range(below.clone()..).next().is_none_or(|(place, _)| !place.starts_with(&below)) {
        into.push_str(raw);
        return Ok(());
    }
    match raw.trim_start().as_bytes().first() {
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(raw).map_err(|error| error.to_string())?;
            into.push('[');
            for (place, item) in items.iter().enumerate() {
                into.push_str(if place == 0 { "" } else { "," });
                put_in(item.get(), &format!("{below}{place}"), values, into)?;
            }
            into.push(']');
        }
        _ => {
            let fields: Fields = serde_json::from_str(raw).map_err(|error| error.to_string())?;
            into.push('{');
            for (place, (name, value)) in fields.iter().enumerate() {
                into.push_str(if place == 0 { "" } else { "," });
                into.push_str(&quoted(name));
                into.push(':');
                put_in(value.get(), &format!("{below}{}", escaped(name)), values, into)?;
            }
            into.push('}');
        }
    }
    Ok(())
}

/// One level of the args.
enum Shape<'a> {
    Ask(bool, Ask),
    List(Vec<&'a RawValue>),
    Map(Fields<'a>),
    Other,
}

impl<'a> Shape<'a> {
    fn of(raw: &'a str) -> Result<Self, String> {
        let wrong = |error: serde_json::Error| error.to_string();
        match raw.trim_start().as_bytes().first() {
            Some(b'[') => serde_json::from_str(raw).map(Self::List).map_err(wrong),
            Some(b'{') => {
                let fields: Fields = serde_json::from_str(raw).map_err(wrong)?;
                match fields.0.as_slice() {
                    [(name, value)] if name == "$from" || name == "$state" => {
                        let is_state = name == "$state";
                        ask(value).map(|ask| Self::Ask(is_state, ask)).ok_or_else(|| {
                            format!("`{name}`: expected the name of a member, a list of names, or \"*\"")
                        })
                    }
                    _ => Ok(Self::Map(fields)),
                }
            }
            _ => Ok(Self::Other),
        }
    }
}

fn ask(value: &RawValue) -> Option<Ask> {
    if let Ok(name) = serde_json::from_str::<String>(value.get()) {
        return Some(if name == "*" { Ask::All } else { Ask::One(name) });
    }
    serde_json::from_str(value.get()).ok().map(Ask::Many)
}

/// The fields of an object in the order they came, each value as its text.
pub(crate) struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Fields<'a> {
    /// Each with its name.
    pub(crate) fn iter(&self) -> std::slice::Iter<'_, (String, &'a RawValue)> {
        self.0.iter()
    }
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;

            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    fields.push(entry);
                }
                Ok(Fields(fields))
            }
        }
        from.deserialize_map(Object)
    }
}

/// With one more word in the pointer.
fn within<T>(at: &mut String, word: &str, work: impl FnOnce(&mut String) -> T) -> T {
    let length = at.len();
    at.push('/');
    at.push_str(&escaped(word));
    let done = work(at);
    at.truncate(length);
    done
}

fn escaped(word: &str) -> String {
    word.replace('~', "~0").replace('/', "~1")
}

/// A text as JSON. Serialising text cannot fail.
pub(crate) fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use spinor_executors::Sha256;

    use super::*;

    fn json(text: &str) -> Json {
        Json::new(text.to_owned()).unwrap()
    }

    fn known() -> BTreeMap<String, Known> {
        let of = |value: Option<&str>, blob: Option<u8>| Known {
            job: Uuid::nil(),
            state: "succeeded".into(),
            value: value.map(json),
            value_ref: blob.map(|byte| BlobRef { sha256: Sha256([byte; 32]), size: 9 }),
            error: None,
        };
        let failed = Known { state: "failed".into(), error: Some("no \"luck\"".into()), ..of(None, None) };
        [("a", of(Some("1.50"), None)), ("b/c", of(None, Some(7))), ("x", failed)]
            .map(|(name, known)| (name.to_owned(), known))
            .into()
    }

    #[test]
    fn values_are_put_in_and_no_other_byte_is_touched() {
        let args =
            json(r#"{"n": 12345678901234567890123,"in":[ {"$from":"a"} , {"$state": "x"}],"z": {"$from":"a","b":1}}"#);
        let filled = fill(&args, &known()).unwrap();
        let expected = r#"{"n":12345678901234567890123,"in":[1.50,"failed"],"z":{"$from":"a","b":1}}"#;
        assert_eq!((filled.args.text(), filled.inputs.len()), (expected, 0));
        let plain = json(r#"{ "a" :  1e2 }"#);
        assert_eq!(fill(&plain, &known()).unwrap().args, plain);
    }

    #[test]
    fn a_value_in_the_blob_store_is_named_by_its_place_and_put_in_later() {
        let args = json(r#"{"all":{"$from":"*"},"some":[[{"$from":["b/c","a"]}]]}"#);
        let envelope = fill(&args, &known()).unwrap();
        let places: Vec<&str> = envelope.inputs.iter().map(|input| input.at.as_str()).collect();
        assert_eq!(places, ["/all/b~1c", "/some/0/0/0"]);
        let values = places.iter().map(|at| ((*at).to_owned(), Bytes::from_static(b"{\"large\":true}"))).collect();
        let opened = open(&envelope, &values).unwrap();
        let expected = r#"{"all":{"a":1.50,"b/c":{"large":true},"x":null},"some":[[[{"large":true},1.50]]]}"#;
        assert_eq!(opened.text(), expected);
        let whole = fill(&json(r#"{"$from":"b/c"}"#), &known()).unwrap();
        let values = [(String::new(), Bytes::from_static(b"[3]"))].into();
        assert_eq!(open(&whole, &values).unwrap().text(), "[3]");
    }

    #[test]
    fn a_completion_without_args_gets_how_each_member_ended() {
        let summary = summary(Uuid::nil(), false, &known()).unwrap();
        let value: serde_json::Value = summary.args.read().unwrap();
        assert_eq!(value["members"]["a"], serde_json::json!({"state": "succeeded", "value": 1.5}));
        assert_eq!(value["members"]["x"], serde_json::json!({"state": "failed", "error": "no \"luck\""}));
        assert_eq!(summary.inputs[0].at, "/members/b~1c/value");
    }

    #[test]
    fn what_is_asked_for_is_told_and_a_wrong_form_is_refused() {
        let found = asked(&json(r#"[{"$from":"a"},{"x":{"$state":["b","c"]}},{"$from":"*"}]"#)).unwrap();
        assert_eq!((found.names.into_iter().collect::<Vec<_>>().join(","), found.all), ("a,b,c".to_owned(), true));
        assert!(asked(&json(r#"{"a":{"$from":7}}"#)).is_err_and(|why| why.contains("$from")));
        assert!(fill(&json(r#"{"$from":"nobody"}"#), &known()).is_err_and(|why| why.contains("nobody")));
    }
}
