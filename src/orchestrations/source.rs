//! YAML text as a tree in which every node knows its place.
//!
//! Owns reading the parser's events, anchors and aliases with a bound, and what YAML allows and an
//! orchestration has no use for: further documents, keys that are no text, own tags. A scalar
//! stays the text that was written; what it means is decided by who asks. Refuses to know the
//! format.

use std::collections::HashMap;

use serde_saphyr::granit_parser::{ErrorKind, Event, Marker, Parser, ScalarStyle, ScanError, Span, Tag};

use super::{
    problem::{Place, Problems},
    run_text::truth,
};

/// Deeper than any orchestration.
const DEEPEST: usize = 16;
/// More nodes than any plan could carry; aliases of aliases end here.
const MOST_NODES: usize = 1_000_000;

/// A node and where it stands.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where.
    pub place: Place,
    /// What.
    pub value: Value,
}

/// What a node is.
#[derive(Clone, Debug)]
pub enum Value {
    /// A scalar: its text, and whether it was written plain, without quotes or block.
    Scalar(String, bool),
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the order written; no key comes twice.
    Map(Vec<Entry>),
}

/// A key with its value.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub place: Place,
    /// The value.
    pub value: Node,
}

impl Node {
    /// Is it nothing, or a plain `null` or `~`?
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(text, true) if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// Its text, when it is a scalar and not null.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(text, _) if !self.is_null() => Some(text),
            _ => None,
        }
    }

    /// What it is, for a complaint.
    pub fn found(&self) -> String {
        match &self.value {
            _ if self.is_null() => "nothing".to_owned(),
            Value::Scalar(text, _) => {
                let line = text.lines().next().unwrap_or_default();
                let short: String = line.chars().take(40).collect();
                let cut = if short.len() < text.trim_end().len() { "…" } else { "" };
                format!("`{short}{cut}`")
            }
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a mapping".to_owned(),
        }
    }

    /// A plain scalar that every reader of YAML takes for a number or a truth value: which.
    pub fn is_no_text(&self) -> Option<&'static str> {
        let Value::Scalar(text, true) = &self.value else { return None };
        if truth(text).is_some() {
            return Some("truth value");
        }
        let digits = text.trim_start_matches(['+', '-']);
        let based = |prefix: &str, base| {
            digits.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty() && rest.chars().all(|c| c.is_digit(base)))
        };
        let number = text.len() - digits.len() <= 1
            && (based("0x", 16)
                || based("0o", 8)
                || matches!(digits.to_ascii_lowercase().as_str(), ".inf" | ".nan")
                || (digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') && digits.parse::<f64>().is_ok()));
        number.then_some("number")
    }

    fn size(&self) -> usize {
        1 + match &self.value {
            Value::Scalar(..) => 0,
            Value::List(nodes) => nodes.iter().map(Self::size).sum(),
            Value::Map(entries) => entries.iter().map(|entry| entry.value.size()).sum(),
        }
    }
}

/// Reads the one document of a text. `None` for an empty one, and when the text is no YAML: then
/// the problem is told.
pub fn read(text: &str, problems: &mut Problems) -> Option<Node> {
    let events = Parser::new_from_str(text);
    let mut reader = Reader { events, problems, anchors: HashMap::new(), nodes: 0, reached: 0 };
    match reader.document() {
        Ok(node) => node,
        Err(Stop::NoYaml(error)) => {
            let (place, what) = complaint(text, reader.reached, &error);
            reader.problems.at(place, what);
            None
        }
        Err(Stop::Told) => None,
    }
}

/// Why reading ends early.
enum Stop {
    NoYaml(ScanError),
    Told,
}

impl From<ScanError> for Stop {
    fn from(error: ScanError) -> Self {
        Self::NoYaml(error)
    }
}

struct Reader<'a, 'p, I: Iterator<Item = Result<(Event<'a>, Span), ScanError>>> {
    events: I,
    problems: &'p mut Problems,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    /// In characters: what lies before was read.
    reached: usize,
}

impl<'a, I: Iterator<Item = Result<(Event<'a>, Span), ScanError>>> Reader<'a, '_, I> {
    fn document(&mut self) -> Result<Option<Node>, Stop> {
        let mut first = None;
        let mut documents = 0;
        while let Some(next) = self.events.next() {
            match next? {
                (Event::DocumentStart(..), span) => {
                    documents += 1;
                    if documents == 2 {
                        self.problems.at(place(&span.start), "found a second document, expected one list in the file");
                        return Err(Stop::Told);
                    }
                }
                (event, span) if event.is_node() => {
                    self.reached = span.end.index();
                    first = Some(self.node(event, span, 0)?);
                }
                _ => {}
            }
        }
        Ok(first.filter(|node| !node.is_null()))
    }

    /// The next event that belongs to the tree.
    fn next(&mut self) -> Result<(Event<'a>, Span), Stop> {
        loop {
            match self.events.next() {
                Some(next) => {
                    let (event, span) = next?;
                    self.reached = span.end.index();
                    if event.is_node() || matches!(event, Event::SequenceEnd | Event::MappingEnd) {
                        return Ok((event, span));
                    }
                }
                // The parser ends a text that breaks off by an error of its own.
                None => return Err(Stop::Told),
            }
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Stop> {
        let place = place(&span.start);
        self.nodes += 1;
        if depth > DEEPEST || self.nodes > MOST_NODES {
            let what = if depth > DEEPEST { "nested too deeply" } else { "too many nodes (aliases of aliases?)" };
            self.problems.at(place, what);
            return Err(Stop::Told);
        }
        let (anchor, value) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.tag(place, tag.as_deref());
                (anchor, Value::Scalar(text.into_owned(), style == ScalarStyle::Plain))
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.tag(place, tag.as_deref());
                (anchor, Value::List(self.list(depth)?))
            }
            Event::MappingStart(_, anchor, tag) => {
                self.tag(place, tag.as_deref());
                (anchor, Value::Map(self.map(depth)?))
            }
            Event::Alias(anchor) => return self.alias(place, anchor),
            _ => (0, Value::Scalar(String::new(), true)),
        };
        let node = Node { place, value };
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, Stop> {
        let mut nodes = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(nodes),
                (event, span) => nodes.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Vec<Entry>, Stop> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                return Ok(entries);
            }
            let key = self.node(event, span, depth + 1)?;
            let (event, span) = self.next()?;
            let value = self.node(event, span, depth + 1)?;
            let place = key.place;
            let found = key.found();
            let Value::Scalar(key, _) = key.value else {
                self.problems.at(place, format!("found {found} as a key, expected a word"));
                continue;
            };
            if let Some(first) = entries.iter().find(|entry| entry.key == key) {
                let what = format!("key `{key}` is given twice, first in line {}", first.place.line);
                self.problems.at(place, what);
            } else {
                entries.push(Entry { key, place, value });
            }
        }
    }

    /// The anchored node once more, where it was defined; bounded by the number of nodes in all.
    fn alias(&mut self, place: Place, anchor: usize) -> Result<Node, Stop> {
        let Some(node) = self.anchors.get(&anchor) else {
            self.problems.at(place, "an alias of a node that is not complete here");
            return Err(Stop::Told);
        };
        self.nodes += node.size();
        if self.nodes > MOST_NODES {
            self.problems.at(place, "too many nodes (aliases of aliases?)");
            return Err(Stop::Told);
        }
        Ok(node.clone())
    }

    fn tag(&mut self, place: Place, tag: Option<&Tag>) {
        if let Some(tag) = tag.filter(|tag| !tag.is_yaml_core_schema()) {
            self.problems.at(place, format!("found tag `{}`, expected none", tag.original()));
        }
    }
}

/// What is said of a text that is no YAML. The parser tells where it gave up; people look for where
/// it began.
fn complaint(text: &str, reached: usize, error: &ScanError) -> (Place, String) {
    let gave_up = place(error.marker());
    let what = match error.kind() {
        ErrorKind::UnclosedQuotedScalar => "the quote that opens here is never closed".to_owned(),
        ErrorKind::InvalidQuotedScalarIndent => {
            let what = format!("the quote that opens here is not closed before line {}", gave_up.line);
            return (opening_quote(text, reached).unwrap_or(gave_up), what);
        }
        ErrorKind::MappingValueNotAllowed => {
            "found a colon and a blank inside plain text, expected the text in quotes, or in the next line after `|`"
                .to_owned()
        }
        _ => error.info(),
    };
    (gave_up, what)
}

/// The first quote after what was read that begins a scalar.
fn opening_quote(text: &str, reached: usize) -> Option<Place> {
    let (mut line, mut column, mut before, mut comment) = (1, 1, '\n', false);
    for (index, letter) in text.chars().enumerate() {
        comment = (comment || (letter == '#' && before.is_whitespace())) && letter != '\n';
        let begins = before.is_whitespace() || matches!(before, '[' | '{' | ',');
        if index >= reached && matches!(letter, '"' | '\'') && begins && !comment {
            return Some(Place { line, column });
        }
        (line, column) = if letter == '\n' { (line + 1, 1) } else { (line, column + 1) };
        before = letter;
    }
    None
}

fn place(marker: &Marker) -> Place {
    Place { line: marker.line(), column: marker.col() + 1 }
}

#[cfg(test)]
mod tests {
    use super::{Node, Value, read};
    use crate::orchestrations::problem::Problems;

    fn tree(text: &str) -> (Option<Node>, String) {
        let mut problems = Problems::of("f");
        let node = read(text, &mut problems);
        (node, problems.to_string())
    }

    #[test]
    fn every_node_knows_its_place_and_a_block_keeps_its_text() {
        let (node, problems) = tree("- RUN: |\n    a  b\n\n      c\n  name: \"x\"\n");
        assert_eq!(problems, "");
        let Some(Node { value: Value::List(items), .. }) = node else { panic!("no list") };
        let Value::Map(entries) = &items[0].value else { panic!("no mapping") };
        assert_eq!((entries[0].place.line, entries[0].place.column), (1, 3));
        assert_eq!(entries[0].value.text(), Some("a  b\n\n  c\n"));
        assert_eq!((entries[1].value.place.line, entries[1].value.place.column), (5, 9));
    }

    #[test]
    fn a_number_and_a_truth_value_are_no_text_unless_they_are_quoted() {
        let what = |text: &str| tree(text).0.and_then(|node| node.is_no_text());
        for text in ["5", "-5", "+1.5", "1e3", ".5", "010", "0x1F", "0o17", "-.inf", ".NaN"] {
            assert_eq!(what(text), Some("number"), "{text}");
        }
        for text in ["true", "False", "yes", "OFF"] {
            assert_eq!(what(text), Some("truth value"), "{text}");
        }
        for text in ["'5'", "\"true\"", "|\n  5", "5 apples", "inf", "nan", "--5", "0x", "1.2.3", "true;", "e3"] {
            assert_eq!(what(text), None, "{text}");
        }
    }

    #[test]
    fn an_alias_repeats_its_anchor_and_a_laugh_is_ended() {
        let (node, problems) = tree("- &t [a, b]\n- *t\n");
        assert_eq!(problems, "");
        assert!(matches!(node, Some(Node { value: Value::List(items), .. }) if items[1].size() == 3));
        let mut laugh = "- &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..10 {
            let line = vec![format!("*a{}", level - 1); 10].join(", ");
            laugh.push_str(&format!("- &a{level} [{line}]\n"));
        }
        let (node, problems) = tree(&laugh);
        assert!(node.is_none() && problems.contains("too many nodes"), "{problems}");
    }

    #[test]
    fn what_yaml_allows_and_we_do_not_is_told_with_its_place() {
        for (text, told) in [
            ("a: 1\na: 2\n", "f:2:1: key `a` is given twice, first in line 1"),
            ("--- a\n--- b\n", "f:2:1: found a second document, expected one list in the file"),
            ("- !mine x\n", "f:1:"),
            ("[a]: b\n", "f:1:1: found a list as a key, expected a word"),
            ("- a: [1,\n", "f:"),
            ("- a: \"x\n", "f:1:6: the quote that opens here is not closed before line 2"),
            (
                "- \"a\": it's # \" '\n  b: 'it\n  c: 'd'\n",
                "f:2:6: the quote that opens here is not closed before line 3",
            ),
            ("[\"a\", \"b", "f:1:7: the quote that opens here is never closed"),
            ("- a: echo \"b: c\"\n", "f:1:13: found a colon and a blank inside plain text"),
        ] {
            let (_, problems) = tree(text);
            assert!(problems.starts_with(told), "{text:?} gave {problems:?}");
        }
        let nested = format!("{}{}", "[".repeat(50), "]".repeat(50));
        assert!(tree(&nested).1.contains("nested too deeply"));
    }
}
