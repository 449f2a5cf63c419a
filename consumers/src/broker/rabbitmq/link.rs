//! One link state out of two connections, and its log lines: the first loss, then silence, then
//! one line with the downtime. Refuses to reconnect anything.

use tokio::{sync::watch, time::Instant};
use tokio_util::task::TaskTracker;

use super::connection::State;
use crate::broker::Link;

/// Watches both connections until they are closed.
pub fn watch_both(
    mut publishing: watch::Receiver<State>,
    mut consuming: watch::Receiver<State>,
    tasks: &TaskTracker,
) -> watch::Receiver<Link> {
    let (link, watched) = watch::channel(Link::Up);
    tasks.spawn(async move {
        let mut lost: Option<Instant> = None;
        loop {
            let now = both(&publishing.borrow_and_update(), &consuming.borrow_and_update());
            if *link.borrow() != now {
                log(&now, &mut lost);
                link.send_replace(now.clone());
            }
            if now == Link::Closed {
                return;
            }
            let changed = tokio::select! {
                changed = publishing.changed() => changed,
                changed = consuming.changed() => changed,
            };
            if changed.is_err() {
                link.send_replace(Link::Closed);
                return;
            }
        }
    });
    watched
}

fn both(publishing: &State, consuming: &State) -> Link {
    match (publishing, consuming) {
        (State::Closed, _) | (_, State::Closed) => Link::Closed,
        (State::Down(why), _) | (_, State::Down(why)) => Link::Down { why: why.clone() },
        (State::Blocked(_, why), _) => Link::Blocked { why: why.clone() },
        _ => Link::Up,
    }
}

fn log(now: &Link, lost: &mut Option<Instant>) {
    match now {
        Link::Down { why } if lost.is_none() => {
            *lost = Some(Instant::now());
            tracing::warn!(why, "The broker is lost; jobs wait, and the connection is retried.");
        }
        Link::Blocked { why } if lost.is_none() => {
            *lost = Some(Instant::now());
            tracing::warn!(why, "The broker takes no messages for now.");
        }
        Link::Up => {
            if let Some(since) = lost.take() {
                tracing::info!(downtime_seconds = since.elapsed().as_secs_f64(), "The broker is back.");
            }
        }
        _ => {}
    }
}
