//! How a message lies in a row: checksum, length of the properties, properties, body.
//!
//! Refuses to hand out a message whose checksum does not fit: it becomes [`Damage`].

use bytes::Bytes;
use crc::{CRC_32_ISCSI, Crc, Table};

use crate::message::{Message, Properties};

const CHECKSUM: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);
const HEAD: usize = 8;

/// A row that is not what was written. What can still be read of it is with it.
#[derive(Debug)]
pub(super) struct Damage {
    /// Why.
    pub(super) why: String,
    /// The rest.
    pub(super) remains: Box<Message>,
}

/// The row of a message.
pub(super) fn encode(message: &Message) -> Vec<u8> {
    let mut row = Vec::with_capacity(HEAD + 256 + message.body.len());
    row.extend_from_slice(&[0; HEAD]);
    // Our own types into memory cannot fail; a row without properties would be seen as damaged.
    let _ = serde_json::to_writer(&mut row, &message.properties);
    let properties = u32::try_from(row.len() - HEAD).unwrap_or(u32::MAX);
    row[4..HEAD].copy_from_slice(&properties.to_le_bytes());
    row.extend_from_slice(&message.body);
    let sum = CHECKSUM.checksum(&row[4..]);
    row[..4].copy_from_slice(&sum.to_le_bytes());
    row
}

/// The message of a row.
pub(super) fn decode(row: Vec<u8>) -> Result<Message, Damage> {
    let row = Bytes::from(row);
    let Some((sum, length)) = head(&row) else {
        return Err(damage("the row is too short", row, None));
    };
    if CHECKSUM.checksum(&row[4..]) != sum {
        return Err(damage("the checksum does not fit", row, Some(length)));
    }
    match properties(&row, length) {
        Some(properties) => Ok(Message { properties, body: row.slice(HEAD + length..) }),
        None => Err(damage("the properties cannot be read", row, Some(length))),
    }
}

fn head(row: &[u8]) -> Option<(u32, usize)> {
    let sum = row.get(..4)?.try_into().ok()?;
    let length = row.get(4..HEAD)?.try_into().ok()?;
    Some((u32::from_le_bytes(sum), usize::try_from(u32::from_le_bytes(length)).ok()?))
}

fn properties(row: &[u8], length: usize) -> Option<Properties> {
    serde_json::from_slice(row.get(HEAD..HEAD.checked_add(length)?)?).ok()
}

fn damage(why: &str, row: Bytes, length: Option<usize>) -> Damage {
    let remains = match length {
        Some(length) if row.len() >= HEAD.saturating_add(length) => {
            Message { properties: properties(&row, length).unwrap_or_default(), body: row.slice(HEAD + length..) }
        }
        _ => Message { properties: Properties::default(), body: row },
    };
    Damage { why: why.to_owned(), remains: Box::new(remains) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Message {
        let properties = Properties { id: Some("7".into()), kind: Some("noop".into()), ..Properties::default() };
        Message { properties, body: Bytes::from_static(b"\x00body\xff") }
    }

    #[test]
    fn a_row_gives_its_message_back() {
        assert_eq!(decode(encode(&message())).unwrap(), message());
        assert_eq!(decode(encode(&Message::default())).unwrap(), Message::default());
    }

    #[test]
    fn any_flipped_bit_is_seen() {
        let row = encode(&message());
        for bit in 0..row.len() * 8 {
            let mut bad = row.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_cut_row_is_seen_and_what_is_left_is_kept() {
        let row = encode(&message());
        for length in 0..row.len() {
            assert!(decode(row[..length].to_vec()).is_err(), "cut to {length}");
        }
        let mut bad = row;
        let last = bad.len() - 1;
        bad[last] ^= 1;
        let damage = decode(bad).unwrap_err();
        assert_eq!(damage.remains.properties, message().properties);
    }
}
