//! Report lines into packs: one line each, joined by newlines, within the bounds of a pack.

use bytes::Bytes;

use crate::{
    entry::{PACK_BYTES, PACK_LINES},
    message::{Message, Properties},
};

/// What a pack says it is.
const CONTENT_TYPE: &str = "application/x-ndjson";

/// The packs of these lines, in their order.
pub(super) fn pack<'a>(lines: impl Iterator<Item = &'a Bytes>) -> Vec<Message> {
    let mut packs = Vec::new();
    let (mut body, mut count) = (Vec::new(), 0);
    for line in lines {
        if count > 0 && (count >= PACK_LINES || body.len() + line.len() + 1 > PACK_BYTES) {
            packs.push(message(std::mem::take(&mut body)));
            count = 0;
        }
        body.extend_from_slice(line);
        body.push(b'\n');
        count += 1;
    }
    if count > 0 {
        packs.push(message(body));
    }
    packs
}

fn message(body: Vec<u8>) -> Message {
    let properties = Properties { content_type: Some(CONTENT_TYPE.to_owned()), ..Properties::default() };
    Message { properties, body: body.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(lines: &[usize]) -> Vec<usize> {
        let lines: Vec<Bytes> = lines.iter().map(|size| vec![b'x'; *size].into()).collect();
        pack(lines.iter()).iter().map(|pack| pack.body.len()).collect()
    }

    #[test]
    fn a_pack_ends_at_its_bounds_and_a_large_line_goes_alone() {
        assert_eq!(sizes(&[]), [0; 0]);
        assert_eq!(sizes(&[3, 4]), [9]);
        assert_eq!(sizes(&[PACK_BYTES - 1, 1]), [PACK_BYTES, 2]);
        assert_eq!(sizes(&[1, 2 * PACK_BYTES, 1]), [2, 2 * PACK_BYTES + 1, 2]);
        assert_eq!(sizes(&[1; PACK_LINES + 1]), [2 * PACK_LINES, 2]);
    }
}
