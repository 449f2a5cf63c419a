//! An embedded broker of a test's own, for the loops that consume packs: puts them on the internal
//! queues, and tells what is still on them. Refuses to know what the loops do.

use spinor_consumers::{
    broker::{
        Address, Broker, Delivery, Outgoing, Settlement,
        embedded::{Embedded, EmbeddedSettings},
    },
    entry::Entry,
    message::{Message, Properties},
};

use super::scratch::Scratch;

/// The broker and its directory.
pub struct Roads {
    pub broker: Embedded,
    scratch: Scratch,
}

impl Roads {
    pub async fn open() -> Self {
        let scratch = Scratch::new("roads");
        let broker = open(&scratch).await;
        Self { broker, scratch }
    }

    /// Closes it and opens it again: only what is on disk is still there.
    pub async fn reopen(&mut self) {
        self.broker.close().await;
        self.broker = open(&self.scratch).await;
    }

    /// Puts entries on the queue of an address, so many to a pack; how many packs.
    pub async fn packs(&self, to: &Address, entries: &[Entry], size: usize) -> u64 {
        let pack = |entries: &[Entry]| -> Message {
            let body: Vec<u8> = entries.iter().flat_map(|entry| [&entry.line()[..], b"\n"].concat()).collect();
            Message { body: body.into(), ..Message::default() }
        };
        self.put(to, entries.chunks(size).map(pack).collect()).await
    }

    /// Puts messages on the queue of an address; how many.
    pub async fn put(&self, to: &Address, messages: Vec<Message>) -> u64 {
        let batch: Vec<_> =
            messages.into_iter().map(|message| Outgoing { to: to.clone(), message, must: true }).collect();
        let count = batch.len() as u64;
        for result in self.broker.publish(batch).await {
            result.expect("the broker takes it");
        }
        count
    }

    /// What was put on the queue of an address and not acked, while nobody else consumes it.
    pub async fn rest(&self, of: &Address) -> Vec<Message> {
        let last = Properties { id: Some("the last".into()), ..Properties::default() };
        self.put(of, vec![Message { properties: last.clone(), ..Message::default() }]).await;
        let mut subscription = self.broker.consume(of, u32::MAX).await.expect("it can be consumed");
        let mut rest = Vec::new();
        loop {
            let delivery = subscription.next().await.expect("the last comes before the end");
            if delivery.message.properties == last {
                self.broker.settle(delivery, Settlement::default()).await.expect("acked");
                // What is dropped here goes back.
                return rest.iter().map(|delivery: &Delivery| delivery.message.clone()).collect();
            }
            rest.push(delivery);
        }
    }
}

async fn open(scratch: &Scratch) -> Embedded {
    let settings = EmbeddedSettings { dir: scratch.join("broker"), search: true, ..EmbeddedSettings::default() };
    Embedded::open(settings).await.expect("the broker opens")
}

/// The entries of packs.
pub fn entries(packs: &[Message]) -> Vec<Entry> {
    let lines = packs.iter().flat_map(|pack| pack.body.split(|byte| *byte == b'\n'));
    lines.filter(|line| !line.is_empty()).map(|line| serde_json::from_slice(line).expect("an entry")).collect()
}
