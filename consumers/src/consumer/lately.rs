//! What this consumer answered a moment ago: a redelivery of it is answered again from memory,
//! without running. Bounded by count and bytes; forgetting one costs a look-up, never a job.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use spinor_executors::pool::AttemptKey;

use crate::broker::{Outgoing, Settlement, Verdict};

/// So many answers are remembered.
const COUNT: usize = 2000;
/// And so many bytes of them.
const BYTES: usize = 4 << 20;

/// The answers given lately.
#[derive(Default)]
pub struct Lately(Mutex<Memory>);

#[derive(Default)]
struct Memory {
    answers: HashMap<AttemptKey, Answer>,
    order: VecDeque<AttemptKey>,
    bytes: usize,
}

struct Answer {
    lines: Vec<bytes::Bytes>,
    publish: Vec<Outgoing>,
    size: usize,
}

impl Lately {
    /// Remembers an answer.
    pub fn remember(&self, key: AttemptKey, settlement: &Settlement) {
        let size = size(settlement);
        if settlement.verdict != Verdict::Ack || size > BYTES / 16 {
            return;
        }
        let mut memory = self.lock();
        let answer = Answer { lines: settlement.lines.clone(), publish: settlement.publish.clone(), size };
        memory.bytes += size;
        if let Some(old) = memory.answers.insert(key, answer) {
            memory.bytes -= old.size;
        } else {
            memory.order.push_back(key);
        }
        while memory.order.len() > COUNT || memory.bytes > BYTES {
            let Some(oldest) = memory.order.pop_front() else { break };
            if let Some(gone) = memory.answers.remove(&oldest) {
                memory.bytes -= gone.size;
            }
        }
    }

    /// The answer given to this attempt, to be given again: every line is idempotent.
    pub fn recall(&self, key: &AttemptKey) -> Option<Settlement> {
        let memory = self.lock();
        let answer = memory.answers.get(key)?;
        Some(Settlement { lines: answer.lines.clone(), publish: answer.publish.clone(), verdict: Verdict::Ack })
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn size(settlement: &Settlement) -> usize {
    let lines: usize = settlement.lines.iter().map(bytes::Bytes::len).sum();
    let messages: usize = settlement.publish.iter().map(|out| out.message.body.len() + 500).sum();
    lines + messages
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn answer(bytes: usize) -> Settlement {
        Settlement { lines: vec![vec![b'x'; bytes].into()], ..Settlement::default() }
    }

    #[test]
    fn the_oldest_are_forgotten_first_and_a_giant_is_not_kept() {
        let lately = Lately::default();
        let keys: Vec<AttemptKey> = (0..COUNT + 1).map(|_| (Uuid::now_v7(), 0, 1)).collect();
        for key in &keys {
            lately.remember(*key, &answer(10));
        }
        assert!(lately.recall(&keys[0]).is_none());
        assert!(lately.recall(&keys[1]).is_some_and(|again| again.lines[0].len() == 10));
        let giant = (Uuid::now_v7(), 0, 1);
        lately.remember(giant, &answer(BYTES));
        assert!(lately.recall(&giant).is_none() && lately.recall(&keys[1]).is_some());
    }

    #[test]
    fn a_hand_back_is_no_answer() {
        let lately = Lately::default();
        let key = (Uuid::now_v7(), 0, 1);
        lately.remember(key, &Settlement { verdict: Verdict::HandBack, ..answer(1) });
        assert!(lately.recall(&key).is_none());
    }
}
