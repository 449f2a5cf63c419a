//! What a program may want of triggers.

use reqwest::Method;
use spinor_consumers::results::{Backfilled, TriggerRow};

use super::{Client, ClientError, segment};
use crate::api::{Asked, FiredTick, NewBackfill, NewTrigger, TriggerShown, Triggers};

impl Client {
    /// Every trigger, and who fires.
    pub async fn triggers(&self) -> Result<Triggers, ClientError> {
        self.get("/triggers", &()).await
    }

    /// One trigger with so many coming and past instants.
    pub async fn trigger(&self, name: &str, limit: u32) -> Result<TriggerShown, ClientError> {
        self.get(&format!("/triggers/{}", segment(name)), &[("limit", limit)]).await
    }

    /// Adds a trigger; it fires from now on.
    pub async fn add_trigger(&self, new: &NewTrigger) -> Result<TriggerRow, ClientError> {
        self.post("/triggers", new).await
    }

    /// Puts another in the place of one.
    pub async fn edit_trigger(&self, name: &str, new: &NewTrigger) -> Result<TriggerRow, ClientError> {
        self.ask(Method::PUT, &format!("/triggers/{}", segment(name)), new).await
    }

    /// Lets nothing of it fire.
    pub async fn pause_trigger(&self, name: &str, asked: &Asked) -> Result<TriggerRow, ClientError> {
        self.post(&format!("/triggers/{}/pause", segment(name)), asked).await
    }

    /// Ends that. `free`: the job that the next one may not overlap is forgotten.
    pub async fn resume_trigger(&self, name: &str, free: bool, asked: &Asked) -> Result<TriggerRow, ClientError> {
        self.post(&format!("/triggers/{}/resume?free={free}", segment(name)), asked).await
    }

    /// Fires it now.
    pub async fn fire_trigger(&self, name: &str, asked: &Asked) -> Result<FiredTick, ClientError> {
        self.post(&format!("/triggers/{}/fire", segment(name)), asked).await
    }

    /// Fires what did not fire of a span that is past, a step of it.
    pub async fn backfill_trigger(&self, name: &str, asked: &NewBackfill) -> Result<Backfilled, ClientError> {
        self.post(&format!("/triggers/{}/backfill", segment(name)), asked).await
    }

    /// Removes it with its history.
    pub async fn remove_trigger(&self, name: &str, asked: &Asked) -> Result<TriggerRow, ClientError> {
        self.ask(Method::DELETE, &format!("/triggers/{}", segment(name)), asked).await
    }
}
