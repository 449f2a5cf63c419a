//! What the job of a trigger is told in its args: `{"$trigger": "instant"}`, the trigger's name, how the
//! latest instant that ended did.
//!
//! Owns the words, and putting values in without touching numbers. Pure.

use serde_json::value::RawValue;
use spinor_executors::Json;

use crate::{
    next::inputs::{DEEPEST, Fields, quoted},
    results::Tick,
};

const MARK: &str = "$trigger";
const WORDS: [&str; 7] =
    ["name", "instant", "job", "previous", "previous.instant", "previous.outcome", "previous.value"];

/// An error when these args ask for what no trigger has.
pub fn check(args: &Json) -> Result<(), String> {
    put(args.text(), 0, &|_| "null".to_owned(), &mut String::new())
}

/// The args of the job of an instant.
pub fn fill(args: &Json, tick: &Tick) -> Result<Json, String> {
    if !mentions(args.text()) {
        return Ok(args.clone());
    }
    let of = |word: &str| {
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

fn mentions(text: &str) -> bool {
    text.contains("\"$trigger\"")
}

/// Writes a node with what `of` says in the place of each word.
fn put(raw: &str, depth: usize, of: &dyn Fn(&str) -> String, to: &mut String) -> Result<(), String> {
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
            to.push_str(&of(word_of(word, fields.iter().len())?));
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
        let filled = fill(&args, &tick).unwrap();
        let rest = r#","d":"\"$trigger\""}"#;
        assert_eq!(filled.text(), format!(r#"{{"a":[1.50,"1970-01-01T00:00:00Z"],"b":null,"c":null{rest}"#));
        let value = Some(Json::new("12345678901234567890123").unwrap());
        let instant = jiff::Timestamp::UNIX_EPOCH;
        tick.previous = Some(Previous { instant, outcome: "succeeded".to_owned(), value });
        let previous = r#"{"instant":"1970-01-01T00:00:00Z","outcome":"succeeded","value":12345678901234567890123}"#;
        let expected =
            format!(r#"{{"a":[1.50,"1970-01-01T00:00:00Z"],"b":12345678901234567890123,"c":{previous}{rest}"#);
        assert_eq!(fill(&args, &tick).unwrap().text(), expected);
        let why = check(&Json::new(r#"[{"$trigger": "tomorrow"}]"#).unwrap()).unwrap_err();
        assert!(why.contains("previous.value"), "{why}");
    }
}
