//! Failures, dead letters and replays, as a client asks for them.

use reqwest::Method;
use spinor_consumers::results::{DeadLetter, Failures, Page, ReplayRow};
use uuid::Uuid;

use super::{Client, ClientError, TAKEN};
use crate::api::{
    DeadRecord, FailureQuery, FailureRecord, Letters, Matched, NewReplay, NewReplays, OrderedReplay, Removed,
    ReplayedJob,
};

impl Client {
    /// Jobs that ended badly, grouped by fingerprint, the last seen first.
    pub async fn failures(&self, query: &FailureQuery) -> Result<Failures, ClientError> {
        self.get("/failures", query).await
    }

    /// One group of failures with the newest of its jobs.
    pub async fn failure(&self, fingerprint: &str) -> Result<FailureRecord, ClientError> {
        self.get(&format!("/failures/{fingerprint}"), &()).await
    }

    /// Starts an ended job anew.
    pub async fn replay(&self, id: Uuid, new: &NewReplay) -> Result<ReplayedJob, ClientError> {
        self.post(&format!("/jobs/{id}/replay"), new).await
    }

    /// Dead letters, newest first.
    pub async fn dead(&self, letters: &Letters) -> Result<Page<DeadLetter>, ClientError> {
        self.get("/dead", letters).await
    }

    /// One dead letter with its message.
    pub async fn letter(&self, id: Uuid) -> Result<DeadRecord, ClientError> {
        self.get(&format!("/dead/{id}"), &()).await
    }

    /// Starts the job of a dead letter anew.
    pub async fn replay_dead(&self, id: Uuid, new: &NewReplay) -> Result<ReplayedJob, ClientError> {
        self.post(&format!("/dead/{id}/replay"), new).await
    }

    /// Removes one dead letter.
    pub async fn remove_letter(&self, id: Uuid) -> Result<Removed, ClientError> {
        let response = self.send(self.request(Method::DELETE, &format!("/dead/{id}")).timeout(TAKEN)).await?;
        self.read(response).await
    }

    /// Removes the dead letters that match, or counts them.
    pub async fn remove_letters(&self, letters: &Letters) -> Result<Removed, ClientError> {
        let response = self.send(self.request(Method::DELETE, "/dead").query(letters).timeout(TAKEN)).await?;
        self.read(response).await
    }

    /// Counts the jobs that a replay would start anew.
    pub async fn count_replays(&self, new: &NewReplays) -> Result<Matched, ClientError> {
        self.post("/replays", &NewReplays { dry_run: true, ..new.clone() }).await
    }

    /// Orders a replay of all that match; it goes on by itself.
    pub async fn order_replay(&self, new: &NewReplays) -> Result<OrderedReplay, ClientError> {
        self.post("/replays", &NewReplays { dry_run: false, ..new.clone() }).await
    }

    /// Replays, newest first.
    pub async fn replays(&self, limit: u32, cursor: Option<&str>) -> Result<Page<ReplayRow>, ClientError> {
        let mut query = vec![("limit", limit.to_string())];
        query.extend(cursor.map(|cursor| ("cursor", cursor.to_owned())));
        self.get("/replays", &query).await
    }

    /// How far a replay has come.
    pub async fn replay_row(&self, id: Uuid) -> Result<ReplayRow, ClientError> {
        self.get(&format!("/replays/{id}"), &()).await
    }

    /// Stops a replay; what it has published stays.
    pub async fn stop_replay(&self, id: Uuid) -> Result<ReplayRow, ClientError> {
        self.post(&format!("/replays/{id}/stop"), &()).await
    }
}
