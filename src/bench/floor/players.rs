//! Deliveries through the processes of a program, on their way from the queue to their reports: what the
//! raw loop and the frames cost when they share the machine, as they must for each real job.

use std::{
    collections::BTreeMap,
    future::ready,
    path::Path,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
};

use anyhow::{Context as _, Result};
use futures_util::{Stream, StreamExt, stream};
use jiff::Timestamp;
use lapin::{Consumer, message::Delivery, types::ShortString};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::ping_pong::Player;

/// A team that is up.
pub struct Players {
    players: Vec<Player>,
    args: String,
}

impl Players {
    /// Starts so many processes of a program, for jobs with these args.
    pub fn start(program: &Path, processes: usize, args: &str) -> Result<Self> {
        let players = (0..processes.max(1)).map(|_| Player::start(program)).collect::<Result<Vec<_>>>()?;
        Ok(Self { players, args: args.to_owned() })
    }

    /// Everything that comes, in the order of its coming, once its process has answered; at most so many in hand.
    pub fn through(self, deliveries: Consumer, prefetch: u16) -> impl Stream<Item = Result<Delivery>> + Unpin {
        let ((hand_out, todo), (answer, done)) = (mpsc::sync_channel(prefetch.into()), channel(prefetch.into()));
        let todo = Arc::new(Mutex::new(todo));
        for player in self.players {
            let (todo, answer, args) = (Arc::clone(&todo), answer.clone(), self.args.clone());
            thread::spawn(move || play(player, &args, &todo, &answer));
        }
        let feeding = stream::once(feed(deliveries, hand_out)).filter_map(|()| ready(None));
        Box::pin(stream::select(feeding, in_order(done)))
    }
}

async fn feed(mut deliveries: Consumer, hand_out: mpsc::SyncSender<Result<Delivery>>) {
    while let Some(delivery) = deliveries.next().await {
        if hand_out.send(delivery.context("the subscription")).is_err() {
            return;
        }
    }
}

fn play(
    mut player: Player,
    args: &str,
    todo: &Mutex<mpsc::Receiver<Result<Delivery>>>,
    answer: &Sender<Result<Delivery>>,
) {
    let created = Timestamp::now();
    loop {
        let taken = todo.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(taken) = taken else { break };
        let played = taken.and_then(|delivery| {
            let id = delivery.properties.message_id().as_ref().map_or("", ShortString::as_str);
            player.turn(id, args, created)?;
            Ok(delivery)
        });
        if answer.blocking_send(played).is_err() {
            break;
        }
    }
    let _ = player.end();
}

/// Puts them back in order: one ack answers all up to a number.
fn in_order(done: Receiver<Result<Delivery>>) -> impl Stream<Item = Result<Delivery>> {
    stream::unfold((done, BTreeMap::new(), 1), |(mut done, mut early, next)| async move {
        loop {
            if let Some(delivery) = early.remove(&next) {
                return Some((Ok(delivery), (done, early, next + 1)));
            }
            match done.recv().await? {
                Ok(delivery) => {
                    early.insert(delivery.delivery_tag, delivery);
                }
                Err(error) => return Some((Err(error), (done, early, next))),
            }
        }
    })
}
