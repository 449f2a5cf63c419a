//! One publish channel with confirms: one flush in flight, judged when all its confirms are in.
//!
//! Owns the channel and replaces it when it breaks or is silent; what was not confirmed is then
//! sent once more under the same ids. Refuses to decide what a failure means for a delivery.
//!
//! The client hands a returned message to whichever confirm resolves next, so returns are
//! collected over the whole flush and matched by message id, exchange and key.

use std::{future::Future, pin::Pin, time::Duration};

use bytes::Bytes;
use futures_util::FutureExt;
use lapin::{
    BasicProperties, Channel, Confirmation, PublisherConfirm,
    message::BasicReturnMessage,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::{AMQPValue, ShortString},
};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use super::connection::{State, up};
use crate::{
    broker::PublishError,
    message::header,
    planted::{Fault, planted},
};

/// A message ready to be sent.
pub struct Parcel {
    /// Empty for the default exchange.
    pub exchange: ShortString,
    /// The routing key.
    pub key: ShortString,
    /// Those of one id, exchange and key share their fate when they cannot be routed.
    pub properties: BasicProperties,
    /// The body.
    pub body: Bytes,
    /// The address in the user's words, for errors.
    pub to: String,
    /// Would a consumer run it? Then a copy that is sent again says that it may be one.
    pub job: bool,
}

/// A channel on which the server refused something is used for so long after it was opened.
const DOUBT: Duration = Duration::from_millis(500);

/// How one parcel ended.
pub type Sent = Result<(), PublishError>;

/// The publish channel.
pub struct Lane {
    state: watch::Receiver<State>,
    channel: Option<Channel>,
    /// When the channel was opened.
    opened: Instant,
    patience: Duration,
}

type Publishing<'a> = Pin<Box<dyn Future<Output = lapin::Result<PublisherConfirm>> + Send + 'a>>;

impl Lane {
    /// A lane over a connection; `patience` is how long a flush waits for a broker that is away, and
    /// for its confirms: two thirds of it the first time, the rest when it is sent again.
    pub fn new(state: watch::Receiver<State>, patience: Duration) -> Self {
        Self { state, channel: None, opened: Instant::now(), patience }
    }

    /// Waits until publishing is possible; false means that it never will be again.
    pub async fn usable(&mut self) -> bool {
        up(&mut self.state).await.is_some()
    }

    /// Can it publish now?
    pub fn is_up(&self) -> bool {
        matches!(*self.state.borrow(), State::Up(_))
    }

    /// Sends the parcels in order and waits for all confirms; the results are in the same order.
    pub async fn flush(&mut self, parcels: &[Parcel]) -> Vec<Sent> {
        let mut results: Vec<Option<Sent>> = Vec::new();
        results.resize_with(parcels.len(), || None);
        let mut last = Failed { why: String::new(), refused_one: false, sent: false };
        let end = Instant::now() + self.patience;
        for (again, confirmed) in [(false, end - self.patience / 3), (true, end)] {
            match self.attempt(parcels, &mut results, again, (end, confirmed)).await {
                Ok(refused) => {
                    self.doubt(refused);
                    return finished(results, &last);
                }
                Err(failed) => last = Failed { sent: last.sent || failed.sent, ..failed },
            }
            self.channel = None;
        }
        // A soft error ends the channel for all, whoever caused it: one by one, only the culprit fails.
        if last.refused_one {
            for (place, parcel) in parcels.iter().enumerate().filter(|_| parcels.len() > 1) {
                if results[place].is_none() {
                    let mut one = [None];
                    if let Err(failed) = self.attempt(std::slice::from_ref(parcel), &mut one, true, (end, end)).await {
                        self.channel = None;
                        one = [Some(Err(PublishError::Unconfirmed(failed.why)))];
                    }
                    let [one] = one;
                    results[place] = one;
                }
            }
        }
        finished(results, &last)
    }

    /// A channel looks for a queue's leader when it first publishes to it, and when that one is on a
    /// lost node RabbitMQ refuses all that follows on this channel. So after a refusal the next flush
    /// gets a new one; not at once again, because a queue that is full refuses on any.
    fn doubt(&mut self, refused: bool) {
        if refused && self.opened.elapsed() > DOUBT {
            self.channel = None;
        }
    }

    /// Sends what has no result yet; true when the server refused some. `Err` means that some are
    /// still without one. `until`: when the channel must be open, and when the confirms must be in;
    /// what goes out late gets a third of the patience for them even so.
    async fn attempt(
        &mut self,
        parcels: &[Parcel],
        results: &mut [Option<Sent>],
        again: bool,
        until: (Instant, Instant),
    ) -> Result<bool, Failed> {
        let channel = match timeout_at(until.0, self.open()).await {
            Ok(Ok(channel)) => channel,
            Ok(Err(why)) => return Err(Failed { why, refused_one: false, sent: false }),
            Err(_) => return Err(Failed { why: self.state.borrow().why_not(), refused_one: false, sent: false }),
        };
        let open: Vec<usize> = (0..parcels.len()).filter(|place| results[*place].is_none()).collect();
        let mut flight = Flight::depart(&channel, parcels, &open, again);
        let until = until.1.max(Instant::now() + self.patience / 3);
        let complete = timeout_at(until, flight.land()).await.is_ok();
        flight.judge(parcels, &open, results, complete)
    }

    async fn open(&mut self) -> Result<Channel, String> {
        if let Some(channel) = self.channel.as_ref().filter(|channel| channel.status().connected())
            && matches!(*self.state.borrow(), State::Up(_))
        {
            return Ok(channel.clone());
        }
        let connection = up(&mut self.state).await.ok_or("the broker was closed")?;
        let channel = connection.create_channel().await.map_err(|error| error.to_string())?;
        channel.confirm_select(ConfirmSelectOptions::default()).await.map_err(|error| error.to_string())?;
        (self.channel, self.opened) = (Some(channel.clone()), Instant::now());
        Ok(channel)
    }
}

/// Why an attempt left some without a result.
struct Failed {
    why: String,
    /// The server refused something on the channel (a missing exchange, a missing right).
    refused_one: bool,
    /// Something may have reached the broker.
    sent: bool,
}

fn finished(results: Vec<Option<Sent>>, last: &Failed) -> Vec<Sent> {
    results
        .into_iter()
        .map(|result| {
            result.unwrap_or_else(|| {
                Err(if last.sent {
                    PublishError::Unconfirmed(last.why.clone())
                } else {
                    PublishError::Refused(last.why.clone())
                })
            })
        })
        .collect()
}

/// One attempt under way.
struct Flight<'a> {
    publishing: Vec<Option<Publishing<'a>>>,
    confirms: Vec<Option<PublisherConfirm>>,
    answers: Vec<Option<lapin::Result<Confirmation>>>,
}

impl<'a> Flight<'a> {
    /// Hands every parcel to the client without waiting for any.
    fn depart(channel: &'a Channel, parcels: &'a [Parcel], open: &[usize], again: bool) -> Self {
        let mut publishing = Vec::with_capacity(open.len());
        let mut confirms = Vec::with_capacity(open.len());
        let mut answers = Vec::with_capacity(open.len());
        for place in open {
            let mut one: Publishing<'a> = Box::pin(send(channel, &parcels[*place], again));
            // The first poll queues the frames; the wake-up it asks for is not needed, because all
            // are awaited in order below.
            match one.as_mut().now_or_never() {
                None => (publishing.push(Some(one)), confirms.push(None), answers.push(None)),
                Some(Ok(confirm)) => (publishing.push(None), confirms.push(Some(confirm)), answers.push(None)),
                Some(Err(error)) => (publishing.push(None), confirms.push(None), answers.push(Some(Err(error)))),
            };
        }
        Self { publishing, confirms, answers }
    }

    /// Waits for every confirm.
    async fn land(&mut self) {
        for place in 0..self.publishing.len() {
            if let Some(one) = self.publishing[place].as_mut() {
                let written = one.await;
                self.publishing[place] = None;
                match written {
                    Ok(confirm) => self.confirms[place] = Some(confirm),
                    Err(error) => self.answers[place] = Some(Err(error)),
                }
            }
        }
        for place in 0..self.confirms.len() {
            if let Some(confirm) = self.confirms[place].as_mut() {
                self.answers[place] = Some(confirm.await);
                self.confirms[place] = None;
            }
        }
    }

    /// Gives a result to each that has an answer; true when the server refused some. `in_time` is false
    /// when the wait was cut short.
    fn judge(
        mut self,
        parcels: &[Parcel],
        open: &[usize],
        results: &mut [Option<Sent>],
        in_time: bool,
    ) -> Result<bool, Failed> {
        let (mut returned, mut refused) = (Vec::new(), false);
        let mut failed =
            (!in_time).then(|| Failed { why: "no confirm in time".to_owned(), refused_one: false, sent: true });
        for (at, place) in open.iter().enumerate() {
            // After a cut every answer that is there is taken, since any may carry a return.
            let late = self.confirms[at].take().and_then(FutureExt::now_or_never);
            match self.answers[at].take().or(late) {
                Some(Ok(Confirmation::Nack(message))) => {
                    returned.extend(message);
                    refused = true;
                    results[*place] =
                        Some(Err(PublishError::Refused(format!("`{}` takes no more for now", parcels[*place].to))));
                }
                Some(Ok(confirmation)) => {
                    returned.extend(confirmation.take_message());
                    results[*place] = Some(Ok(()));
                }
                Some(Err(error)) => {
                    let refused_one = error.is_amqp_soft_error();
                    failed = Some(Failed { why: error.to_string(), refused_one, sent: true });
                }
                None => {}
            }
        }
        for message in returned.iter().filter(|_| !planted(Fault::DropOnReturn)) {
            unroutable(message, parcels, results);
        }
        failed.map_or(Ok(refused), Err)
    }
}

fn unroutable(message: &BasicReturnMessage, parcels: &[Parcel], results: &mut [Option<Sent>]) {
    for (parcel, result) in parcels.iter().zip(results) {
        let same = parcel.key == message.routing_key
            && parcel.exchange == message.exchange
            && parcel.properties.message_id() == message.properties.message_id();
        if same {
            *result = Some(Err(PublishError::Unroutable { queue: parcel.to.clone(), known: Vec::new() }));
        }
    }
}

async fn send(channel: &Channel, parcel: &Parcel, again: bool) -> lapin::Result<PublisherConfirm> {
    let mut properties = parcel.properties.clone();
    if again && parcel.job {
        let mut headers = properties.headers().clone().unwrap_or_default();
        headers.insert(header::CLAIM.into(), AMQPValue::Boolean(true));
        properties = properties.with_headers(headers);
    }
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    channel.basic_publish(parcel.exchange.clone(), parcel.key.clone(), options, &parcel.body, properties).await
}
