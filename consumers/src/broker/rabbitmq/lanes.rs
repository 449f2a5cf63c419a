//! The lanes that callers' own publishes share.
//!
//! A caller's batch goes down one lane as a whole, so that it keeps its order; a lane takes every
//! batch that waits, and sends them in one go. What goes to a held queue has a lane for that queue
//! alone: one that gives no answer holds up nobody else. Refuses to know what is published.

use std::sync::{Arc, Mutex};

use tokio::{
    sync::{Mutex as AsyncMutex, mpsc, oneshot},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    Inner, connection,
    lane::{Lane, Parcel, Sent},
    lock,
};
use crate::broker::PublishError;

/// At most so many messages, or so many bytes, to a flush.
const FLUSH: (usize, usize) = (1000, 16 << 20);

/// So many held queues have lanes of their own.
const HOLDERS: usize = 8;

/// A caller's batch on its way to a lane.
pub struct Flight {
    /// What; gone when the caller took it back, because no lane came for it in time.
    pub parcels: Arc<Mutex<Option<Vec<Parcel>>>>,
    /// A result for each, in order.
    pub done: oneshot::Sender<Vec<Sent>>,
}

impl Inner {
    /// Sends parcels over one of the lanes, in order. While the broker is away or blocked they
    /// stand in line, and no longer than the bound: then they were never sent. All may go to one holder.
    pub(super) async fn fly(&self, parcels: Vec<Parcel>, to: Option<Uuid>) -> Vec<Sent> {
        let count = parcels.len();
        let refused = |why: String| vec![Err(PublishError::Refused(why)); count];
        let closed = || refused("the broker was closed".to_owned());
        if count == 0 {
            return Vec::new();
        }
        if self.stop.is_cancelled() {
            return closed();
        }
        let (done, landed) = oneshot::channel();
        let parcels = Arc::new(Mutex::new(Some(parcels)));
        let flight = Flight { parcels: Arc::clone(&parcels), done };
        let flights = to.map_or_else(|| self.flights.clone(), |holder| self.flights_to(holder));
        let mut landed = Box::pin(async { flights.send(flight).await.ok().and(landed.await.ok()) });
        let in_time = async {
            match timeout(self.settings.confirm_timeout, &mut landed).await {
                Ok(landed) => landed,
                Err(_) if lock(&parcels).take().is_some() => Some(refused(self.publishing.borrow().why_not())),
                // A lane has it, and a bound of its own.
                Err(_) => landed.await,
            }
        };
        tokio::select! {
            sent = in_time => sent.unwrap_or_else(closed),
            () = self.stop.cancelled() => vec![Err(PublishError::Unconfirmed("the broker was closed".to_owned())); count],
        }
    }

    /// The lane of a holder's queue. One that was not used lately ends when another one begins.
    fn flights_to(&self, holder: Uuid) -> mpsc::Sender<Flight> {
        let mut all = lock(&self.holding);
        if let Some(place) = all.iter().position(|(of, _)| *of == holder) {
            let used = all.remove(place);
            let flights = used.1.clone();
            all.push(used);
            return flights;
        }
        if all.len() >= HOLDERS {
            all.remove(0);
        }
        let (flights, taken) = mpsc::channel(64);
        let lane = Lane::new(self.publishing.clone(), self.settings.confirm_timeout);
        self.tasks.spawn(fly_on(lane, Arc::new(AsyncMutex::new(taken)), self.stop.clone()));
        all.push((holder, flights.clone()));
        flights
    }

    /// Waits until publishing is possible; false means never again.
    pub(super) async fn publishable(&self) -> bool {
        connection::up(&mut self.publishing.clone()).await.is_some()
    }
}

/// A publish lane: takes the batches that wait, sends them in one go, hands out the results.
pub async fn fly_on(mut lane: Lane, taken: Arc<AsyncMutex<mpsc::Receiver<Flight>>>, stop: CancellationToken) {
    let mut flights = Vec::new();
    loop {
        // What waits for the broker stays with its caller, who knows for how long.
        let take = async { if lane.usable().await { taken.lock().await.recv_many(&mut flights, 32).await } else { 0 } };
        tokio::select! {
            taken = take => if taken == 0 { return },
            () = stop.cancelled() => return,
        }
        let (mut parcels, mut ends) = (Vec::new(), Vec::new());
        for flight in flights.drain(..) {
            let Some(batch) = lock(&flight.parcels).take() else { continue };
            ends.push((batch.len(), flight.done));
            parcels.extend(batch);
        }
        let mut results = Vec::with_capacity(parcels.len());
        while results.len() < parcels.len() {
            let rest = &parcels[results.len()..];
            let mut bytes = 0;
            let count = rest.iter().take(FLUSH.0).take_while(|one| {
                let first = bytes == 0;
                bytes += one.body.len() + 1;
                first || bytes <= FLUSH.1
            });
            let count = count.count();
            tokio::select! {
                sent = lane.flush(&rest[..count]) => results.extend(sent),
                // Whoever waits learns of the end by itself.
                () = stop.cancelled() => return,
            }
        }
        let mut results = results.into_iter();
        for (count, done) in ends {
            // Whoever asked may have gone.
            let _ = done.send(results.by_ref().take(count).collect());
        }
    }
}
