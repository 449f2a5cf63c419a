//! What a program may want of jobs, runs, queues, consumers and limits: cancel, pause, drain, scale, bound.
//!
//! Each is a durable fact once the call returns; who obeys it may do so a moment later.

use reqwest::Method;
use uuid::Uuid;

use super::{Client, ClientError, segment};
use crate::api::{
    Asked, BrokerShown, CancelRequested, ConsumerRow, ConsumersMarked, GroupRow, KeyRow, KindRow, LimitRow, LockFilter,
    Locks, NewLimit, NewScale, NewSlots, QueuePause, RetriedRun,
};

impl Client {
    /// Asks for a job to end, or not to run; refused when it has ended.
    pub async fn cancel_job(&self, id: Uuid, asked: &Asked) -> Result<CancelRequested, ClientError> {
        self.post(&format!("/jobs/{id}/cancel"), asked).await
    }

    /// The same for every job of a run.
    pub async fn cancel_run(&self, id: Uuid, asked: &Asked) -> Result<CancelRequested, ClientError> {
        self.post(&format!("/runs/{id}/cancel"), asked).await
    }

    /// Does again what did not succeed of a run of jobs that has ended.
    pub async fn retry_run(&self, id: Uuid, asked: &Asked) -> Result<RetriedRun, ClientError> {
        self.post(&format!("/runs/{id}/retry"), asked).await
    }

    /// Holds back the jobs of a queue; what runs goes on.
    pub async fn pause_queue(&self, queue: &str, asked: &Asked) -> Result<QueuePause, ClientError> {
        self.post(&format!("/queues/{}/pause", segment(queue)), asked).await
    }

    /// Ends that.
    pub async fn resume_queue(&self, queue: &str, asked: &Asked) -> Result<QueuePause, ClientError> {
        self.post(&format!("/queues/{}/resume", segment(queue)), asked).await
    }

    /// The broker: our objects on it, or the files of the embedded one.
    pub async fn broker(&self) -> Result<BrokerShown, ClientError> {
        self.get("/broker", &()).await
    }

    /// The kinds that somebody serves, or served, by name.
    pub async fn kinds(&self) -> Result<Vec<KindRow>, ClientError> {
        self.get("/kinds", &()).await
    }

    /// One of them.
    pub async fn kind(&self, kind: &str) -> Result<KindRow, ClientError> {
        self.get(&format!("/kinds/{}", segment(kind)), &()).await
    }

    /// The consumers that are alive, by name.
    pub async fn consumers(&self) -> Result<Vec<ConsumerRow>, ClientError> {
        self.get("/consumers", &()).await
    }

    /// One of them.
    pub async fn consumer(&self, name: &str) -> Result<ConsumerRow, ClientError> {
        self.get(&format!("/consumers/{}", segment(name)), &()).await
    }

    /// The groups that have a consumer or shall have one, by name.
    pub async fn groups(&self) -> Result<Vec<GroupRow>, ClientError> {
        self.get("/consumers/groups", &()).await
    }

    /// Lets a consumer take no more jobs and end.
    pub async fn drain_consumer(&self, name: &str, asked: &Asked) -> Result<ConsumersMarked, ClientError> {
        self.post(&format!("/consumers/{}/drain", segment(name)), asked).await
    }

    /// The same for all of a group that are alive now.
    pub async fn drain_group(&self, group: &str, asked: &Asked) -> Result<ConsumersMarked, ClientError> {
        self.post(&format!("/groups/{}/drain", segment(group)), asked).await
    }

    /// How many jobs a consumer runs at once.
    pub async fn set_consumer_slots(&self, name: &str, slots: &NewSlots) -> Result<ConsumersMarked, ClientError> {
        self.post(&format!("/consumers/{}/slots", segment(name)), slots).await
    }

    /// How many jobs each consumer of a group runs at once.
    pub async fn set_group_slots(&self, group: &str, slots: &NewSlots) -> Result<ConsumersMarked, ClientError> {
        self.post(&format!("/groups/{}/slots", segment(group)), slots).await
    }

    /// How many consumers a group shall have; tells how many there are.
    pub async fn scale(&self, group: &str, scale: &NewScale) -> Result<GroupRow, ClientError> {
        self.post(&format!("/groups/{}/scale", segment(group)), scale).await
    }

    /// Limits, and unique keys that jobs have.
    pub async fn locks(&self, filter: &LockFilter) -> Result<Locks, ClientError> {
        self.get("/locks", filter).await
    }

    /// Bounds a limit, in place of what the configuration says.
    pub async fn set_limit(&self, name: &str, limit: &NewLimit) -> Result<LimitRow, ClientError> {
        self.ask(Method::PUT, &format!("/limits/{}", segment(name)), limit).await
    }

    /// Lets the configuration bound it again, or nobody.
    pub async fn clear_limit(&self, name: &str, asked: &Asked) -> Result<LimitRow, ClientError> {
        self.ask(Method::DELETE, &format!("/limits/{}", segment(name)), asked).await
    }

    /// Gives a unique key back in the place of the job that has it; that job goes on.
    pub async fn free_key(&self, key: &str, asked: &Asked) -> Result<KeyRow, ClientError> {
        self.ask(Method::DELETE, &format!("/keys/{}", segment(key)), asked).await
    }
}
