//! How a frame is written: the length of its body in decimal, a line feed, the body.
//!
//! Owns the bounds. Pure; refuses to know what a body means.

use bytes::{Buf, Bytes, BytesMut};

/// The longest body.
pub const MAX_BODY: usize = 16 << 20;
/// The most digits of a length.
const DIGITS: usize = 8;

/// Appends a frame.
pub fn write(body: &[u8], out: &mut BytesMut) {
    out.extend_from_slice(body.len().to_string().as_bytes());
    out.extend_from_slice(b"\n");
    out.extend_from_slice(body);
}

/// Frames from bytes that come in pieces.
#[derive(Default)]
pub struct Frames {
    bytes: BytesMut,
}

impl Frames {
    /// Takes what was read next.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole body. `Err`: what came is no frame, for people.
    pub fn next(&mut self) -> Result<Option<Bytes>, String> {
        let start = &self.bytes[..self.bytes.len().min(DIGITS + 1)];
        let Some(digits) = start.iter().position(|byte| *byte == b'\n') else {
            let fits = start.len() <= DIGITS && start.iter().all(u8::is_ascii_digit);
            return if fits { Ok(None) } else { Err(no_length(start)) };
        };
        let text = &start[..digits];
        let plain = !text.is_empty() && text.iter().all(u8::is_ascii_digit) && (text[0] != b'0' || digits == 1);
        let length = std::str::from_utf8(text).ok().filter(|_| plain).and_then(|text| text.parse::<usize>().ok());
        let Some(length) = length else { return Err(no_length(start)) };
        if length > MAX_BODY {
            return Err(format!("a frame of {length} bytes; at most {MAX_BODY} are taken"));
        }
        if self.bytes.len() - digits - 1 < length {
            return Ok(None);
        }
        self.bytes.advance(digits + 1);
        Ok(Some(self.bytes.split_to(length).freeze()))
    }

    /// Bytes of a frame whose rest has not come.
    pub fn left(&self) -> usize {
        self.bytes.len()
    }
}

fn no_length(start: &[u8]) -> String {
    let shown = crate::process::readable(start);
    format!("a frame must begin with the length of its body in decimal and a line feed, and this begins with {shown:?}")
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::{Frames, MAX_BODY, write};

    fn read(pieces: &[&[u8]]) -> Result<Vec<String>, String> {
        let (mut frames, mut bodies) = (Frames::default(), Vec::new());
        for piece in pieces {
            frames.push(piece);
            while let Some(body) = frames.next()? {
                bodies.push(String::from_utf8_lossy(&body).into_owned());
            }
        }
        Ok(bodies)
    }

    #[test]
    fn what_is_written_is_read_however_it_was_cut() {
        let mut out = BytesMut::new();
        for body in ["{}", "", r#"{"type":"é"}"#] {
            write(body.as_bytes(), &mut out);
        }
        for at in 0..=out.len() {
            assert_eq!(read(&[&out[..at], &out[at..]]), Ok(vec!["{}".into(), String::new(), r#"{"type":"é"}"#.into()]));
        }
    }

    #[test]
    fn what_is_no_frame_is_refused_as_soon_as_it_is_seen() {
        for bytes in ["hello\n", "{", "\n{}", "02\n{}", "-1\n", "123456789", "1 \nx"] {
            assert!(read(&[bytes.as_bytes()]).is_err_and(|why| why.contains("length")), "{bytes:?}");
        }
        let long = format!("{}\n", MAX_BODY + 1);
        assert!(read(&[long.as_bytes()]).is_err_and(|why| why.contains("16777217 bytes")));
        assert_eq!(read(&[b"12345678"]), Ok(vec![]), "the rest may come");
    }
}
