//! A broker in memory for the loops that consume packs: what it was given, what was acked, what is
//! in hand. Owns nothing durable; refuses everything a recorder does not need.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use spinor_consumers::{
    broker::{
        Address, Broker, BrokerError, Control, Delivery, DeliveryTag, Event, Events, Link, Outgoing, PublishError,
        QueueSpec, QueueStats, Receipt, Settlement, Subscription, Topic, Verdict,
    },
    entry::Entry,
    message::Message,
};
use tokio::{
    sync::{Notify, mpsc, watch},
    task::JoinSet,
};

/// The broker; clones share it.
#[derive(Clone, Default)]
pub struct MemoryBroker {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
    tasks: Mutex<JoinSet<()>>,
}

#[derive(Default)]
struct State {
    ready: BTreeMap<String, VecDeque<(Message, bool)>>,
    in_hand: BTreeMap<u64, (String, Message)>,
    most_in_hand: usize,
    acked: Vec<Message>,
    last: u64,
}

impl MemoryBroker {
    /// Puts a pack of entries on the queue of an address.
    pub fn pack(&self, to: &Address, entries: &[Entry]) {
        let body: Vec<u8> = entries.iter().flat_map(|entry| [&entry.line()[..], b"\n"].concat()).collect();
        self.put(to, Message { body: body.into(), ..Message::default() });
    }

    /// Puts a message on the queue of an address.
    pub fn put(&self, to: &Address, message: Message) {
        self.shared.state.lock().unwrap().ready.entry(name(to)).or_default().push_back((message, false));
        self.shared.changed.notify_waiters();
    }

    /// How many deliveries were acked so far.
    pub fn acked(&self) -> usize {
        self.shared.state.lock().unwrap().acked.len()
    }

    /// The entries of all packs that were acked so far.
    pub fn acked_entries(&self) -> Vec<Entry> {
        let state = self.shared.state.lock().unwrap();
        let lines = state.acked.iter().flat_map(|message| message.body.split(|byte| *byte == b'\n'));
        lines.filter_map(|line| serde_json::from_slice(line).ok()).collect()
    }

    /// How many messages wait or are in hand.
    pub fn left(&self) -> usize {
        let state = self.shared.state.lock().unwrap();
        state.in_hand.len() + state.ready.values().map(VecDeque::len).sum::<usize>()
    }

    /// Throws away all that waits on the queue of an address, as a full drop-head queue does.
    pub fn drop_ready(&self, of: &Address) -> usize {
        self.shared.state.lock().unwrap().ready.remove(&name(of)).map_or(0, |queue| queue.len())
    }

    /// The most messages that were ever in hand at once.
    pub fn most_in_hand(&self) -> usize {
        self.shared.state.lock().unwrap().most_in_hand
    }
}

fn name(address: &Address) -> String {
    format!("{address:?}")
}

/// What nobody took out of a subscription waits again, first.
fn give_back(shared: &Shared, numbers: impl Iterator<Item = u64>) {
    let mut state = shared.state.lock().unwrap();
    let mut numbers: Vec<u64> = numbers.collect();
    numbers.sort_unstable_by(|one, other| other.cmp(one));
    for number in numbers {
        if let Some((queue, message)) = state.in_hand.remove(&number) {
            state.ready.entry(queue).or_default().push_front((message, true));
        }
    }
    drop(state);
    shared.changed.notify_waiters();
}

async fn feed(
    shared: Arc<Shared>,
    queue: String,
    credit: usize,
    to: mpsc::Sender<Delivery>,
    control: mpsc::Receiver<Control>,
) {
    let mut control = control;
    let mut mine: Vec<u64> = Vec::new();
    loop {
        let changed = shared.changed.notified();
        let mut next = Vec::new();
        {
            let mut state = shared.state.lock().unwrap();
            mine.retain(|number| state.in_hand.contains_key(number));
            while mine.len() < credit
                && let Some((message, redelivered)) = state.ready.get_mut(&queue).and_then(VecDeque::pop_front)
            {
                state.last += 1;
                let number = state.last;
                state.in_hand.insert(number, (queue.clone(), message.clone()));
                state.most_in_hand = state.most_in_hand.max(state.in_hand.len());
                mine.push(number);
                next.push(Delivery {
                    message,
                    queue: queue.clone(),
                    redelivered,
                    tag: DeliveryTag { subscription: 0, number },
                });
            }
        }
        let mut next = next.into_iter();
        while let Some(delivery) = next.next() {
            if let Err(untaken) = to.send(delivery).await {
                let untaken = std::iter::once(untaken.0).chain(next);
                give_back(&shared, untaken.map(|delivery| delivery.tag.number));
                // The subscription is gone; its last word tells what was left inside.
                while let Some(word) = control.recv().await {
                    if let Control::Leave(tags) = word {
                        give_back(&shared, tags.into_iter().map(|tag| tag.number));
                    }
                }
                return;
            }
        }
        tokio::select! {
            () = changed => {}
            // A look each moment as well: a notification between the two lines above is not heard.
            () = tokio::time::sleep(std::time::Duration::from_millis(5)) => {}
            word = control.recv() => match word {
                Some(Control::Cancel(done)) => { let _ = done.send(()); return; }
                Some(Control::Credit(_)) => {}
                Some(Control::Leave(tags)) => {
                    give_back(&shared, tags.into_iter().map(|tag| tag.number));
                    return;
                }
                None => return,
            },
        }
    }
}

impl Broker for MemoryBroker {
    async fn declare(&self, _: &[QueueSpec]) -> Result<(), BrokerError> {
        Ok(())
    }

    async fn publish(&self, batch: Vec<Outgoing>) -> Vec<Result<(), PublishError>> {
        batch
            .into_iter()
            .map(|outgoing| {
                self.put(&outgoing.to, outgoing.message);
                Ok(())
            })
            .collect()
    }

    async fn consume(&self, from: &Address, credit: u32) -> Result<Subscription, BrokerError> {
        let (to, deliveries) = mpsc::channel(credit as usize);
        let (control, heard) = mpsc::channel(4);
        let feeding = feed(Arc::clone(&self.shared), name(from), credit as usize, to, heard);
        self.shared.tasks.lock().unwrap().spawn(feeding);
        Ok(Subscription::new(deliveries, control))
    }

    fn settle(&self, delivery: Delivery, settlement: Settlement) -> Receipt {
        let mut state = self.shared.state.lock().unwrap();
        if let Some((queue, message)) = state.in_hand.remove(&delivery.tag.number) {
            match settlement.verdict {
                Verdict::Ack => state.acked.push(message),
                Verdict::HandBack => state.ready.entry(queue).or_default().push_front((message, true)),
            }
        }
        drop(state);
        self.shared.changed.notify_waiters();
        let (done, receipt) = Receipt::pair();
        let _ = done.send(Ok(()));
        receipt
    }

    fn report(&self, _: Vec<Bytes>) -> Receipt {
        Receipt::pair().1
    }

    fn cast(&self, _: Event) {}

    async fn listen(&self, _: Topic) -> Result<Events, BrokerError> {
        Err(BrokerError::Closed)
    }

    fn link(&self) -> watch::Receiver<Link> {
        watch::channel(Link::Up).1
    }

    async fn stats(&self, _: &[String]) -> Result<Vec<QueueStats>, BrokerError> {
        Ok(vec![])
    }

    async fn close(&self) -> usize {
        0
    }
}
