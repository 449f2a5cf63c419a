//! The lanes that callers' own publishes share.
//!
//! A caller's batch goes down one lane as a whole, so that it keeps its order; a lane takes every
//! batch that waits, and sends them in one go. Refuses to know what is published.

use std::sync::Arc;

use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{
    Inner, connection,
    lane::{Lane, Parcel, Sent},
};
use crate::broker::PublishError;

/// At most so many messages, or so many bytes, to a flush.
const FLUSH: (usize, usize) = (1000, 16 << 20);

/// A caller's batch on its way to a lane.
pub struct Flight {
    /// What.
    pub parcels: Vec<Parcel>,
    /// A result for each, in order.
    pub done: oneshot::Sender<Vec<Sent>>,
}

impl Inner {
    /// Sends parcels over one of the lanes, in order.
    pub(super) async fn fly(&self, parcels: Vec<Parcel>) -> Vec<Sent> {
        let count = parcels.len();
        let (done, landed) = oneshot::channel();
        let closed = || vec![Err(PublishError::Refused("the broker was closed".to_owned())); count];
        if count == 0 {
            return Vec::new();
        }
        if self.stop.is_cancelled() || self.flights.send(Flight { parcels, done }).await.is_err() {
            return closed();
        }
        tokio::select! {
            landed = landed => landed.unwrap_or_else(|_| closed()),
            () = self.stop.cancelled() => vec![Err(PublishError::Unconfirmed("the broker was closed".to_owned())); count],
        }
    }

    /// Waits until publishing is possible; false means never again.
    pub(super) async fn publishable(&self) -> bool {
        connection::up(&mut self.publishing.clone()).await.is_some()
    }
}

/// A publish lane: takes the batches that wait, sends them in one go, hands out the results.
pub async fn fly_on(mut lane: Lane, taken: Arc<Mutex<mpsc::Receiver<Flight>>>, stop: CancellationToken) {
    let mut flights = Vec::new();
    loop {
        let take = async { taken.lock().await.recv_many(&mut flights, 32).await };
        tokio::select! {
            taken = take => if taken == 0 { return },
            () = stop.cancelled() => return,
        }
        let (mut parcels, mut ends) = (Vec::new(), Vec::new());
        for flight in flights.drain(..) {
            ends.push((flight.parcels.len(), flight.done));
            parcels.extend(flight.parcels);
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
            results.extend(lane.flush(&rest[..count]).await);
        }
        let mut results = results.into_iter();
        for (count, done) in ends {
            // Whoever asked may have gone.
            let _ = done.send(results.by_ref().take(count).collect());
        }
    }
}
