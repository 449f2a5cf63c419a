//! One channel of a feed and the consumers on it, until it is lost.
//!
//! Owns how credit becomes consumers: a raised credit is another consumer beside the first; a
//! lowered one cancels all and starts over, and what is in hand counts against the new credit.
//! Owns what arrived and was not handed over yet. A queue with several lanes is taken from as `shares`
//! says. When the channel is lost its deliveries turn
//! stale. Refuses to know the subscription, and to answer deliveries: that is the tracker's.

mod shares;

use std::{collections::VecDeque, future::poll_fn, pin::Pin, sync::Arc, task::Poll, time::Duration};

use futures_util::{FutureExt, Stream};
use lapin::{
    Channel, Connection, Consumer,
    message::Delivery as Arrival,
    options::{
        BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions,
        ConfirmSelectOptions,
    },
    types::FieldTable,
};
use tokio::{sync::mpsc, time::Instant};

use super::{
    FAREWELL, Inner,
    feed::Source,
    intake::Intake,
    tracker::{Answer, Tracker, When},
};
use crate::broker::Delivery;
use shares::Shares;

/// More consumers than this on one channel are started over as one.
const CONSUMERS: usize = 5;
/// So many deliveries are taken up at once.
const GULP: usize = 512;
/// A consumer that the broker cancelled is not started again sooner; doubling...
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// ...up to here.
const LAST_PAUSE: Duration = Duration::from_secs(15);

/// One channel's time.
pub struct Generation {
    broker: Arc<Inner>,
    source: Arc<Source>,
    channel: Channel,
    /// What is in hand of this channel.
    pub tracker: Arc<Tracker>,
    consumers: Vec<Consumer>,
    /// What the consumers together may have in hand.
    granted: usize,
    /// Arrived, not handed over.
    pub waiting: VecDeque<Delivery>,
    last_arrival: Instant,
    /// Not subscribed again before this.
    not_before: Instant,
    pause: Duration,
    /// Who gets how much of the credit, where there are several lanes.
    shares: Option<Shares>,
    /// Kept for being counted, where there are several lanes.
    counted: Option<Consumer>,
}

/// A channel's prefetch is a number of 16 bits.
fn within(credit: u32) -> usize {
    usize::from(u16::try_from(credit).unwrap_or(u16::MAX))
}

impl Generation {
    /// Opens the channel; nothing flows yet.
    pub async fn open(broker: &Arc<Inner>, source: &Arc<Source>, connection: &Connection) -> lapin::Result<Self> {
        let channel = connection.create_channel().await?;
        let (heard, wire) = (channel.clone(), channel.clone());
        // The first poll queues the frame, and the frames keep their order; nobody waits for it to
        // be written, because if the channel breaks the delivery comes again anyway.
        let say = move |answer| {
            let _ = match answer {
                Answer::One(number) => wire.basic_ack(number, BasicAckOptions { multiple: false }).now_or_never(),
                Answer::UpTo(number) => wire.basic_ack(number, BasicAckOptions { multiple: true }).now_or_never(),
                Answer::Back(number) => {
                    wire.basic_nack(number, BasicNackOptions { multiple: false, requeue: true }).now_or_never()
                }
            };
        };
        let now = Instant::now();
        Ok(Self {
            broker: Arc::clone(broker),
            source: Arc::clone(source),
            channel,
            tracker: broker.new_tracker(&heard, say),
            consumers: Vec::new(),
            granted: 0,
            waiting: VecDeque::new(),
            last_arrival: now,
            not_before: now,
            pause: FIRST_PAUSE,
            shares: None,
            counted: None,
        })
    }

    /// Is the channel still there?
    pub fn is_up(&self) -> bool {
        self.channel.status().connected()
    }

    /// Says everything there is to say, and waits until the broker heard it: it forgets acks that a
    /// closing connection overtakes.
    pub async fn end(&self) {
        self.tracker.answer(When::End);
        let close = self.channel.close(200, "closed".into());
        // Whatever it ends with, the connection is closed next.
        let _ = tokio::time::timeout(FAREWELL / 3, close).await;
    }

    /// Gives the channel up, by word and without waiting: one that is only dropped stays open while an
    /// execution that came over it runs, or while the server owes it an answer to a subscribe, and
    /// what it was given is in nobody's hand.
    pub fn give_up(&self) {
        if self.is_up() {
            let (channel, stop) = (self.channel.clone(), self.broker.stop.clone());
            self.broker.tasks.spawn(async move {
                let close = async {
                    // A channel answers in order: what was asked before is answered then, or the server closed it.
                    // Two closes that cross would end the whole connection.
                    channel.confirm_select(ConfirmSelectOptions::default()).await?;
                    channel.close(200, "given up".into()).await
                };
                // Whatever it ends with, the connection's end closes it too.
                let _ = stop.run_until_cancelled(close).await;
            });
        }
    }

    /// Brings the consumers in line with the credit.
    pub async fn adjust(&mut self, credit: u32) -> lapin::Result<()> {
        let within = within(credit);
        if self.shares.is_some() {
            return self.share(within).await;
        }
        let old = self.tracker.old();
        let spare = within.saturating_sub(old + self.granted);
        let worth = spare > 0 && (old == 0 || spare * 2 >= self.granted);
        let over = self.granted + old > within && self.granted > 0;
        if over || (worth && self.consumers.len() >= CONSUMERS) {
            self.stop().await?;
            return Box::pin(self.adjust(credit)).await;
        }
        if worth && Instant::now() >= self.not_before {
            let prefetch = u16::try_from(spare).unwrap_or(u16::MAX);
            self.channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
            let name = self.source.full.as_str().into();
            let options = BasicConsumeOptions::default();
            self.consumers.push(self.channel.basic_consume(name, "".into(), options, FieldTable::default()).await?);
            self.granted += spare;
            self.last_arrival = Instant::now();
        }
        Ok(())
    }

    /// Cancels all consumers; what was under way is kept.
    pub async fn stop(&mut self) -> lapin::Result<()> {
        for mut consumer in std::mem::take(&mut self.consumers) {
            self.channel.basic_cancel(consumer.tag(), BasicCancelOptions::default()).await?;
            // What was under way before the broker's answer is ours and must not be forgotten.
            let mut rest = Vec::new();
            drain(&mut consumer, &mut rest);
            self.keep(rest);
        }
        self.granted = 0;
        self.tracker.start_over();
        Ok(())
    }

    /// Until when there are no consumers, for they were cancelled a moment ago; none when there are.
    pub fn starved_until(&self) -> Option<Instant> {
        (self.consumers.is_empty() && Instant::now() < self.not_before).then_some(self.not_before)
    }

    /// For so long nothing came, though there is credit.
    pub fn quiet(&self) -> Option<Duration> {
        let has_credit = !self.consumers.is_empty() && self.tracker.len() < self.granted;
        has_credit.then(|| self.last_arrival.elapsed())
    }

    /// Waits for something from any of the consumers, then takes all that is there. Cancel-safe;
    /// never ends while there is nobody to wait for, or enough has arrived.
    pub async fn arrive(&mut self) -> Arrived {
        if self.consumers.is_empty() || self.waiting.len() >= GULP {
            return std::future::pending().await;
        }
        let consumers = &mut self.consumers;
        poll_fn(|context| {
            let mut arrived = Arrived { deliveries: Vec::new(), end: None };
            for consumer in consumers.iter_mut() {
                while arrived.deliveries.len() < GULP && arrived.end.is_none() {
                    match Pin::new(&mut *consumer).poll_next(context) {
                        Poll::Ready(Some(Ok(delivery))) => arrived.deliveries.push(delivery),
                        Poll::Ready(Some(Err(error))) => arrived.end = Some(Some(error)),
                        Poll::Ready(None) => arrived.end = Some(None),
                        Poll::Pending => break,
                    }
                }
            }
            let nothing = arrived.deliveries.is_empty() && arrived.end.is_none();
            if nothing { Poll::Pending } else { Poll::Ready(arrived) }
        })
        .await
    }

    /// Takes up what [`Self::arrive`] brought.
    pub async fn take_up(&mut self, arrived: Arrived) -> lapin::Result<()> {
        if !arrived.deliveries.is_empty() {
            self.last_arrival = Instant::now();
            self.pause = FIRST_PAUSE;
            if let Some(shares) = &mut self.shares {
                shares.stirred = true;
            }
        }
        self.keep(arrived.deliveries);
        match arrived.end {
            None => Ok(()),
            Some(Some(error)) => Err(error),
            // The broker cancelled one: its queue was deleted, or moved. All start over, after a pause.
            Some(None) if self.is_up() => {
                tracing::debug!(queue = self.source.full, "The broker cancelled a consumer.");
                self.stop().await?;
                self.not_before = Instant::now() + self.pause;
                self.pause = (self.pause * 2).min(LAST_PAUSE);
                Ok(())
            }
            Some(None) => Ok(()),
        }
    }

    /// Registers deliveries, sends those that are early on their way again, queues the rest.
    fn keep(&mut self, mut arrivals: Vec<Arrival>) {
        arrivals.sort_unstable_by_key(|arrival| arrival.delivery_tag);
        let intake = Intake { broker: &self.broker, source: &self.source, tracker: &self.tracker };
        self.waiting.extend(arrivals.into_iter().filter_map(|arrival| intake.take(arrival)));
    }

    /// Hands over as much as there is room for; false when nobody is there to take it.
    pub fn forward(&mut self, out: &mpsc::Sender<Delivery>) -> bool {
        while let Some(delivery) = self.waiting.pop_front() {
            match out.try_send(delivery) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(delivery)) => {
                    self.waiting.push_front(delivery);
                    return true;
                }
                // Dropped, like all that still waits, it goes back.
                Err(mpsc::error::TrySendError::Closed(_)) => break,
            }
        }
        let there = !out.is_closed();
        if !there {
            self.waiting.clear();
        }
        there
    }
}

/// What came at once from the consumers of a channel.
pub struct Arrived {
    deliveries: Vec<Arrival>,
    /// A consumer ended: cancelled by the broker (none), or by an error.
    end: Option<Option<lapin::Error>>,
}

/// Takes what is already there.
fn drain(consumer: &mut Consumer, into: &mut Vec<Arrival>) {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    while let Poll::Ready(Some(Ok(delivery))) = Pin::new(&mut *consumer).poll_next(&mut context) {
        into.push(delivery);
    }
}
