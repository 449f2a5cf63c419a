//! What groups failures: kind and error, with numbers, ids and paths taken out.
//!
//! Pure. The same failure on another day, host or file has the same fingerprint; it is stored with
//! the row, so a change of these rules parts old failures from new ones.

use uuid::Uuid;

/// Characters that end a word and are none of it.
const BETWEEN: &str = "\"'`()[]{}<>,;=|";
/// So long a word of letters and digits is an id, whatever it says.
const OPAQUE: usize = 20;
/// So many hexadecimal digits are an id, if a digit is among them.
const HEX: usize = 8;

/// Sixteen hexadecimal digits for a kind and the first line of an error.
pub fn fingerprint(kind: &str, error: &str) -> String {
    let line = error.lines().next().unwrap_or_default();
    let text = format!("{kind}\n{}", pattern(line));
    let mut digits = Uuid::new_v5(&Uuid::NAMESPACE_OID, text.as_bytes()).simple().to_string();
    digits.truncate(16);
    digits
}

/// The line with what changes from time to time taken out.
fn pattern(line: &str) -> String {
    let mut into = String::with_capacity(line.len());
    let mut word = String::new();
    for c in line.chars() {
        if c.is_whitespace() || BETWEEN.contains(c) {
            take(&mut word, &mut into);
            match c {
                c if !c.is_whitespace() => into.push(c),
                _ if into.ends_with(' ') => {}
                _ => into.push(' '),
            }
        } else {
            word.push(c);
        }
    }
    take(&mut word, &mut into);
    into.truncate(into.trim_end().len());
    into
}

/// Adds a word as what it stands for, and empties it.
fn take(word: &mut String, into: &mut String) {
    let core = word.trim_end_matches(['.', ':', '!', '?']);
    if is_path(core) {
        into.push_str("<path>");
    } else if is_id(core) {
        into.push_str("<id>");
    } else {
        without_numbers(core, into);
    }
    into.push_str(&word[core.len()..]);
    word.clear();
}

fn is_path(word: &str) -> bool {
    let starts = ["/", "./", "../", "~/"].iter().any(|start| word.starts_with(start) && word.len() > start.len());
    let dotted = word.split_once('/').is_some_and(|(_, rest)| rest.contains(['.', '/']));
    starts || word.contains("://") || dotted || word.contains(":\\")
}

fn is_id(word: &str) -> bool {
    let bare = word.strip_prefix("0x").unwrap_or(word);
    let has_digit = bare.bytes().any(|byte| byte.is_ascii_digit());
    let hex = bare.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-') && bare.len() >= HEX;
    // A number or an instant alone is no id.
    let numeric = bare.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    let word_like = bare.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    let opaque = word_like && bare.len() >= OPAQUE && bare.bytes().any(|byte| byte.is_ascii_alphabetic());
    has_digit && ((hex && !numeric) || (word.len() > 2 && word.len() > bare.len() && hex_only(bare)) || opaque)
}

fn hex_only(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Each run of digits, with what joins them to the next one, becomes one mark.
fn without_numbers(word: &str, into: &mut String) {
    let mut rest = word;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        into.push_str(&rest[..at]);
        into.push('#');
        rest = &rest[at..];
        loop {
            rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
            let joined = rest.trim_start_matches(['.', ':', '-', '+', 'T', '_']);
            if joined.len() == rest.len() || !joined.starts_with(|c: char| c.is_ascii_digit()) {
                break;
            }
            rest = joined;
        }
    }
    into.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::{fingerprint, pattern};

    #[test]
    fn what_changes_from_time_to_time_is_taken_out_and_words_stay() {
        let table = [
            ("exit code 7: out of paper", "exit code #: out of paper"),
            ("took 10.5 s, limit 10 s", "took # s, limit # s"),
            ("no row 0198f1d2-0000-7000-8000-000000000000 here", "no row <id> here"),
            ("commit 9f86d081884c was lost", "commit <id> was lost"),
            ("cannot open /srv/data/x-17.dat: denied", "cannot open <path>: denied"),
            ("open(\"/a/b c\")", "open(\"<path> c\")"),
            ("src/main.rs:10:5: unexpected", "<path>: unexpected"),
            ("GET https://host:8080/a?b=1 gave 503", "GET <path>=# gave #"),
            ("node17 at 2026-11-30T10:00:00Z and 127.0.0.1:5432", "node# at #Z and #"),
            ("read/write error, n/a", "read/write error, n/a"),
            ("key=12 key='13'", "key=# key='#'"),
            ("at 0x7f", "at <id>"),
            ("  much   space\tthere ", " much space there"),
            ("a decade of deadbeef facades", "a decade of deadbeef facades"),
            ("12345678 items", "# items"),
            ("", ""),
        ];
        for (line, expected) in table {
            assert_eq!(pattern(line), expected, "{line}");
        }
    }

    #[test]
    fn the_kind_and_the_first_line_count() {
        let one = fingerprint("image.resize", "no file /a/1.png\nat line 3");
        assert_eq!(one, fingerprint("image.resize", "no file /b/2.png\nat line 90"));
        assert_ne!(one, fingerprint("image.crop", "no file /a/1.png"));
        assert_ne!(one, fingerprint("image.resize", "no space on /a/1.png"));
        assert!(one.len() == 16 && one.bytes().all(|byte| byte.is_ascii_hexdigit()), "{one}");
    }

    #[test]
    fn any_text_is_taken() {
        for line in ["😀".repeat(500), "/".repeat(500), "é0x".repeat(100), "\0 \u{7f}".to_owned()] {
            assert_eq!(fingerprint("k", &line).len(), 16);
        }
    }
}
