//! Dead letters out of what cannot be handled: a message on the dead-letter road, or a line of a
//! pack.

use bytes::Bytes;
use jiff::Timestamp;
use spinor_executors::VERSION;
use uuid::Uuid;

use crate::{
    broker::Outgoing,
    message::{self, Message, Properties, header},
    next::End,
    results::{DeadLetter, fingerprint},
};

/// What is kept of a body that the database refuses.
const KEPT: usize = 16 << 10;

/// The letter a message on the dead-letter road is.
pub fn letter(message: &Message) -> (Message, DeadLetter) {
    let properties = &message.properties;
    let queue = properties.text(header::FROM).or_else(|| properties.text("x-first-death-queue")).unwrap_or_default();
    let number = |name| properties.int(name).and_then(|number| u32::try_from(number).ok());
    let kind = message::kind_of(properties).unwrap_or_default();
    let reason = properties.text(header::REASON).unwrap_or("the broker found no queue for it");
    let letter = DeadLetter {
        job: message::identity(properties, queue).0,
        replay: number(header::REPLAY).unwrap_or(0),
        attempt: number(header::ATTEMPT).unwrap_or(1).max(1),
        kind: kind.to_owned(),
        queue: queue.to_owned(),
        reason: reason.to_owned(),
        at: properties.int(header::BURIED_AT).and_then(buried_at).unwrap_or_else(Timestamp::now),
        consumer: properties.text(header::BURIED_BY).unwrap_or_default().to_owned(),
        fingerprint: fingerprint(kind, reason),
        version: properties.text(header::VERSION).unwrap_or_default().to_owned(),
    };
    (message.clone(), letter)
}

/// The end of a job that the broker buried by itself, for who waits for it: a consumer that buries tells it.
pub fn end(message: &Message) -> Option<Outgoing> {
    if !message.properties.headers.contains_key(header::NEXT) || message.properties.text(header::BURIED_BY).is_some() {
        return None;
    }
    let (_, letter) = letter(message);
    End::buried(message, &letter.queue, &letter.reason).map(End::outgoing)
}

/// The time a consumer wrote down; not one of the future, by which a letter would lead its list for ever.
fn buried_at(micros: i64) -> Option<Timestamp> {
    Timestamp::from_microsecond(micros).ok().filter(|at| *at <= Timestamp::now())
}

/// The letter of one line of a pack. Its id follows from its text, so that a repeated pack buries
/// it once; its message names no kind, so that it is never taken for a job.
pub fn line(line: &[u8], why: &str) -> (Message, DeadLetter) {
    let properties = Properties { content_type: Some("application/x-ndjson".to_owned()), ..Properties::default() };
    let letter = DeadLetter {
        job: Uuid::new_v5(&Uuid::NAMESPACE_OID, line),
        replay: 0,
        attempt: 0,
        kind: String::new(),
        queue: "results".to_owned(),
        reason: why.to_owned(),
        at: Timestamp::now(),
        consumer: String::new(),
        fingerprint: fingerprint("", why),
        version: VERSION.to_owned(),
    };
    (Message { properties, body: Bytes::copy_from_slice(line) }, letter)
}

/// The same letter with no more of its message than every database takes.
pub fn shortened(pair: &(Message, DeadLetter), why: &str) -> (Message, DeadLetter) {
    let (message, letter) = pair;
    let reason: String = letter.reason.chars().take(1000).collect();
    let why: String = why.chars().take(1000).collect();
    let cut = message.body.len() > KEPT;
    let body = if cut { message.body.slice(..KEPT) } else { message.body.clone() };
    let note = format!("{reason} (kept: {} of {} bytes, without headers, since {why})", body.len(), message.body.len());
    (Message { properties: Properties::default(), body }, DeadLetter { reason: note, ..letter.clone() })
}
