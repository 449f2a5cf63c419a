//! From addresses to exchanges and keys; from report lines to packs.
//!
//! Work queues are addressed by the default exchange with their full name, because `mandatory` on
//! a fan-out only proves that some queue took the message. Refuses to send what must arrive; the
//! search copy of a pack, which nobody waits for, goes from here.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::FutureExt;
use jiff::{SignedDuration, Timestamp};
use lapin::{BasicProperties, options::BasicPublishOptions, types::ShortString};
use spinor_executors::HeaderValue;
use tokio::time::timeout;

use super::{ANSWER, connection::State, lane::Parcel, lock, names};
use crate::{
    broker::{Address, Outgoing, PublishError, is_reserved, rabbitmq::Inner},
    entry::{PACK_BYTES, PACK_LINES},
    message::header,
};

/// The content type of a pack.
const NDJSON: &str = "application/x-ndjson";
/// Packs have an id for the time of their flight, so that a return can be told apart.
static FLIGHTS: AtomicU64 = AtomicU64::new(0);

impl Inner {
    /// The second copy of a pack: sent without a confirm, lost when there is no link.
    pub(super) fn copy_for_search(self: &Arc<Self>, pack: &Bytes) {
        let this = Arc::clone(self);
        let pack = pack.clone();
        let channel = lock(&self.loose).clone().filter(|channel| channel.status().connected());
        let send = async move {
            let channel = match channel {
                Some(channel) => channel,
                None => {
                    let connection = match &*this.publishing.borrow() {
                        State::Up(connection) => Arc::clone(connection),
                        _ => return,
                    };
                    let Ok(channel) = connection.create_channel().await else { return };
                    *lock(&this.loose) = Some(channel.clone());
                    channel
                }
            };
            let properties = BasicProperties::default().with_delivery_mode(2).with_content_type(NDJSON.into());
            let key = this.names.search().into();
            let options = BasicPublishOptions::default();
            let _ = timeout(ANSWER, channel.basic_publish("".into(), key, options, &pack, properties)).await;
        };
        let mut send = Box::pin(send);
        // Usually all is done by the first poll; only opening the channel takes longer.
        if send.as_mut().now_or_never().is_none() {
            self.tasks.spawn(send);
        }
    }

    /// What is sent for one message.
    pub(super) fn parcel(&self, outgoing: &Outgoing) -> Result<Parcel, PublishError> {
        let (exchange, key, to) = self.route(&outgoing.to, outgoing.message.properties.priority)?;
        let mut message = outgoing.message.clone();
        let headers = &mut message.properties.headers;
        match &outgoing.to {
            Address::Delayed { after, .. } if !after.is_zero() => {
                headers.insert(header::NOT_BEFORE.to_owned(), HeaderValue::Int(instant_after(*after)));
            }
            Address::Work(_) | Address::Delayed { .. } => {
                headers.remove(header::NOT_BEFORE);
            }
            Address::Held { holder, .. } => {
                headers.remove(header::NOT_BEFORE);
                headers.insert(header::HOLDER.to_owned(), HeaderValue::Text(holder.to_string()));
            }
            _ => {}
        }
        let properties = super::wire::properties(&message)?;
        let too_long = |name: &str| PublishError::TooLarge { size: name.len(), limit: 255 };
        Ok(Parcel {
            exchange: ShortString::try_new(exchange.as_str()).map_err(|_| too_long(&exchange))?,
            key: ShortString::try_new(key.as_str()).map_err(|_| too_long(&key))?,
            properties,
            body: message.body,
            to,
            job: matches!(outgoing.to, Address::Work(_) | Address::Delayed { .. } | Address::Held { .. }),
        })
    }

    /// Exchange, key, and the user's word for it.
    fn route(&self, to: &Address, priority: Option<u8>) -> Result<(String, String, String), PublishError> {
        let names = &self.names;
        let direct = |full: String, said: &str| (String::new(), full, said.to_owned());
        if let Address::Work(queue) | Address::Delayed { queue, .. } | Address::Held { queue, .. } = to
            && is_reserved(queue)
            && !self.is_foreign(queue)
        {
            return Err(PublishError::Unroutable { queue: queue.clone(), known: Vec::new() });
        }
        let lane = |queue: &str| self.key(queue, priority);
        Ok(match to {
            Address::Work(queue) => direct(lane(queue), queue),
            Address::Delayed { queue, after } if after.is_zero() => direct(lane(queue), queue),
            Address::Delayed { queue, after } => (names.delay(names::tier(*after)), lane(queue), queue.clone()),
            Address::Held { queue, .. } => (names.holding(), lane(queue), queue.clone()),
            Address::Results => direct(names.results(), "results"),
            Address::Search => direct(names.search(), "search"),
            Address::Dead => direct(names.dead(), "dead"),
            Address::Next => direct(names.next(), "next"),
            Address::Reply(name) => direct(name.clone(), name),
        })
    }

    /// A pack on its way to the reply queue.
    pub(super) fn pack(&self, body: Bytes) -> Parcel {
        let id = format!("pack-{}", FLIGHTS.fetch_add(1, Ordering::Relaxed));
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_content_type(NDJSON.into())
            .with_message_id(id.into());
        let key = self.names.results().into();
        Parcel { exchange: "".into(), key, properties, body, to: "results".to_owned(), job: false }
    }
}

/// The mean size of this process's own packs, which stands for those of all.
#[derive(Default)]
pub struct PackSize(AtomicU64);

impl PackSize {
    /// Of one that has sent none yet.
    const ASSUMED: u64 = 4096;
    /// Each new one counts as a sixteenth.
    const SHARE: u64 = 16;

    /// One more. Two at once may count as one.
    pub fn sent(&self, size: usize) {
        let (mean, size) = (self.0.load(Ordering::Relaxed), size as u64);
        let next = if mean == 0 { size } else { mean - mean / Self::SHARE + size.div_ceil(Self::SHARE) };
        self.0.store(next, Ordering::Relaxed);
    }

    /// The mean, in bytes.
    pub fn mean(&self) -> u64 {
        match self.0.load(Ordering::Relaxed) {
            0 => Self::ASSUMED,
            mean => mean,
        }
    }
}

/// Microseconds since 1970, this long from now.
fn instant_after(after: Duration) -> i64 {
    let after = SignedDuration::try_from(after).unwrap_or(SignedDuration::MAX);
    Timestamp::now().checked_add(after).unwrap_or(Timestamp::MAX).as_microsecond()
}

/// Collects lines into packs.
#[derive(Default)]
pub struct Packer {
    full: Vec<Bytes>,
    open: BytesMut,
    lines: usize,
}

impl Packer {
    /// Adds lines that belong together; returns in which packs, counted from 0, they travel.
    pub fn add(&mut self, lines: &[Bytes]) -> Range<usize> {
        let mut first = None;
        for line in lines {
            if self.lines == PACK_LINES || (self.lines > 0 && self.open.len() + line.len() >= PACK_BYTES) {
                self.close();
            }
            first.get_or_insert(self.full.len());
            self.open.reserve(line.len() + 1);
            self.open.put_slice(line);
            self.open.put_u8(b'\n');
            self.lines += 1;
        }
        first.map_or(0..0, |first| first..self.full.len() + 1)
    }

    fn close(&mut self) {
        if self.lines > 0 {
            self.full.push(self.open.split().freeze());
            self.lines = 0;
        }
    }

    /// The packs, in order.
    pub fn packs(mut self) -> Vec<Bytes> {
        self.close();
        self.full
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pack_holds_500_lines_or_a_mebibyte_and_a_large_line_goes_alone() {
        let mut packer = Packer::default();
        let small = Bytes::from_static(b"{}");
        assert_eq!(packer.add(&vec![small.clone(); 499]), 0..1);
        assert_eq!(packer.add(&[small.clone(), small.clone()]), 0..2);
        let large = Bytes::from(vec![b'x'; PACK_BYTES]);
        assert_eq!(packer.add(&[large]), 2..3);
        assert_eq!(packer.add(&[small]), 3..4);
        assert_eq!(packer.add(&[]), 0..0);
        let sizes: Vec<_> = packer.packs().iter().map(Bytes::len).collect();
        assert_eq!(sizes, [1500, 3, PACK_BYTES + 1, 3]);
    }

    #[test]
    fn the_size_of_packs_follows_what_is_sent() {
        let size = PackSize::default();
        assert_eq!(size.mean(), PackSize::ASSUMED);
        size.sent(1600);
        assert_eq!(size.mean(), 1600);
        for _ in 0..200 {
            size.sent(160_000);
        }
        assert!((150_000..=160_100).contains(&size.mean()), "{}", size.mean());
    }
}
