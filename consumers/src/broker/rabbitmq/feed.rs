//! One subscription, kept fed: subscribe, forward, resubscribe, change the credit, end.
//!
//! Owns a channel on the consuming connection and the consumers on it. A raised credit is another
//! consumer beside the first; a lowered one cancels all and starts over, and what is in hand
//! counts against the new credit. When the channel is lost its deliveries turn stale and a new
//! generation begins. Refuses to answer deliveries: that is the tracker's and the sink's.

use std::{
    collections::VecDeque,
    future::{Future, pending, poll_fn},
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use futures_util::{FutureExt, Stream};
use lapin::{
    Channel, Connection, Consumer,
    options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions},
    protocol::AMQPSoftError,
    types::FieldTable,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};

use super::{
    FAREWELL, Inner,
    connection::{State, jitter},
    intake::Intake,
    topology,
    tracker::{Answer, PATIENCE, Tracker, When},
};
use crate::broker::{Control, Delivery, DeliveryTag, QueueSpec};

/// How often a quiet subscription looks whether it should be quiet.
const LOOK: Duration = Duration::from_secs(10);
/// Quiet for so long, with messages ready and credit left, means stuck.
const STUCK: Duration = Duration::from_secs(20);
/// More consumers than this on one channel are started over as one.
const CONSUMERS: usize = 5;
/// So many deliveries are taken up at once.
const GULP: usize = 512;

/// Where a subscription's messages come from.
pub struct Source {
    /// The queue's full name.
    pub full: String,
    /// What deliveries say.
    pub short: String,
    /// A work queue, declared again when it is gone.
    pub work: Option<QueueSpec>,
}

/// One subscription's task.
pub struct Feed {
    /// The broker.
    pub broker: Arc<Inner>,
    /// The queue.
    pub source: Source,
    /// How many may be in hand.
    pub credit: u32,
    /// To the subscription; none once it ended.
    pub out: Option<mpsc::Sender<Delivery>>,
    /// From the subscription.
    pub control: mpsc::Receiver<Control>,
    /// The consuming connection.
    pub state: watch::Receiver<State>,
    /// Told once the first subscribe is through.
    pub ready: Option<oneshot::Sender<()>>,
    /// Cancelled by the subscription: what is under way goes out, then the stream ends.
    pub leaving: bool,
    /// The subscription can say nothing more.
    pub deaf: bool,
}

/// Why a channel was given up.
enum Ended {
    /// Lost, or stuck: a new one.
    Lost,
    /// Nothing more is wanted and nothing is in hand.
    Done,
}

/// One channel's time.
struct Generation {
    channel: Channel,
    tracker: Arc<Tracker>,
    consumers: Vec<Consumer>,
    /// What the consumers together may have in hand.
    granted: usize,
    waiting: VecDeque<Delivery>,
    last_arrival: Instant,
    /// Not subscribed again before this.
    not_before: Instant,
    pause: Duration,
    /// When to look for what waited too long for its elders.
    late: Option<Instant>,
}

impl Feed {
    /// Runs until the subscription ends or the broker is closed.
    pub async fn run(mut self) {
        let mut pause = Duration::from_millis(50);
        while let Some(connection) = self.connection().await {
            let began = Instant::now();
            match self.serve(&connection).await {
                Ok(Ended::Done) => return,
                Ok(Ended::Lost) => {}
                Err(error) => {
                    tracing::debug!(queue = self.source.full, %error, "A subscription is tried again.");
                    self.declare_again(&connection, &error).await;
                }
            }
            if began.elapsed() > Duration::from_secs(30) {
                pause = Duration::from_millis(50);
            }
            let until = Instant::now() + pause / 2 + jitter(pause / 2);
            pause = (pause * 2).min(Duration::from_secs(15));
            if !self.idle_until(tokio::time::sleep_until(until)).await {
                return;
            }
        }
    }

    /// The connection when there is one; none means the end.
    async fn connection(&mut self) -> Option<Arc<Connection>> {
        let mut state = self.state.clone();
        let mut found = None;
        let wait = async {
            if let Ok(state) = state.wait_for(|state| !matches!(state, State::Down(_))).await {
                found = state.connection().cloned();
            }
        };
        // Boxed: it is held across the control messages.
        let wait: Pin<Box<dyn Future<Output = ()> + Send + '_>> = Box::pin(wait);
        self.idle_until(wait).await.then_some(())?;
        found
    }

    /// Waits without a channel, hearing what the subscription says; false when it ended.
    async fn idle_until(&mut self, wait: impl Future<Output = ()> + Send) -> bool {
        let mut wait = std::pin::pin!(wait);
        loop {
            tokio::select! {
                () = &mut wait => return true,
                said = self.control.recv() => match said {
                    Some(Control::Credit(credit)) => self.credit = credit,
                    Some(Control::Cancel(done)) => {
                        let _ = done.send(());
                        return false;
                    }
                    Some(Control::Leave(_)) | None => return false,
                },
                () = self.broker.closing.cancelled() => return false,
            }
        }
    }

    async fn declare_again(&mut self, connection: &Connection, error: &lapin::Error) {
        if topology::soft(error) != Some(AMQPSoftError::NOTFOUND) {
            return;
        }
        let queues: Vec<QueueSpec> = self.source.work.iter().filter(|queue| !queue.foreign).cloned().collect();
        let names = &self.broker.names;
        if let Err(error) = topology::ensure(connection, names, self.broker.settings.search, &queues).await {
            tracing::warn!(queue = self.source.full, %error, "A queue that is gone cannot be declared again yet.");
        }
    }

    async fn serve(&mut self, connection: &Connection) -> lapin::Result<Ended> {
        let channel = connection.create_channel().await?;
        let wire = channel.clone();
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
        let mut this = Generation {
            channel,
            tracker: self.broker.new_tracker(say),
            consumers: Vec::new(),
            granted: 0,
            waiting: VecDeque::new(),
            last_arrival: now,
            not_before: now,
            pause: Duration::from_millis(100),
            late: None,
        };
        let ended = self.work(&mut this, connection).await;
        // What was not forwarded is stale with the rest: it comes again.
        self.broker.retire(&this.tracker);
        ended
    }

    async fn work(&mut self, this: &mut Generation, connection: &Connection) -> lapin::Result<Ended> {
        let mut look = tokio::time::interval_at(Instant::now() + LOOK, LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.adjust(this).await?;
            if let Some(ready) = self.ready.take() {
                // The caller may have given up waiting.
                let _ = ready.send(());
            }
            self.forward(this);
            if self.out.is_none() && this.tracker.len() == 0 {
                return self.end(this).await;
            }
            let room = this.waiting.len() < GULP;
            let late = this.late;
            let again = this.not_before;
            let due = late.unwrap_or(again);
            let starved = this.consumers.is_empty() && Instant::now() < again;
            tokio::select! {
                // A new credit is heard before an answer makes room for more under the old one.
                biased;
                said = self.control.recv(), if !self.deaf => self.hear(this, said).await?,
                () = this.tracker.changed.notified() => {
                    let wait = this.tracker.answer(When::Now);
                    this.late = late.or_else(|| wait.then(|| Instant::now() + PATIENCE));
                }
                () = tokio::time::sleep_until(due), if late.is_some() => {
                    this.late = this.tracker.answer(When::Late).then(|| Instant::now() + PATIENCE);
                }
                () = self.broker.closing.cancelled(), if self.out.is_some() => self.leave(this, Vec::new()).await?,
                () = self.broker.ending.cancelled() => return self.end(this).await,
                _ = self.state.changed() => {}
                () = tokio::time::sleep_until(again), if starved => {}
                _ = look.tick() => if self.is_stuck(this, connection).await { return Ok(Ended::Lost) },
                () = has_room(self.out.as_ref()), if !this.waiting.is_empty() => {}
                arrived = arrive(&mut this.consumers), if room && !this.consumers.is_empty() => {
                    self.take_up(this, arrived).await?;
                }
            }
            if !this.channel.status().connected() {
                return Ok(Ended::Lost);
            }
        }
    }

    /// Says everything there is to say, and waits until the broker heard it: it forgets acks that a
    /// closing connection overtakes.
    async fn end(&self, this: &Generation) -> lapin::Result<Ended> {
        this.tracker.answer(When::End);
        let close = this.channel.close(200, "closed".into());
        // Whatever it ends with, the connection is closed next.
        let _ = tokio::time::timeout(FAREWELL / 3, close).await;
        Ok(Ended::Done)
    }

    /// Brings the consumers in line with the credit.
    async fn adjust(&mut self, this: &mut Generation) -> lapin::Result<()> {
        let credit = if self.out.is_some() { usize::try_from(self.credit).unwrap_or(usize::MAX) } else { 0 };
        let credit = credit.min(usize::from(u16::MAX));
        let old = this.tracker.old();
        let spare = credit.saturating_sub(old + this.granted);
        let worth = spare > 0 && (old == 0 || spare * 2 >= this.granted);
        let over = this.granted + old > credit && this.granted > 0;
        if over || (worth && this.consumers.len() >= CONSUMERS) {
            self.stop_consumers(this).await?;
            return Box::pin(self.adjust(this)).await;
        }
        if worth && Instant::now() >= this.not_before {
            let prefetch = u16::try_from(spare).unwrap_or(u16::MAX);
            this.channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
            let name = self.source.full.as_str().into();
            let options = BasicConsumeOptions::default();
            this.consumers.push(this.channel.basic_consume(name, "".into(), options, FieldTable::default()).await?);
            this.granted += spare;
            this.last_arrival = Instant::now();
        }
        Ok(())
    }

    async fn stop_consumers(&mut self, this: &mut Generation) -> lapin::Result<()> {
        for mut consumer in std::mem::take(&mut this.consumers) {
            this.channel.basic_cancel(consumer.tag(), BasicCancelOptions::default()).await?;
            // What was under way before the broker's answer is ours and must not be forgotten.
            let mut rest = Vec::new();
            drain(&mut consumer, &mut rest, usize::MAX);
            self.keep(this, rest);
        }
        this.granted = 0;
        this.tracker.start_over();
        Ok(())
    }

    async fn take_up(&mut self, this: &mut Generation, arrived: Arrived) -> lapin::Result<()> {
        if !arrived.deliveries.is_empty() {
            this.last_arrival = Instant::now();
            this.pause = Duration::from_millis(100);
        }
        self.keep(this, arrived.deliveries);
        match arrived.end {
            None => Ok(()),
            Some(Some(error)) => Err(error),
            // The broker cancelled one: its queue was deleted, or moved. All start over, after a pause.
            Some(None) if this.channel.status().connected() => {
                tracing::debug!(queue = self.source.full, "The broker cancelled a consumer.");
                self.stop_consumers(this).await?;
                this.not_before = Instant::now() + this.pause;
                this.pause = (this.pause * 2).min(Duration::from_secs(15));
                Ok(())
            }
            Some(None) => Ok(()),
        }
    }

    /// Registers deliveries, sends those that are early on their way again, queues the rest.
    fn keep(&self, this: &mut Generation, mut deliveries: Vec<lapin::message::Delivery>) {
        deliveries.sort_unstable_by_key(|delivery| delivery.delivery_tag);
        let intake = Intake { broker: &self.broker, source: &self.source, tracker: &this.tracker };
        this.waiting.extend(deliveries.into_iter().filter_map(|delivery| intake.take(delivery)));
    }

    /// Hands over as much as the subscription has room for.
    fn forward(&mut self, this: &mut Generation) {
        let Some(out) = &self.out else {
            return;
        };
        while let Some(delivery) = this.waiting.pop_front() {
            match out.try_send(delivery) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(delivery)) => {
                    this.waiting.push_front(delivery);
                    return;
                }
                Err(mpsc::error::TrySendError::Closed(delivery)) => {
                    this.waiting.push_front(delivery);
                    break;
                }
            }
        }
        let gone = out.is_closed();
        if gone {
            this.waiting.drain(..).for_each(|delivery| this.tracker.hand_back(delivery.tag.number));
        }
        if gone || (self.leaving && this.waiting.is_empty()) {
            self.out = None;
        }
    }

    async fn hear(&mut self, this: &mut Generation, said: Option<Control>) -> lapin::Result<()> {
        match said {
            Some(Control::Credit(credit)) => self.credit = credit,
            Some(Control::Cancel(done)) => {
                (self.credit, self.leaving) = (0, true);
                self.stop_consumers(this).await?;
                let _ = done.send(());
            }
            Some(Control::Leave(tags)) => self.leave(this, tags).await?,
            None => {
                self.deaf = true;
                self.leave(this, Vec::new()).await?;
            }
        }
        Ok(())
    }

    /// Nobody takes anything out any more: it goes back, and what is in hand stays answerable.
    async fn leave(&mut self, this: &mut Generation, tags: Vec<DeliveryTag>) -> lapin::Result<()> {
        self.out = None;
        self.stop_consumers(this).await?;
        let waiting = this.waiting.drain(..).map(|delivery| delivery.tag);
        for tag in tags.into_iter().chain(waiting).filter(|tag| tag.subscription == this.tracker.id) {
            this.tracker.hand_back(tag.number);
        }
        Ok(())
    }

    async fn is_stuck(&self, this: &Generation, connection: &Connection) -> bool {
        let quiet = this.last_arrival.elapsed() >= STUCK;
        let has_credit = !this.consumers.is_empty() && this.tracker.len() < this.granted;
        if !quiet || !has_credit {
            return false;
        }
        let looked = topology::look(connection, &self.source.full).await;
        let stuck = looked.is_ok_and(|stats| stats.is_none_or(|stats| stats.ready > 0));
        if stuck {
            tracing::warn!(queue = self.source.full, "Messages are ready and none came for 20 s: subscribing anew.");
        }
        stuck
    }
}

/// What came at once from the consumers of a channel.
struct Arrived {
    deliveries: Vec<lapin::message::Delivery>,
    /// A consumer ended: cancelled by the broker (none), or by an error.
    end: Option<Option<lapin::Error>>,
}

/// Waits for something from any of the consumers, then takes all that is there.
async fn arrive(consumers: &mut [Consumer]) -> Arrived {
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

/// Takes what is already there.
fn drain(consumer: &mut Consumer, into: &mut Vec<lapin::message::Delivery>, limit: usize) {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    while into.len() < limit
        && let Poll::Ready(Some(Ok(delivery))) = Pin::new(&mut *consumer).poll_next(&mut context)
    {
        into.push(delivery);
    }
}

async fn has_room(out: Option<&mpsc::Sender<Delivery>>) {
    match out {
        // An error means that the subscription is gone, which the next round sees.
        Some(out) => drop(out.reserve().await),
        None => pending().await,
    }
}
