//! State in Redis: each call is one script, so that it is done whole or not at all.
//!
//! Owns the keys below the prefix: `claim:`, `marks`, `key:`, `permits:`, `due:`, `owner:`,
//! `lease:`, `presence`. What ends by itself has an expiry there; the rest is pruned. The scripts
//! are in `scripts`, the connection in `link`. One server, or one with replicas: no cluster.

mod link;
mod scripts;

use std::{collections::HashSet, path::Path, sync::Arc, time::Duration};

use redis::{FromRedisValue, ToRedisArgs};
use spinor_executors::pool::AttemptKey;
use uuid::Uuid;

use super::{
    Admission, Beat, CLAIM_KEPT, CLEARED_KEPT, Changes, Claimed, InUse, Key, KeyFilter, KeyTaken, Kind, Limit, Mark,
    OnTaken, PRESENT_FOR, Present, StateError, Subject, mark::Body, micros, permit, permit::FULL, short, time,
};
use link::{Arguments, Link};
use scripts::Script;

/// What goes in one call of `prune`.
const CHUNK: i64 = 500;

/// Handle to a Redis server.
#[derive(Clone)]
pub(super) struct RedisState(Arc<Server>);

struct Server {
    link: Link,
    prefix: String,
}

impl RedisState {
    /// Connects, and sees that the server keeps what it is told.
    pub async fn open(url: &str, prefix: &str, ca_file: Option<&Path>) -> Result<Self, StateError> {
        let link = Link::new(url, ca_file)?;
        link.check().await?;
        if link.loses_moments().await {
            tracing::warn!(
                "This Redis may forget its last two seconds when it is killed; `appendfsync always` keeps them."
            );
        }
        Ok(Self(Arc::new(Server { link, prefix: format!("{prefix}:") })))
    }

    /// Logs in and looks at the settings; tells the version.
    pub async fn look(url: &str, ca_file: Option<&Path>) -> Result<String, StateError> {
        let link = Link::new(url, ca_file)?;
        let version = link.check().await?;
        let may =
            if link.loses_moments().await { " (its last two seconds only with `appendfsync always`)" } else { "" };
        Ok(format!("{version}{may}"))
    }

    pub async fn close(&self) {
        self.0.link.close().await;
    }

    /// Calls a script with its arguments after the prefix.
    async fn call<T: FromRedisValue>(&self, script: Script, arguments: Arguments) -> Result<T, StateError> {
        self.0.link.call(script, &self.0.prefix, arguments).await
    }

    pub async fn claim(
        &self,
        (job, replay, attempt): AttemptKey,
        execution: Uuid,
        taking_over: bool,
    ) -> Result<Claimed, StateError> {
        let key = format!("{job}:{replay}:{attempt}");
        let kept = i64::try_from(CLAIM_KEPT.as_millis()).unwrap_or(i64::MAX);
        let with = arguments((key, execution.to_string(), i64::from(taking_over), kept));
        let by: Option<String> = self.call(Script::Claim, with).await?;
        Ok(match by {
            Some(by) => Claimed::Taken { by: id(&by)? },
            None => Claimed::Yes,
        })
    }

    pub async fn pass_claim(
        &self,
        (job, replay, attempt): AttemptKey,
        from: Uuid,
        to: Uuid,
    ) -> Result<bool, StateError> {
        let key = format!("{job}:{replay}:{attempt}");
        let kept = i64::try_from(CLAIM_KEPT.as_millis()).unwrap_or(i64::MAX);
        let passed: i64 =
            self.call(Script::PassClaim, arguments((key, from.to_string(), to.to_string(), kept))).await?;
        Ok(passed == 1)
    }

    pub async fn set_mark(
        &self,
        subject: &Subject,
        value: serde_json::Value,
        by: &str,
        why: Option<&str>,
    ) -> Result<u64, StateError> {
        let body = Body::text(subject, Some(value), by, why);
        self.call(Script::SetMark, arguments((stored(&subject.to_string()), body))).await
    }

    pub async fn clear_mark(&self, subject: &Subject, by: &str, why: Option<&str>) -> Result<Option<u64>, StateError> {
        let body = Body::text(subject, None, by, why);
        self.call(Script::ClearMark, arguments((stored(&subject.to_string()), body))).await
    }

    pub async fn marks_since(&self, version: u64) -> Result<Changes, StateError> {
        let (version, whole, texts): (u64, bool, Vec<String>) =
            self.call(Script::MarksSince, arguments((version,))).await?;
        let marks = texts.iter().filter_map(|text| mark(text)).collect();
        Ok(Changes { version, whole, marks })
    }

    pub async fn marks(&self, kind: Kind) -> Result<Vec<Mark>, StateError> {
        let mut marks = self.marks_since(0).await?.marks;
        marks.retain(|mark| mark.subject.kind() == kind);
        Ok(marks)
    }

    pub async fn take_key(
        &self,
        key: &str,
        job: Uuid,
        lasting: Duration,
        on_taken: OnTaken,
    ) -> Result<KeyTaken, StateError> {
        let replace = i64::from(on_taken == OnTaken::Replace);
        let with = arguments((stored(key), job.to_string(), micros(lasting), replace));
        let answer: Vec<String> = self.call(Script::TakeKey, with).await?;
        let words: Vec<&str> = answer.iter().map(String::as_str).collect();
        Ok(match words.as_slice() {
            ["mine"] => KeyTaken::Mine,
            ["by", by, until] => KeyTaken::By { job: id(by)?, until: time(number(until)?) },
            ["replaced", by] => KeyTaken::Replaced { job: id(by)? },
            _ => return Err(strange()),
        })
    }

    pub async fn free_key(&self, key: &str, job: Uuid) -> Result<bool, StateError> {
        self.call(Script::FreeKey, arguments((stored(key), job.to_string()))).await
    }

    pub async fn keys(&self, filter: &KeyFilter) -> Result<Vec<Key>, StateError> {
        let with = vec![first(filter), beyond(filter), filter.limit.to_string().into_bytes()];
        let rows: Vec<(String, String)> = self.call(Script::Keys, with).await?;
        let mut keys = Vec::with_capacity(rows.len());
        for (name, value) in rows {
            let (job, until) = value.split_once(' ').ok_or_else(strange)?;
            keys.push(Key { name, job: id(job)?, until: time(number(until)?) });
        }
        Ok(keys)
    }

    pub async fn acquire(&self, limits: &[Limit], owner: Uuid, lease: Duration) -> Result<Admission, StateError> {
        let measures = permit::measures(limits);
        let mut with = arguments((owner.to_string(), micros(lease)));
        for measure in &measures {
            with.extend(arguments((&measure.name, measure.at_once.unwrap_or(-1), measure.every, measure.ahead)));
        }
        let refused: Option<(usize, i64)> = self.call(Script::Acquire, with).await?;
        let Some((at, wait)) = refused else { return Ok(Admission::Granted) };
        let key = measures.get(at.wrapping_sub(1)).ok_or_else(strange)?.key.clone();
        let after = if wait > 0 { Duration::from_micros(wait.unsigned_abs()) } else { FULL };
        Ok(Admission::Later { key, after })
    }

    pub async fn renew(&self, owners: &[Uuid], lease: Duration) -> Result<Vec<Uuid>, StateError> {
        let owners: HashSet<&Uuid> = owners.iter().collect();
        let mut with = arguments((micros(lease),));
        for owner in owners {
            with.extend(arguments((owner.to_string(),)));
        }
        let gone: Vec<String> = self.call(Script::Renew, with).await?;
        gone.iter().map(|owner| id(owner)).collect()
    }

    pub async fn release(&self, owner: Uuid) -> Result<(), StateError> {
        self.call(Script::Release, arguments((owner.to_string(),))).await
    }

    pub async fn in_use(&self, most: u32) -> Result<Vec<InUse>, StateError> {
        let rows: Vec<(String, u64, i64)> = self.call(Script::InUse, arguments((most,))).await?;
        let read = |(key, held, ahead): (String, u64, i64)| {
            let due_in = Duration::from_micros(u64::try_from(ahead).unwrap_or(0));
            InUse { key, held, due_in }
        };
        Ok(rows.into_iter().map(read).collect())
    }

    pub async fn holders(&self, limit: &str, most: u32) -> Result<Vec<Uuid>, StateError> {
        let owners: Vec<String> = self.call(Script::Holders, arguments((stored(limit), most))).await?;
        owners.iter().map(|owner| id(owner)).collect()
    }

    pub async fn lease(&self, name: &str, owner: Uuid, lasting: Duration) -> Result<Option<u64>, StateError> {
        self.call(Script::Lease, arguments((stored(name), owner.to_string(), micros(lasting)))).await
    }

    pub async fn give_up(&self, name: &str, owner: Uuid) -> Result<(), StateError> {
        self.call(Script::GiveUp, arguments((stored(name), owner.to_string()))).await
    }

    pub async fn beat(&self, beat: &Beat) -> Result<(), StateError> {
        // Text and numbers always have a JSON form.
        let text = serde_json::to_string(beat).unwrap_or_default();
        self.call(Script::Beat, arguments((stored(&beat.consumer), text))).await
    }

    pub async fn consumers(&self) -> Result<Vec<Present>, StateError> {
        let (now, rows): (i64, Vec<(i64, String)>) =
            self.call(Script::Consumers, arguments((micros(PRESENT_FOR),))).await?;
        let mut all: Vec<Present> =
            rows.iter().filter_map(|(at, text)| Present::read(text, time(*at), now - at)).collect();
        all.sort_by(|a, b| a.beat.consumer.cmp(&b.beat.consumer));
        Ok(all)
    }

    pub async fn leave(&self, consumer: &str) -> Result<(), StateError> {
        self.call(Script::Leave, arguments((stored(consumer),))).await
    }

    pub async fn prune(&self) -> Result<u64, StateError> {
        let with = arguments((CHUNK, micros(CLEARED_KEPT), micros(PRESENT_FOR)));
        self.call(Script::Prune, with).await
    }
}

/// Where a list begins, in the words of a range of Redis.
fn first(filter: &KeyFilter) -> Vec<u8> {
    match &filter.after {
        Some(after) if *after >= filter.prefix => [b"(", after.as_bytes()].concat(),
        _ if filter.prefix.is_empty() => b"-".to_vec(),
        _ => [b"[", filter.prefix.as_bytes()].concat(),
    }
}

/// And where it ends: no UTF-8 holds this byte.
fn beyond(filter: &KeyFilter) -> Vec<u8> {
    if filter.prefix.is_empty() { b"+".to_vec() } else { [b"(", filter.prefix.as_bytes(), &[0xff]].concat() }
}

fn arguments(values: impl ToRedisArgs) -> Arguments {
    values.to_redis_args()
}

fn stored(name: &str) -> String {
    short(name).into_owned()
}

/// `VERSION MICROSECONDS CLEARED BODY`.
fn mark(text: &str) -> Option<Mark> {
    let mut words = text.splitn(4, ' ');
    let (version, at) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let cleared = words.next()? == "1";
    Body::mark(words.next()?, cleared, time(at), version)
}

fn id(text: &str) -> Result<Uuid, StateError> {
    text.parse().map_err(|_| strange())
}

fn number(text: &str) -> Result<i64, StateError> {
    text.parse().map_err(|_| strange())
}

fn strange() -> StateError {
    StateError::Misconfigured("Redis holds something below our prefix that is not ours; use another prefix".to_owned())
}
