//! The paths that a Rust source names, by reading its words: `use` trees written out, and inline paths.
//!
//! Not a parser of Rust: comments and literals are taken out, what is left is cut into words, and a
//! path is words with `::` between them. Enough to see a crate named, whatever the formatting.

/// All paths that the source names; `use a::{b, c::d as e}` is `a::b` and `a::c::d`.
pub fn named(source: &str) -> Vec<String> {
    let words = words(&without_text(source));
    let mut paths = Vec::new();
    let mut at = 0;
    while at < words.len() {
        match words[at].as_str() {
            // `use<>` says what a type captures.
            "use" if words.get(at + 1).is_none_or(|word| word != "<") => at = tree(&words, at + 1, "", &mut paths),
            "extern" if words.get(at + 1).is_some_and(|word| word == "crate") => {
                paths.extend(words.get(at + 2).cloned());
                at += 3;
            }
            word if is_name(word) => {
                let mut path = word.to_owned();
                while words.get(at + 1).is_some_and(|word| word == "::")
                    && words.get(at + 2).is_some_and(|word| is_name(word))
                {
                    path = join(&path, &words[at + 2]);
                    at += 2;
                }
                if path.contains("::") {
                    paths.push(path);
                }
                at += 1;
            }
            _ => at += 1,
        }
    }
    paths
}

/// Writes out the use tree at `at` below `prefix`, and returns where it ends.
fn tree(words: &[String], mut at: usize, prefix: &str, paths: &mut Vec<String>) -> usize {
    let mut path = prefix.to_owned();
    while let Some(word) = words.get(at) {
        match word.as_str() {
            "{" => {
                at += 1;
                while words.get(at).is_some_and(|word| word != "}" && word != ";") {
                    at = tree(words, at, &path, paths);
                    at += usize::from(words.get(at).is_some_and(|word| word == ","));
                }
                return at + 1;
            }
            "," | ";" | "}" => break,
            "as" => at += 1,
            word if is_name(word) => path = join(&path, word),
            _ => {}
        }
        at += 1;
    }
    paths.push(path);
    at
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}::{name}") }
}

fn is_name(word: &str) -> bool {
    word.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

fn words(code: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut name = String::new();
    let mut characters = code.chars().peekable();
    while let Some(character) = characters.next() {
        if character.is_alphanumeric() || character == '_' {
            name.push(character);
            continue;
        }
        if !name.is_empty() {
            words.push(std::mem::take(&mut name));
        }
        if character == ':' && characters.next_if_eq(&':').is_some() {
            words.push("::".into());
        } else if !character.is_whitespace() {
            words.push(character.into());
        }
    }
    words.push(name);
    words
}

/// The source without comments, strings and characters.
fn without_text(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let skipped = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            '"' => string_end(rest),
            'r' if !code.ends_with(|before: char| before.is_alphanumeric() || before == '_') => raw_string_end(rest),
            '\'' => character_end(rest),
            _ => 0,
        };
        if skipped == 0 {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            code.push(' ');
            rest = &rest[skipped..];
        }
    }
    code
}

fn string_end(text: &str) -> usize {
    let mut escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// 0 when it is no raw string.
fn raw_string_end(text: &str) -> usize {
    let hashes = text[1..].chars().take_while(|&character| character == '#').count();
    if !text[1 + hashes..].starts_with('"') {
        return 0;
    }
    let close = format!("\"{}", "#".repeat(hashes));
    let start = hashes + 2;
    text[start..].find(&close).map_or(text.len(), |end| start + end + close.len())
}

/// 0 when it is a lifetime.
fn character_end(text: &str) -> usize {
    let mut characters = text.char_indices().skip(1);
    match characters.next() {
        Some((_, '\\')) => text[3..].find('\'').map_or(0, |end| end + 4),
        Some((at, character)) if text[at + character.len_utf8()..].starts_with('\'') => at + character.len_utf8() + 1,
        _ => 0,
    }
}

#[test]
fn a_use_tree_is_written_out() {
    let found = named("pub(crate) use a::{self, b, c::{d as e, f::*}};\nuse x as y;");
    assert_eq!(found, ["a::self", "a::b", "a::c::d", "a::c::f", "x"]);
}

#[test]
fn what_a_type_captures_is_no_use_and_an_open_tree_ends() {
    assert_eq!(named("fn f() -> (A, impl B + use<>) { c::d() }"), ["c::d"]);
    assert_eq!(named("use a::{b; c::d"), ["a::b", "c::d"]);
}

#[test]
fn inline_paths_are_found_and_text_is_not() {
    let source = r##"
        // one::comment
        /* two::comment */
        fn f<'a>(x: &'a sqlx::Pool) -> Vec<b::C> { g("three::string", r#"four::"raw""#, '"', '\'', five::six()) }
    "##;
    assert_eq!(named(source), ["sqlx::Pool", "b::C", "five::six"]);
}
