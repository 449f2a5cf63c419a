//! Server-sent events, read back into events.
//!
//! Owns the few rules of the form that our server uses. Refuses lines longer than 16 MiB.

use reqwest::Response;
use spinor_consumers::broker::Event;

use super::ClientError;

const LONGEST_LINE: usize = 16 << 20;

/// Events as they come; lossy, and it ends when the server does.
#[derive(Debug)]
pub struct EventStream {
    place: String,
    response: Response,
    buffer: Vec<u8>,
    searched: usize,
}

impl EventStream {
    pub(super) const fn new(place: String, response: Response) -> Self {
        Self { place, response, buffer: Vec::new(), searched: 0 }
    }

    /// The next event; `None` when the server ended the stream. Cancel-safe.
    pub async fn next(&mut self) -> Result<Option<Event>, ClientError> {
        loop {
            while let Some(line) = self.line() {
                if let Some(data) = line.strip_prefix(b"data:") {
                    return serde_json::from_slice(data).map(Some).map_err(|error| self.failed(error.to_string()));
                }
            }
            match self.response.chunk().await {
                Ok(Some(chunk)) => self.buffer.extend_from_slice(&chunk),
                Ok(None) => return Ok(None),
                Err(error) => return Err(self.failed(super::root_of(&error))),
            }
            if self.buffer.len() > LONGEST_LINE {
                return Err(self.failed("an event is longer than 16 MiB".to_owned()));
            }
        }
    }

    fn line(&mut self) -> Option<Vec<u8>> {
        match self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
            Some(end) => {
                let rest = self.buffer.split_off(self.searched + end + 1);
                let line = std::mem::replace(&mut self.buffer, rest);
                self.searched = 0;
                Some(line)
            }
            None => {
                self.searched = self.buffer.len();
                None
            }
        }
    }

    fn failed(&self, why: String) -> ClientError {
        ClientError::Failed { place: self.place.clone(), why }
    }
}
