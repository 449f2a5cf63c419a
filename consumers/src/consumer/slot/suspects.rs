//! Redelivered jobs: whether another consumer holds them, what the death of a holder costs them,
//! and how they start.

use jiff::Timestamp;
use spinor_executors::{Cause, HeaderValue, Job, State};
use tokio::{sync::OwnedSemaphorePermit, time::Duration};
use uuid::Uuid;

use super::{Reason, Slots};
use crate::{
    broker::{Address, Broker, Delivery, Keeps, Outgoing, Settlement},
    consumer::{asking::Asked, intake::give_back, verdict},
    entry,
    message::{Past, Probation, header},
};

/// What cannot be asked for, or start alone, now comes again after this long.
const LATER: Duration = Duration::from_secs(5);

impl Slots {
    /// A job that another consumer holds waits for that one's answer, outside the slot.
    pub(super) fn unless_held(&self, job: Job, journaled: bool, mut delivery: Delivery) -> Option<(Job, Delivery)> {
        if !delivery.redelivered || !delivery.message.properties.headers.contains_key(header::HOLDER) {
            return Some((job, delivery));
        }
        let mut past = Past::of(&delivery.message.properties);
        match past.holder {
            Some(holder) if !self.holding.holders.has(holder) => {
                let id = job.id;
                let asked = Asked { job, journaled, delivery, holder };
                if self.broker.keeps() == Keeps::Starts {
                    // The holder was a process that had this broker in it, and is gone with it.
                    return self.charge(asked).map(|asked| (asked.job, asked.delivery));
                }
                if let Some(delivery) = self.asking.ask(asked) {
                    let why = "it came back from a consumer that has yet to say whether it runs it";
                    self.away.note(id, Reason::Holder, why, LATER);
                    self.put_off(delivery, LATER);
                }
                None
            }
            _ => {
                past.holder = None;
                past.write(&mut delivery.message.properties.headers);
                Some((job, delivery))
            }
        }
    }

    /// A holder answered: it runs the job, and gets it back, or it does not.
    pub fn holder_answered(&self, asked: Asked, running: bool) {
        let Asked { job, mut delivery, holder, .. } = asked;
        if running {
            let to = Address::Held { holder, queue: job.queue };
            let copy = Outgoing { to, message: delivery.message.clone(), must: true };
            return self.settle(delivery, Settlement { publish: vec![copy], ..Settlement::default() });
        }
        let past = Past { holder: None, ..Past::of(&delivery.message.properties) };
        past.write(&mut delivery.message.properties.headers);
        self.intake.arrive(&self.broker, &mut vec![delivery]);
    }

    /// A holder is dead: the job is charged, and runs here, or is parked. Not by a delivery whose own
    /// link was lost meanwhile: it comes again, and its dead letter could not be sent for it.
    pub fn holder_died(&self, asked: Asked) {
        if !self.broker.in_hand(&asked.delivery.tag) {
            return self.settle(asked.delivery, Settlement::default());
        }
        if let Some(asked) = self.charge(asked) {
            self.intake.arrive(&self.broker, &mut vec![asked.delivery]);
        }
    }

    /// What waits for an answer goes back.
    pub fn stop_asking(&self) {
        for asked in self.asking.close() {
            give_back(&self.broker, &self.holding.holders, asked.delivery);
        }
    }

    fn charge(&self, asked: Asked) -> Option<Asked> {
        let Asked { job, journaled, mut delivery, holder } = asked;
        let mut past = Past::of(&delivery.message.properties);
        let goes_on = past.charge();
        let why = (!goes_on).then(|| past.verdict());
        tracing::warn!(
            job = %job.id, queue = job.queue, attempt = job.attempt, kind = job.kind, %holder, held_by = past.held_by.as_deref(), crashes = past.crashes,
            returns = past.returns, parked = !goes_on, "A job came back from a consumer that died."
        );
        // A dead letter names the last holder.
        past.holder = past.holder.filter(|_| !goes_on);
        past.write(&mut delivery.message.properties.headers);
        let Some(why) = why else {
            return Some(Asked { job, journaled, delivery, holder });
        };
        let report = self.blank(&job, journaled, Uuid::nil(), Timestamp::now());
        let report = verdict::unrun(report, State::Dead, Cause::Crash, why.clone());
        self.free_key(&job);
        self.bury(delivery, &why, vec![entry::report_line(&report)]);
        None
    }

    /// How a job starts that may have been started before: on probation, and held where the broker
    /// keeps copies. `None`: it has to start alone, and the place is taken.
    pub(super) async fn suspect(
        &self,
        job: &Job,
        journaled: bool,
        delivery: Delivery,
    ) -> Option<(Delivery, Past, Option<OwnedSemaphorePermit>)> {
        let mut past = Past::of(&delivery.message.properties);
        let start = past.next_start();
        let mut permit = None;
        if start == Probation::Alone {
            permit = self.holding.alone().await;
            if permit.is_none() {
                let why = "it came back from a consumer that died, starts alone, and another one does now";
                self.away.note(job.id, Reason::Holder, why, LATER);
                self.put_off(delivery, LATER);
                return None;
            }
        }
        past.probation = Some(start);
        if self.broker.keeps() == Keeps::Starts {
            return Some((delivery, past, permit));
        }
        let claimed = delivery.message.properties.headers.contains_key(header::CLAIM);
        let copy = self.holding.copy(job, journaled, claimed, &past);
        let held = self.holding.hold((job.id, job.replay, job.attempt), delivery, copy).await;
        Some((held, past, permit))
    }

    /// Back to its queue after a while, with all it tells of. The broker does not know that it is the
    /// same: what may have been claimed says so itself, or it would be taken for a mere copy.
    pub(super) fn put_off(&self, delivery: Delivery, after: Duration) {
        let to = Address::Delayed { queue: delivery.queue.clone(), after };
        let mut message = delivery.message.clone();
        if delivery.redelivered || delivery.started {
            message.properties.headers.insert(header::AGAIN.to_owned(), HeaderValue::Bool(true));
        }
        let copy = Outgoing { to, message, must: true };
        self.settle(delivery, Settlement { publish: vec![copy], ..Settlement::default() });
    }

    /// A consumer asks whether this one runs an attempt; an answer to a question of this one.
    pub fn hear(&self, event: &crate::broker::Event) {
        use crate::broker::Event;
        match *event {
            Event::WhoHolds { holder, job, replay, attempt } if self.holding.holders.has(holder) => {
                let running = self.running.look(&(job, replay, attempt), |_| ()).is_some();
                self.broker.cast(Event::Holds { holder, job, replay, attempt, running });
            }
            Event::Holds { holder, job, replay, attempt, running } => {
                for asked in self.asking.answered(holder, (job, replay, attempt)) {
                    self.holder_answered(asked, running);
                }
            }
            _ => {}
        }
    }

    /// Asks until told to stop.
    pub async fn ask(&self, stop: tokio_util::sync::CancellationToken) {
        self.asking.run(|asked| self.holder_died(asked), stop).await;
    }
}
