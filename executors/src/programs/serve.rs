//! The executor whose jobs are run by the processes of a program.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bytes::BytesMut;
use tokio::sync::oneshot;

use super::{
    Program,
    life::Order,
    pool::{Places, Pool, Seat},
    turn::{Done, Turn},
    words,
};
use crate::{BoxFuture, Cause, Context, Executor, Failure, Job, Offer, Outcome, Ready, Unready};

/// A program, its processes and the kinds they serve.
#[derive(Clone)]
pub struct Programs {
    pool: Arc<Pool>,
}

impl Programs {
    /// Of one program, in places it shares with others. Nothing is started yet.
    pub fn new(program: Program, places: &Arc<Places>) -> Self {
        Self { pool: Pool::new(program, places) }
    }

    /// How many processes there are.
    #[cfg(test)]
    pub(super) fn live(&self) -> usize {
        self.pool.live()
    }

    fn not_served(&self, kind: &str) -> Option<Unready> {
        let hello = self.pool.hello()?;
        let named = self.pool.program().named();
        let served = || hello.kinds.iter().map(|kind| kind.kind.as_str()).collect::<Vec<_>>().join(", ");
        (!hello.kinds.iter().any(|one| one.kind == kind))
            .then(|| Unready(format!("the program `{named}` does not serve kind `{kind}`; it serves {}", served())))
    }

    async fn seat(&self, kind: &str) -> Result<Seat, Unready> {
        if let Some(why) = self.not_served(kind) {
            return Err(why);
        }
        let seat = self.pool.take().await?;
        // Known now at the latest.
        self.not_served(kind).map_or(Ok(seat), Err)
    }

    async fn execute(&self, job: &Job, context: &Context) -> Result<Done, Failure> {
        let failed = |cause, message| Failure { cause, message };
        let mut seat = context.take_ready().and_then(|ready| ready.downcast::<Seat>().ok()).map(|seat| *seat);
        loop {
            let seat = match seat.take() {
                Some(seat) => seat,
                None => self.seat(&job.kind).await.map_err(|why| failed(Cause::Error, why.0))?,
            };
            let execution = context.execution.to_string();
            let mut frame = BytesMut::with_capacity(job.args.bytes().len() + 512);
            words::run(job, context, &execution, &mut frame).map_err(|why| failed(Cause::Args, why))?;
            let ((answer, done), begun) = (oneshot::channel(), Arc::new(AtomicBool::new(false)));
            let turn = Turn { execution, frame, context: context.share(), begun: Arc::clone(&begun), answer };
            // The process may have gone since it was taken: then the job has not begun, and gets another.
            let done = match seat.order(Order::Turn(Box::new(turn))).await {
                Ok(()) => done.await.ok(),
                Err(_) => None,
            };
            match done {
                Some(done) => return Ok(done),
                None if begun.load(Ordering::Acquire) => {
                    return Err(failed(Cause::Crash, "nobody was left to watch the program".to_owned()));
                }
                None => {}
            }
        }
    }
}

impl Executor for Programs {
    fn run<'a>(&'a self, job: &'a Job, context: &'a Context) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            let Done { outcome, output: [stdout, stderr], exit, publish } = match self.execute(job, context).await {
                Ok(done) => done,
                Err(failure) => return Outcome::Failed(failure),
            };
            context.keep(|kept| {
                (kept.stdout, kept.stderr, kept.exit, kept.publish) = (stdout, stderr, exit, publish);
            });
            outcome
        })
    }

    fn ready<'a>(&'a self, kind: &'a str) -> Option<BoxFuture<'a, Result<Ready, Unready>>> {
        Some(Box::pin(async move {
            let seat = self.seat(kind).await?;
            let ready: Ready = Some(Box::new(seat));
            Ok(ready)
        }))
    }

    fn open(&self) {
        self.pool.open();
    }

    fn offers(&self) -> Vec<Offer> {
        let (program, trouble) = (self.pool.program(), self.pool.trouble());
        let trouble = trouble.map(|why| self.pool.unready(&why).0);
        let hello = self.pool.hello();
        let said = hello.iter().flat_map(|hello| &hello.kinds).filter(|kind| program.has(&kind.kind));
        let named = hello.as_ref().map_or_else(|| program.named(), |hello| hello.program.clone());
        let mut offers: Vec<Offer> = said
            .map(|kind| Offer {
                kind: kind.kind.clone(),
                schema: kind.schema.clone(),
                description: kind.description.clone(),
                program: named.clone(),
                trouble: trouble.clone(),
            })
            .collect();
        // What is mapped to it and not served is in trouble; a name before the first hello is not yet.
        for pattern in &program.kinds {
            let kind = pattern.text();
            let why = self.not_served(kind).map(|why| why.0).or_else(|| trouble.clone());
            let served = offers.iter().any(|offer| pattern.matches(&offer.kind));
            if !served && (why.is_some() || pattern.exact().is_some()) {
                let (kind, program) = (kind.to_owned(), named.clone());
                offers.push(Offer { kind, schema: None, description: None, program, trouble: why });
            }
        }
        offers
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.pool.close())
    }
}
