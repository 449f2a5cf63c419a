//! Hears what an execution says while it runs: step reports go to the reply queue and are
//! confirmed before the job's own report leaves; the rest becomes lossy events.

use std::{collections::VecDeque, future::Future};

use bytes::Bytes;
use spinor_executors::{Emission, Job, Report, Stream};
use tokio::{
    sync::{Notify, mpsc},
    time::{Duration, sleep},
};

use crate::{
    broker::{AnyBroker, Broker, Event, Receipt},
    entry,
};

/// Emissions that may wait to be heard.
pub const DEPTH: usize = 64;
/// An execution that takes longer is announced to whoever watches; shorter ones only flash by.
const WORTH_SHOWING: Duration = Duration::from_millis(50);

/// Listens to one execution.
pub struct Ears<'a> {
    broker: &'a AnyBroker,
    job: &'a Job,
    consumer: &'a str,
    heard: mpsc::Receiver<Emission>,
    progressed: &'a Notify,
    shown: bool,
    unconfirmed: VecDeque<(Vec<Bytes>, Receipt)>,
}

impl<'a> Ears<'a> {
    /// Ears for an execution of `job`.
    /// A step that ends is told to `progressed`.
    pub const fn new(
        broker: &'a AnyBroker,
        job: &'a Job,
        consumer: &'a str,
        heard: mpsc::Receiver<Emission>,
        progressed: &'a Notify,
    ) -> Self {
        Self { broker, job, consumer, heard, progressed, shown: false, unconfirmed: VecDeque::new() }
    }

    /// Runs the execution and passes on what it says; every step report is confirmed at return.
    pub async fn during<T>(&mut self, run: impl Future<Output = T>) -> T {
        tokio::pin!(run);
        let show = sleep(WORTH_SHOWING);
        tokio::pin!(show);
        let mut batch = Vec::new();
        let end = loop {
            tokio::select! {
                // The execution first: one that ends at once costs neither timer nor channel.
                biased;
                end = &mut run => break end,
                _ = self.heard.recv_many(&mut batch, DEPTH) => self.pass_on(&mut batch),
                () = &mut show, if !self.shown => self.show(),
            }
        };
        while let Ok(emission) = self.heard.try_recv() {
            batch.push(emission);
        }
        self.pass_on(&mut batch);
        self.confirm().await;
        end
    }

    /// Tells whoever watches that it ended.
    pub fn ended(&self, report: Report) {
        if self.shown || self.job.run.is_some() {
            self.broker.cast(Event::Ended { report: Box::new(report) });
        }
    }

    fn show(&mut self) {
        self.shown = true;
        self.broker.cast(Event::Started {
            job: self.job.id,
            run: self.job.run,
            attempt: self.job.attempt,
            consumer: self.consumer.to_owned(),
        });
    }

    fn pass_on(&mut self, batch: &mut Vec<Emission>) {
        let mut lines = Vec::new();
        for emission in batch.drain(..) {
            match emission {
                Emission::Output(stream, bytes) => self.output(stream, &bytes),
                Emission::Progress(progress) => {
                    self.broker.cast(Event::Progress { job: self.job.id, run: self.job.run, progress });
                }
                Emission::Steps(reports) => {
                    self.progressed.notify_one();
                    for report in reports {
                        lines.push(entry::step_line(&report));
                        self.broker.cast(Event::Step { report: Box::new(report) });
                    }
                }
            }
        }
        if !lines.is_empty() {
            let receipt = self.broker.report(lines.clone());
            self.unconfirmed.push_back((lines, receipt));
        }
    }

    fn output(&mut self, stream: Stream, bytes: &Bytes) {
        if !self.shown {
            self.show();
        }
        let text = String::from_utf8_lossy(bytes).into_owned();
        self.broker.cast(Event::Output { job: self.job.id, run: self.job.run, stream, text });
    }

    /// A job's own report must not overtake its steps: a crash between the two would lose them.
    async fn confirm(&mut self) {
        while let Some((lines, receipt)) = self.unconfirmed.pop_front() {
            if receipt.await.is_err() {
                // Repeated lines are harmless; a lost one is not.
                let again = self.broker.report(lines.clone());
                self.unconfirmed.push_back((lines, again));
                sleep(Duration::from_secs(1)).await;
            }
        }
    }
}
