//! A batch of documents on its way: the body of a bulk, and what the answer says of each.
//!
//! Pure. Refuses nothing twice: a document the mapping refuses goes once more without args and
//! value, then it is dropped and counted.

use std::ops::Range;

use serde::Deserialize;
use uuid::Uuid;

use super::{client::SearchError, document::Document};

/// No body is larger, unless one document is.
const BODY: usize = 4 << 20;

/// Documents that are not yet settled.
pub struct Bulk {
    waiting: Vec<(Document, bool)>,
    most: usize,
}

/// What one answer means.
#[derive(Debug, Default)]
pub struct Judged {
    /// Written.
    pub indexed: usize,
    /// There already.
    pub stale: usize,
    /// To be tried once more without args and value.
    pub stripped: usize,
    /// Refused for good, with the reason.
    pub dropped: Vec<(Uuid, String)>,
    /// Some must wait, and why.
    pub waiting: Option<String>,
    /// Waiting alone will not help.
    pub person: bool,
}

#[derive(Deserialize)]
struct Answer {
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    index: Word,
}

#[derive(Deserialize)]
struct Word {
    status: u16,
    #[serde(default)]
    error: Option<Why>,
}

#[derive(Deserialize)]
struct Why {
    #[serde(rename = "type", default)]
    class: String,
    #[serde(default)]
    reason: String,
}

impl Bulk {
    /// At most `most` documents to a request.
    pub fn new(documents: Vec<Document>, most: usize) -> Self {
        Self { waiting: documents.into_iter().map(|document| (document, false)).collect(), most: most.max(1) }
    }

    /// The next part to send; `None` when all are settled.
    pub fn next(&self) -> Option<Range<usize>> {
        (!self.waiting.is_empty()).then(|| 0..self.most.min(self.waiting.len()))
    }

    /// The request's body: an action line and a document line each. May end before the part does,
    /// when that is large enough.
    pub fn body(&self, part: Range<usize>, prefix: &str) -> Vec<u8> {
        let mut body = Vec::new();
        for (document, _) in &self.waiting[part] {
            let action = serde_json::json!({"index": {
                "_index": document.index(prefix),
                "_id": document.id,
                "version": document.version(),
                "version_type": "external",
            }});
            let line = format!("{action}\n{}\n", serde_json::to_string(document).unwrap_or_default());
            if !body.is_empty() && body.len() + line.len() > BODY {
                break;
            }
            body.extend_from_slice(line.as_bytes());
        }
        body
    }

    /// Settles what the answer settles; what must go again stays.
    pub fn judge(&mut self, part: Range<usize>, answer: Result<Vec<u8>, SearchError>) -> Judged {
        let mut judged = Judged::default();
        let items = match answer {
            Ok(bytes) => match serde_json::from_slice::<Answer>(&bytes) {
                Ok(answer) => answer.items,
                Err(error) => {
                    judged.waiting = Some(format!("its answer to a bulk is none: {error}"));
                    return judged;
                }
            },
            Err(SearchError::TooLarge) => {
                self.shrink(part, &mut judged);
                return judged;
            }
            Err(error) => {
                judged.person = matches!(error, SearchError::Misconfigured(_));
                judged.waiting = Some(error.to_string());
                return judged;
            }
        };
        let answered = part.start..part.start + items.len().min(part.len());
        let mut again = Vec::new();
        for ((mut document, stripped), item) in self.waiting.drain(answered).zip(items) {
            let Word { status, error } = item.index;
            let (class, reason) = error.map(|why| (why.class, why.reason)).unwrap_or_default();
            match status {
                200..=299 => judged.indexed += 1,
                409 => judged.stale += 1,
                // A closed index is opened, or a block lifted, by a person or the server itself.
                400 if class != "index_closed_exception" => {
                    if !stripped && document.strip() {
                        judged.stripped += 1;
                        again.push((document, true));
                    } else {
                        judged.dropped.push((document.id, format!("{class}: {reason}")));
                    }
                }
                _ => {
                    judged.waiting.get_or_insert_with(|| format!("{status} {class}: {reason}"));
                    again.push((document, stripped));
                }
            }
        }
        // Behind the others: one month's blocked index must not hide what another one takes.
        self.waiting.append(&mut again);
        judged
    }

    /// The server takes no body of that size: fewer documents, or the one without its large parts.
    fn shrink(&mut self, part: Range<usize>, judged: &mut Judged) {
        if part.len() > 1 {
            self.most = part.len() / 2;
            return;
        }
        let (document, stripped) = &mut self.waiting[part.start];
        if !*stripped && document.strip() {
            *stripped = true;
            judged.stripped += 1;
        } else {
            judged.dropped.push((document.id, "too large for the server".to_owned()));
            self.waiting.remove(part.start);
        }
    }
}

#[cfg(test)]
mod tests {
    use spinor_executors::{Job, Json};

    use super::*;
    use crate::{entry::Entry, hidden::Hidden};

    fn documents(count: usize) -> Vec<Document> {
        let mut documents = Vec::new();
        for _ in 0..count {
            let job = Job::new("k", "q", Json::new(r#"{"a":1}"#).unwrap());
            super::super::document::read(&Entry::Queued(Box::new(job)).line(), &Hidden::default(), &mut documents);
        }
        documents
    }

    fn answer(items: &[(u16, &str)]) -> Result<Vec<u8>, SearchError> {
        let item = |(status, class): &(u16, &str)| match *class {
            "" => serde_json::json!({"index": {"status": status}}),
            class => serde_json::json!({"index": {"status": status, "error": {"type": class, "reason": "r"}}}),
        };
        let items: Vec<_> = items.iter().map(item).collect();
        Ok(serde_json::to_vec(&serde_json::json!({"errors": true, "items": items})).unwrap())
    }

    #[test]
    fn each_item_is_judged_alone() {
        let mut bulk = Bulk::new(documents(5), 10);
        let said = [
            (201, ""),
            (409, "version_conflict_engine_exception"),
            (429, "es_rejected_execution_exception"),
            (403, "cluster_block_exception"),
            (400, "document_parsing_exception"),
        ];
        let judged = bulk.judge(0..5, answer(&said));
        assert_eq!((judged.indexed, judged.stale, judged.stripped, judged.dropped.len()), (1, 1, 1, 0));
        assert!(judged.waiting.is_some_and(|why| why.contains("429")));
        assert_eq!(bulk.next(), Some(0..3));
        let judged = bulk.judge(0..3, answer(&[(201, ""), (201, ""), (400, "document_parsing_exception")]));
        assert_eq!((judged.indexed, judged.dropped.len(), judged.waiting), (2, 1, None));
        assert_eq!(bulk.next(), None);
    }

    #[test]
    fn a_closed_index_waits_and_is_not_a_refusal() {
        let mut bulk = Bulk::new(documents(1), 10);
        let judged = bulk.judge(0..1, answer(&[(400, "index_closed_exception")]));
        assert!(judged.waiting.is_some() && judged.dropped.is_empty());
    }

    #[test]
    fn a_body_that_is_too_large_is_halved_down_to_one_without_args() {
        let mut bulk = Bulk::new(documents(2), 10);
        let part = bulk.next().unwrap();
        assert!(bulk.judge(part, Err(SearchError::TooLarge)).waiting.is_none());
        assert_eq!(bulk.next(), Some(0..1));
        assert_eq!(bulk.judge(0..1, Err(SearchError::TooLarge)).stripped, 1);
        assert!(!String::from_utf8(bulk.body(0..1, "p")).unwrap().contains("args"));
        assert_eq!(bulk.judge(0..1, Err(SearchError::TooLarge)).dropped.len(), 1);
        assert_eq!(bulk.next(), Some(0..1));
    }
}
