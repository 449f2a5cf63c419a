//! The question side of the search index: the words a person types, and the filters of a list.

use jiff::{Timestamp, civil::date, tz::TimeZone};
use serde_json::{Value, json};

use super::{
    SearchSettings,
    client::{Client, SearchError},
};
use crate::results::{JobFilter, JobRow, Page};

const DEFAULT_ROWS: u32 = 50;
const MOST_ROWS: u32 = 1000;

/// Asks the index; cheap to clone.
#[derive(Clone)]
pub struct SearchIndex {
    client: Client,
}

impl SearchIndex {
    /// Connects to nothing yet; fails when the settings cannot be right.
    pub fn new(settings: &SearchSettings) -> Result<Self, SearchError> {
        Client::new(settings).map(|client| Self { client })
    }

    /// Logs in without changing anything; tells the server's version.
    pub async fn check(&self) -> Result<String, SearchError> {
        self.client.version().await
    }

    /// Drops the indices of months that ended before an instant; tells their names.
    pub async fn drop_months_before(&self, before: Timestamp) -> Result<Vec<String>, SearchError> {
        let mut dropped = Vec::new();
        for (index, year, month) in self.client.months().await? {
            // A month is over when the next one has begun.
            let next = if month == 12 { date(year + 1, 1, 1) } else { date(year, month + 1, 1) };
            let ended = next.to_zoned(TimeZone::UTC).is_ok_and(|next| next.timestamp() <= before);
            if ended {
                self.client.drop(&index).await?;
                dropped.push(index);
            }
        }
        Ok(dropped)
    }

    /// Jobs in which all the words are found (`"a phrase"`, `one | other`, `-not`, `begin*`), newest
    /// first. A cursor goes on where a page ended.
    pub async fn jobs(&self, query: &str, filter: &JobFilter) -> Result<Page<JobRow>, SearchError> {
        let limit = if filter.limit == 0 { DEFAULT_ROWS } else { filter.limit.min(MOST_ROWS) };
        let answer = self.client.search(&question(query, filter, limit)?).await?;
        let hits = answer["hits"]["hits"].as_array().map(Vec::as_slice).unwrap_or_default();
        let full = hits.len() > limit as usize;
        let hits = &hits[..hits.len().min(limit as usize)];
        let rows = hits
            .iter()
            .map(|hit| serde_json::from_value(hit["_source"].clone()))
            .collect::<Result<Vec<JobRow>, _>>()
            .map_err(|error| {
                SearchError::Misconfigured(format!("the index holds documents of another program: {error}"))
            })?;
        let next = hits.last().filter(|_| full).map(|hit| hit["sort"].to_string());
        Ok(Page { rows, next, looked: None })
    }
}

fn question(query: &str, filter: &JobFilter, limit: u32) -> Result<Value, SearchError> {
    let mut terms = Vec::new();
    let words = [
        ("state", filter.state.map(|state| state.word().to_owned())),
        ("queue", filter.queue.clone()),
        ("kind", filter.kind.clone()),
        ("run", filter.run.map(|run| run.to_string())),
    ];
    for (field, word) in words {
        if let Some(word) = word {
            terms.push(json!({"term": {field: word}}));
        }
    }
    for (side, at) in [("gte", filter.since), ("lte", filter.until)] {
        if let Some(at) = at {
            terms.push(json!({"range": {"created": {side: at.to_string()}}}));
        }
    }
    let must = if query.trim().is_empty() {
        json!({"match_all": {}})
    } else {
        json!({"simple_query_string": {
            "query": query,
            "fields": ["id", "kind^3", "queue", "state", "consumer", "host", "cause", "error^2", "output", "value", "args"],
            "default_operator": "and",
            "lenient": true,
        }})
    };
    let mut body = json!({
        "size": limit + 1,
        "track_total_hits": false,
        "query": {"bool": {"must": [must], "filter": terms}},
        "sort": [{"created": {"order": "desc", "unmapped_type": "date"}}, {"id": {"order": "desc", "unmapped_type": "keyword"}}],
        "_source": {"excludes": ["args", "value", "output"]},
    });
    if let Some(cursor) = &filter.cursor {
        let after: Value = serde_json::from_str(cursor)
            .ok()
            .filter(Value::is_array)
            .ok_or_else(|| SearchError::Refused(format!("`{cursor}` is no cursor of this list")))?;
        body["search_after"] = after;
    }
    Ok(body)
}
