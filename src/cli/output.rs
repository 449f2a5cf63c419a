//! What a command prints: text for people, or one JSON document for programs.
//!
//! Owns standard output. A reader that has seen enough (a closed pipe) ends the command quietly.

use std::io::{self, ErrorKind, Write as _};

use serde::Serialize;

use super::failure::{DONE, Failure};

/// The way to standard output.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    json: bool,
}

impl Output {
    pub(super) const fn new(json: bool) -> Self {
        Self { json }
    }

    /// Does the reader want JSON?
    pub const fn is_json(self) -> bool {
        self.json
    }

    /// Prints a value: as JSON, or as text for people.
    pub fn value<T: Serialize>(self, value: &T, text: impl FnOnce(&T) -> String) -> Result<u8, Failure> {
        let text = if self.json {
            serde_json::to_string_pretty(value).map_err(|error| Failure::failed(error.to_string()))?
        } else {
            text(value)
        };
        self.text(&text)
    }

    /// Prints text as it is, with a newline at its end.
    pub fn text(self, text: &str) -> Result<u8, Failure> {
        let mut out = io::stdout().lock();
        let newline: &[u8] = if text.is_empty() || text.ends_with('\n') { b"" } else { b"\n" };
        let written = out.write_all(text.as_bytes()).and_then(|()| out.write_all(newline)).and_then(|()| out.flush());
        match written {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                Err(Failure::failed(format!("standard output: {error}")))
            }
            _ => Ok(DONE),
        }
    }

    /// Prints a failure to standard error, and as JSON to standard output if that was asked for;
    /// gives its exit code.
    pub(super) fn failure(self, failure: &Failure) -> u8 {
        // Nothing is left to do when standard error is closed, too.
        let _ = writeln!(io::stderr().lock(), "spinor: {failure}");
        self.document(failure);
        failure.code
    }

    /// The failure as JSON, if that was asked for.
    pub(super) fn document(self, failure: &Failure) {
        if self.json {
            let document = serde_json::json!({"error": failure.message, "exit_code": failure.code});
            let _ = self.text(&document.to_string());
        }
    }
}
