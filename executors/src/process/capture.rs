//! What is kept of a stream: its first and its last bytes, the middle counted.
//!
//! Owns the bound and the readable form. Pure: it reads nothing and knows no process. Buffers grow
//! with what is written, so a step that says little costs little.

use std::{collections::VecDeque, fmt::Write};

use crate::Output;

/// Collects one stream in bounded memory.
pub(crate) struct Capture {
    half: usize,
    head: Vec<u8>,
    tail: VecDeque<u8>,
    bytes: u64,
}

impl Capture {
    /// Keeps at most `keep` bytes, half of them from the start.
    pub fn new(keep: usize) -> Self {
        Self { half: keep / 2, head: Vec::new(), tail: VecDeque::new(), bytes: 0 }
    }

    /// Takes what was read next.
    pub fn push(&mut self, chunk: &[u8]) {
        self.bytes += chunk.len() as u64;
        let room = (self.half - self.head.len()).min(chunk.len());
        let (first, rest) = chunk.split_at(room);
        self.head.extend_from_slice(first);
        let rest = &rest[rest.len().saturating_sub(self.half)..];
        let surplus = (self.tail.len() + rest.len()).saturating_sub(self.half);
        self.tail.drain(..surplus);
        self.tail.extend(rest);
    }

    /// The record of it. A character cut by the bound is dropped whole and counted.
    pub fn finish(mut self) -> Output {
        let tail = self.tail.make_contiguous();
        let kept = (self.head.len() + tail.len()) as u64;
        if kept == self.bytes {
            self.head.extend_from_slice(tail);
            return Output { head: readable(&self.head), tail: String::new(), bytes: self.bytes, dropped: 0 };
        }
        let head = without_cut_end(&self.head);
        let tail = without_cut_start(tail);
        Output {
            head: readable(head),
            tail: readable(tail),
            bytes: self.bytes,
            dropped: self.bytes - (head.len() + tail.len()) as u64,
        }
    }
}

/// UTF-8 as it is, every other byte as `\xNN`.
pub(crate) fn readable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            // Writing to a string cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// Without the first bytes of a character whose rest is not there.
fn without_cut_end(bytes: &[u8]) -> &[u8] {
    for back in 1..=bytes.len().min(3) {
        let at = bytes.len() - back;
        let width = match bytes[at] {
            0x80..=0xbf => continue,
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => 1,
        };
        return if width > back { &bytes[..at] } else { bytes };
    }
    bytes
}

/// Without the last bytes of a character whose start is not there.
fn without_cut_start(bytes: &[u8]) -> &[u8] {
    let rest = bytes.iter().take(3).take_while(|byte| (0x80..=0xbf).contains(*byte)).count();
    &bytes[rest..]
}

#[cfg(test)]
mod tests {
    use super::{Capture, readable};
    use crate::Output;

    fn captured(keep: usize, chunks: &[&[u8]]) -> Output {
        let mut capture = Capture::new(keep);
        for chunk in chunks {
            capture.push(chunk);
        }
        capture.finish()
    }

    #[test]
    fn what_fits_is_kept_whole_however_it_was_cut_into_chunks() {
        let text = "naïve – 漢字".as_bytes();
        for at in 0..=text.len() {
            let output = captured(64, &[&text[..at], &text[at..]]);
            assert_eq!(output.head, "naïve – 漢字");
            assert_eq!((output.tail.as_str(), output.bytes, output.dropped), ("", text.len() as u64, 0));
        }
        let output = captured(text.len() + 1, &[text]);
        assert_eq!((output.head.as_str(), output.dropped), ("naïve – 漢字", 0), "head and tail together hold it");
    }

    #[test]
    fn beyond_the_bound_head_and_tail_are_kept_and_the_middle_is_counted() {
        let output = captured(8, &[b"abcdefgh", b"ij", b"klmnop"]);
        assert_eq!((output.head.as_str(), output.tail.as_str()), ("abcd", "mnop"));
        assert_eq!((output.bytes, output.dropped), (16, 8));
        let output = captured(8, &[b"abc", b"defghijklmnopqrstuvwxyz"]);
        assert_eq!((output.head.as_str(), output.tail.as_str(), output.dropped), ("abcd", "wxyz", 18));
    }

    #[test]
    fn a_character_cut_by_the_bound_is_dropped_whole_and_counted() {
        // 20 times three bytes; 16 kept: 8 in front (two characters and two bytes), 8 behind.
        let text = "漢".repeat(20);
        let output = captured(16, &[text.as_bytes()]);
        assert_eq!((output.head.as_str(), output.tail.as_str()), ("漢漢", "漢漢"));
        assert_eq!((output.bytes, output.dropped), (60, 48));
    }

    #[test]
    fn bytes_that_are_no_text_are_written_as_numbers() {
        assert_eq!(readable(b"a\xff\xc3b"), "a\\xff\\xc3b");
        assert_eq!(readable("é\0".as_bytes()), "é\0");
        let output = captured(64, &[b"\xc3", b"\xa9\xc3"]);
        assert_eq!(output.head, "é\\xc3", "a whole character split between chunks, then half a one at the end");
    }

    #[test]
    fn a_bound_of_nothing_keeps_nothing_and_counts_all() {
        assert_eq!(captured(0, &[b"abc"]), Output { bytes: 3, dropped: 3, ..Output::default() });
    }
}
