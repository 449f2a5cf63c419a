//! The gate: writes that come together go through in one transaction.
//!
//! Owns the batching, the deadlock retry, and that each caller gets its own answer. No task of its
//! own: whoever finds the gate free takes along who waits. A caller that gives up in the middle
//! breaks nobody's write: what may be done again is done again.

use std::{
    mem,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::oneshot;

use super::{Answer, Operation, Step, Tables};
use crate::{
    database::errors::is_deadlock,
    results::{ResultsError, jitter},
    state::StateError,
};

/// Writes to one transaction: enough to share a commit, few enough to hold no lock for long.
const BATCH: usize = 64;
const DEADLOCK_TRIES: u32 = 8;

type Answered = Result<Answer, StateError>;

struct Request {
    operation: Arc<Operation>,
    answer: oneshot::Sender<Answered>,
}

/// Who waits, and who is at it.
#[derive(Default)]
pub struct Gate {
    waiting: Mutex<Vec<Request>>,
    writer: tokio::sync::Mutex<()>,
}

impl Gate {
    fn ask(&self, operation: &Arc<Operation>) -> oneshot::Receiver<Answered> {
        let (answer, answered) = oneshot::channel();
        let request = Request { operation: Arc::clone(operation), answer };
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(request);
        answered
    }

    /// The first who wait and still want an answer.
    fn batch(&self) -> Vec<Request> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|request| !request.answer.is_closed());
        let end = waiting.len().min(BATCH);
        let rest = waiting.split_off(end);
        mem::replace(&mut *waiting, rest)
    }
}

impl Tables {
    /// Does something, together with what others want to do just now.
    pub(super) async fn write(&self, operation: Operation) -> Answered {
        let operation = Arc::new(operation);
        let mut answered = self.gate.ask(&operation);
        loop {
            tokio::select! {
                biased;
                answer = &mut answered => match answer {
                    Ok(answer) => return answer,
                    // Who had taken it along gave up.
                    Err(_) => answered = self.gate.ask(&operation),
                },
                _writer = self.gate.writer.lock() => {
                    let batch = self.gate.batch();
                    if !batch.is_empty() {
                        self.through(batch).await;
                    }
                }
            }
        }
    }

    async fn through(&self, batch: Vec<Request>) {
        let operations: Vec<_> = batch.iter().map(|request| Arc::clone(&request.operation)).collect();
        let answers = match self.together(&operations).await {
            Ok(answers) => answers.into_iter().map(Ok).collect(),
            // The database refuses something: whoever asks for the impossible asks alone.
            Err(StateError::Misconfigured(_)) if batch.len() > 1 => {
                let mut answers = Vec::with_capacity(batch.len());
                for operation in &operations {
                    let one = self.together(std::slice::from_ref(operation)).await;
                    answers.push(one.and_then(|mut all| all.pop().ok_or_else(unanswered)));
                }
                answers
            }
            Err(error) => operations.iter().map(|_| Err(error.clone())).collect::<Vec<Answered>>(),
        };
        for (request, answer) in batch.into_iter().zip(answers) {
            // Who gave up needs no answer.
            let _ = request.answer.send(answer);
        }
    }

    /// In one transaction; a deadlock is tried again.
    async fn together(&self, operations: &[Arc<Operation>]) -> Result<Vec<Answer>, StateError> {
        let mut tries = 1;
        loop {
            match self.once(operations).await {
                Err(error) if is_deadlock(&error) && tries < DEADLOCK_TRIES => {
                    tokio::time::sleep(Duration::from_millis(u64::from(2 * tries + jitter(10)))).await;
                    tries += 1;
                }
                end => return end.map_err(StateError::from),
            }
        }
    }

    async fn once(&self, operations: &[Arc<Operation>]) -> Result<Vec<Answer>, ResultsError> {
        let mut writing = self.database.begin().await?;
        let mut answers = Vec::with_capacity(operations.len());
        for operation in operations {
            let mut step = Step { texts: &self.texts, writing: &mut writing };
            answers.push(step.apply(operation).await?);
        }
        writing.commit().await?;
        Ok(answers)
    }
}

fn unanswered() -> StateError {
    StateError::Unavailable("a write was not answered".to_owned())
}
