//! Who listens to events: a ring each, so that a slow one loses its oldest and delays nobody.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::broker::{Event, EventSink, Events, Topic};

/// A listener that is further behind loses its oldest.
const RING: usize = 4096;

/// Everybody who listens.
#[derive(Debug, Default)]
pub(super) struct Listeners(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    all: Vec<(Topic, EventSink)>,
    ended: bool,
}

impl Listeners {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new listener; `None` after the end.
    pub(super) fn add(&self, topic: Topic) -> Option<Events> {
        let mut state = self.lock();
        if state.ended {
            return None;
        }
        let (sink, events) = Events::ring(RING);
        state.all.push((topic, sink));
        Some(events)
    }

    /// To everybody whose topic it is.
    pub(super) fn cast(&self, event: &Event) {
        self.lock()
            .all
            .retain(|(topic, sink)| if event.matches(topic) { sink.offer(event.clone()) } else { sink.is_heard() });
    }

    /// Ends every stream.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        state.ended = true;
        state.all.clear();
    }
}
