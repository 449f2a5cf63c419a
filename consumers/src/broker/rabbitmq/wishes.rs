//! What a subscription wants of its feed: the latest credit, cancels that wait for their promise,
//! and whether it is still there.
//!
//! Owns the way from the one to the other: saying it never waits, and what was said while the feed
//! was busy is heard as one. Refuses to do any of it: that is the feed's.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

use crate::broker::{Delivery, Steer};

/// All that was said and not yet heard.
#[derive(Debug)]
pub struct Wish {
    /// How many may be in hand.
    pub credit: u32,
    /// Who waits for the promise that nothing more is sent.
    pub cancels: Vec<oneshot::Sender<()>>,
    /// The subscription was dropped.
    pub gone: bool,
}

/// The feed's end; what comes after it is dropped is answered with the end.
#[derive(Debug)]
pub struct Wishes(Arc<Shared>);

/// The subscription's end.
#[derive(Debug)]
pub struct Wheel(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// None once nobody hears it any more.
    wish: Mutex<Option<Wish>>,
    said: Notify,
}

/// Both ends, with the first credit.
pub fn pair(credit: u32) -> (Wheel, Wishes) {
    let wish = Wish { credit, cancels: Vec::new(), gone: false };
    let shared = Arc::new(Shared { wish: Mutex::new(Some(wish)), said: Notify::new() });
    (Wheel(Arc::clone(&shared)), Wishes(shared))
}

impl Shared {
    fn wish(&self) -> MutexGuard<'_, Option<Wish>> {
        self.wish.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, change: impl FnOnce(&mut Wish)) {
        if let Some(wish) = &mut *self.wish() {
            change(wish);
        }
        self.said.notify_one();
    }
}

impl Wishes {
    /// The latest, once something was said. Cancel-safe.
    pub async fn heard(&self) -> Wish {
        loop {
            self.0.said.notified().await;
            if let Some(wish) = &mut *self.0.wish() {
                return Wish { cancels: std::mem::take(&mut wish.cancels), ..*wish };
            }
        }
    }
}

impl Drop for Wishes {
    fn drop(&mut self) {
        *self.0.wish() = None;
    }
}

impl Steer for Wheel {
    fn credit(&self, credit: u32) {
        self.0.say(|wish| wish.credit = credit);
    }

    fn cancel(&self, done: oneshot::Sender<()>) {
        self.0.say(|wish| {
            wish.cancels.retain(|waiting| !waiting.is_closed());
            wish.cancels.push(done);
        });
    }

    fn dropped(&self, left: Vec<Delivery>) {
        // Said first: what goes back must not come straight back to the same feed.
        self.0.say(|wish| wish.gone = true);
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn the_latest_credit_wins_and_is_heard_once() {
        let (wheel, wishes) = pair(1);
        (2..5).for_each(|credit| wheel.credit(credit));
        assert_eq!(wishes.heard().await.credit, 4);
        assert!(wishes.heard().now_or_never().is_none());
    }

    #[tokio::test]
    async fn a_cancel_that_nobody_will_hear_is_answered_with_the_end() {
        let (wheel, wishes) = pair(1);
        let [(early, heard), (late, unheard)] = [oneshot::channel(), oneshot::channel()];
        wheel.cancel(early);
        drop(wishes);
        wheel.cancel(late);
        assert!(heard.await.is_err() && unheard.await.is_err());
    }

    #[tokio::test]
    async fn all_that_was_said_is_heard_together() {
        let (wheel, wishes) = pair(1);
        let (done, promised) = oneshot::channel();
        wheel.cancel(done);
        wheel.dropped(Vec::new());
        let wish = wishes.heard().await;
        assert!(wish.gone && wish.cancels.len() == 1);
        assert!(wish.cancels.into_iter().all(|done| done.send(()).is_ok()));
        assert!(promised.await.is_ok());
    }
}
