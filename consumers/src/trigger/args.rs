//! What the job of a trigger is told in its args: `{"$trigger": "instant"}`, the trigger's name, how the
//! latest instant that ended did; and of the item that it is for, `{"$item": "field"}`.
//!
//! Owns the words, and putting values in without touching numbers. Pure.

use serde_json::value::RawValue;
use spinor_executors::Json;

use crate::{
    next::inputs::{DEEPEST, Fields, quoted},
    results::Tick,
};

const MARK: &str = "$trigger";
const ITEM: &str = "$item";
const WORDS: [&str; 7] =
    ["name", "instant", "job", "previous", "previous.instant", "previous.outcome", "previous.value"];

/// An error when these args ask for what no trigger has, or for an item where there is none.
pub fn check(args: &Json, items: bool) -> Result<(), String> {
    let asks = std::cell::Cell::new(false);
    let of = |mark: &str, _: &str| {
        asks.set(asks.get() || mark == ITEM);
        "null".to_owned()
    };
    put(args.text(), 0, &of, &mut String::new())?;
    if asks.get() && !items {
        return Err(format!("`{{\"{ITEM}\": ..}}` is for a trigger with `each`"));
    }
    Ok(())
}

/// The args of the job of an instant.
pub fn fill(args: &Json, tick: &Tick, item: Option<&Json>) -> Result<Json, String> {
    if !mentions(args.text()) {
        return Ok(args.clone());
    }
    let of = |mark: &str, word: &str| {
        if mark == ITEM {
            return item.map_or_else(|| "null".to_owned(), |item| part(item.text(), word));
        }
        let previous = tick.previous.as_ref();
        let value = match word {
            "name" => Some(quoted(&tick.name)),
            "instant" => Some(quoted(&tick.instant.to_string())),
            "job" => Some(quoted(&tick.job.to_string())),
            "previous" => previous.and_then(|previous| serde_json::to_string(previous).ok()),
            "previous.instant" => previous.map(|previous| quoted(&previous.instant.to_string())),
            "previous.outcome" => previous.map(|previous| quoted(&previous.outcome)),
            _ => previous.and_then(|previous| previous.value.as_ref()).map(|value| value.text().to_owned()),
        };
        value.unwrap_or_else(|| "null".to_owned())
    };
    let mut text = String::with_capacity(args.bytes().len());
    put(args.text(), 0, &of, &mut text)?;
    Json::new(text).map_err(|error| error.to_string())
}

/// Do these args ask for something that an instant has?
pub fn has_words(args: &Json) -> bool {
    mentions(args.text())
}

fn mentions(text: &str) -> bool {
    text.contains("\"$trigger\"") || text.contains("\"$item\"")
}

/// Writes a node with what `of` says in the place of each word.
fn put(raw: &str, depth: usize, of: &dyn Fn(&str, &str) -> String, to: &mut String) -> Result<(), String> {
    let text = raw.trim_start();
    if depth > DEEPEST || !mentions(text) {
        to.push_str(raw);
        return Ok(());
    }
    let foreign = |error: serde_json::Error| error.to_string();
    let comma = |place: usize, to: &mut String| {
        if place > 0 {
            to.push(',');
        }
    };
    if text.starts_with('[') {
        to.push('[');
        for (place, item) in serde_json::from_str::<Vec<&RawValue>>(text).map_err(foreign)?.iter().enumerate() {
            comma(place, to);
            put(item.get(), depth + 1, of, to)?;
        }
        to.push(']');
    } else if text.starts_with('{') {
        let fields: Fields = serde_json::from_str(text).map_err(foreign)?;
        if let Some((_, word)) = fields.iter().find(|(name, _)| name == MARK) {
            to.push_str(&of(MARK, word_of(word, fields.iter().len())?));
            return Ok(());
        }
        if let Some((_, path)) = fields.iter().find(|(name, _)| name == ITEM) {
            let path = serde_json::from_str::<String>(path.get()).ok().filter(|path| !path.is_empty());
            let alone = path.filter(|_| fields.iter().len() == 1);
            let why =
                || format!("`{{\"{ITEM}\": ..}}` stands alone, with the path of a field (`a.b`) or `.` for the whole");
            to.push_str(&of(ITEM, &alone.ok_or_else(why)?));
            return Ok(());
        }
        to.push('{');
        for (place, (name, value)) in fields.iter().enumerate() {
            comma(place, to);
            to.push_str(&quoted(name));
            to.push(':');
            put(value.get(), depth + 1, of, to)?;
        }
        to.push('}');
    } else {
        // The text of a string that happens to hold the word.
        to.push_str(raw);
    }
    Ok(())
}

/// A part of an item by its path, as its text; `null` when it has none.
fn part(item: &str, path: &str) -> String {
    let mut text = item.to_owned();
    if path == "." {
        return text;
    }
    for name in path.split('.') {
        let fields = serde_json::from_str::<Fields>(&text).ok();
        let found = fields.as_ref().and_then(|fields| fields.iter().find(|(field, _)| field == name));
        let Some(found) = found.map(|(_, value)| value.get().to_owned()) else { return "null".to_owned() };
        text = found;
    }
    text
}

fn word_of(raw: &RawValue, fields: usize) -> Result<&'static str, String> {
    let word: String = serde_json::from_str(raw.get()).unwrap_or_default();
    let known = WORDS.into_iter().find(|known| *known == word).filter(|_| fields == 1);
    known.ok_or_else(|| format!("`{{\"{MARK}\": ..}}` stands alone, with one of {}", WORDS.join(", ")))
}

#[cfg(test)]
mod tests {
    use spinor_executors::Job;
    use uuid::Uuid;

    use super::*;
    use crate::{
        results::Previous,
        schedule::{Spec, Timing},
    };

    #[test]
    fn each_word_is_replaced_and_everything_else_keeps_its_text() {
        let args = r#"{"a": [1.50, {"$trigger": "instant"}], "b": {"$trigger": "previous.value"}, "c": {"$trigger": "previous"}, "d": "\"$trigger\""}"#;
        let spec = Spec::new(Timing::Every { ms: 1000 }, Job::new("noop", "default", Json::null()));
        let mut tick = Tick {
            schedule: Uuid::nil(),
            name: "t".to_owned(),
            instant: jiff::Timestamp::UNIX_EPOCH,
            time: None,
            job: Uuid::nil(),
            spec,
            previous: None,
        };
        let args = Json::new(args).unwrap();
        let filled = fill(&args, &tick, None).unwrap();
        let rest = r#","d":"\"$trigger\""}"#;
        assert_eq!(filled.text(), format!(r#"{{"a":[1.50,"1970-01-01T00:00:00Z"],"b":null,"c":null{rest}"#));
        let value = Some(Json::new("12345678901234567890123").unwrap());
        let instant = jiff::Timestamp::UNIX_EPOCH;
        tick.previous = Some(Previous { instant, outcome: "succeeded".to_owned(), value });
        let previous = r#"{"instant":"1970-01-01T00:00:00Z","outcome":"succeeded","value":12345678901234567890123}"#;
        let expected =
            format!(r#"{{"a":[1.50,"1970-01-01T00:00:00Z"],"b":12345678901234567890123,"c":{previous}{rest}"#);
        assert_eq!(fill(&args, &tick, None).unwrap().text(), expected);
        let why = check(&Json::new(r#"[{"$trigger": "tomorrow"}]"#).unwrap(), false).unwrap_err();
        assert!(why.contains("previous.value"), "{why}");
        let args =
            Json::new(r#"{"a": {"$item": "."}, "b": [{"$item": "host.name"}, {"$item": "x"}, {"$trigger": "name"}]}"#);
        let (args, item) = (args.unwrap(), Json::new(r#"{"host": {"name": {"$trigger": "job"}}}"#).unwrap());
        let filled = fill(&args, &tick, Some(&item)).unwrap();
        let host = r#"{"$trigger": "job"}"#;
        assert_eq!(filled.text(), format!(r#"{{"a":{{"host": {{"name": {host}}}}},"b":[{host},null,"t"]}}"#));
        assert!(check(&args, false).unwrap_err().contains("`each`") && check(&args, true).is_ok());
    }
}
