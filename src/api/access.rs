//! Who may log in: users and tokens as they were read last, and the sessions that were ended.
//!
//! Owns what is in memory of them: read again when it is 10 s old, beside the request that found it so, and kept while
//! the database does not answer, so that nobody who may come in is locked out then. Owns how a password and a token are
//! hashed. Refuses to know cookies and headers.

mod password;
mod tries;

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use ring::digest;
use spinor_consumers::{
    access::Grants,
    results::{Everybody, Results, ResultsError, Token, User},
};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::{Problem, caller::Caller, guard, session};

pub(super) use password::hash as hash_password;

/// What was read is read again after this.
const FRESH: Duration = Duration::from_secs(10);
/// What tells our tokens from other texts.
const PREFIX: &str = "spinor_";

/// Everybody who may log in; shared by all requests.
pub struct Access {
    results: Results,
    known: RwLock<Arc<Known>>,
    reading: AtomicBool,
    /// A reading has ended, well or not; told to who waits for it.
    tried: AtomicBool,
    read: Notify,
    /// One reading after the other: what was read later was asked later.
    turn: tokio::sync::Mutex<()>,
    /// Told after each reading.
    changed: watch::Sender<()>,
    /// Sessions that were ended here, whatever a reading that began before says; until when they would last.
    ended: Mutex<HashMap<Uuid, Timestamp>>,
    passwords: password::Passwords,
    tries: Mutex<tries::Tries>,
}

#[derive(Default)]
struct Known {
    at: Option<Instant>,
    users: HashMap<String, User>,
    /// By their stamps.
    stamps: HashMap<Uuid, String>,
    tokens: HashMap<Uuid, Token>,
    ended: HashSet<Uuid>,
}

impl From<Everybody> for Known {
    fn from(all: Everybody) -> Self {
        Self {
            at: Some(Instant::now()),
            stamps: all.users.iter().map(|user| (user.stamp, user.row.name.clone())).collect(),
            users: all.users.into_iter().map(|user| (user.row.name.clone(), user)).collect(),
            tokens: all.tokens.into_iter().map(|token| (token.id, token)).collect(),
            ended: all.ended.into_iter().collect(),
        }
    }
}

/// Who may log in, found by what was shown: what a session holds of it, and what it may do.
pub(super) struct Found {
    pub id: Uuid,
    pub name: String,
    pub roles: Arc<Grants>,
}

impl Access {
    /// Those of this database; read at the first request.
    pub fn new(results: Results) -> Self {
        Self {
            results,
            known: RwLock::default(),
            reading: AtomicBool::new(false),
            tried: AtomicBool::new(false),
            read: Notify::new(),
            turn: tokio::sync::Mutex::default(),
            changed: watch::Sender::new(()),
            ended: Mutex::default(),
            passwords: password::Passwords::default(),
            tries: Mutex::default(),
        }
    }

    fn known(&self) -> Arc<Known> {
        Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads everybody again, after a change of them.
    pub(super) async fn read(&self) -> Result<(), ResultsError> {
        let _turn = self.turn.lock().await;
        let known = Arc::new(Known::from(self.results.everybody().await?));
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
        self.changed.send_replace(());
        Ok(())
    }

    /// Tells when somebody may do more or less than before.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Sees that what is known is not old: beside what is asked, but for the first time, which all wait for.
    pub(super) async fn refresh(self: &Arc<Self>, tasks: &TaskTracker) {
        if self.known().at.is_some_and(|at| at.elapsed() < FRESH) {
            return;
        }
        // Before it can end: then the word of it is not missed.
        let read = self.read.notified();
        let waits = !self.tried.load(Ordering::Acquire);
        if !self.reading.swap(true, Ordering::AcqRel) {
            let this = Arc::clone(self);
            tasks.spawn(async move {
                if let Err(error) = this.read().await {
                    tracing::debug!(%error, "Users and tokens are as they were: they cannot be read again now.");
                }
                this.tried.store(true, Ordering::Release);
                this.reading.store(false, Ordering::Release);
                this.read.notify_waiters();
            });
        }
        if waits {
            read.await;
        }
    }

    /// The token that was shown, if it is one of ours and holds.
    pub(super) fn token(&self, shown: &str) -> Option<Found> {
        let (id, _) = shown.strip_prefix(PREFIX)?.split_once('_')?;
        let known = self.known();
        let token = known.tokens.get(&Uuid::try_parse(id).ok()?)?;
        let holds = guard::same(digest_of(shown).as_ref(), &token.hash) && holds(token);
        holds.then(|| found(token.id, &token.row.name, &token.row.roles))
    }

    /// Who has the session that this id stands for, unless it was ended.
    pub(super) fn session(&self, session: Uuid, id: Uuid) -> Option<(Found, bool)> {
        let known = self.known();
        if self.is_ended(session) {
            return None;
        }
        if let Some(name) = known.stamps.get(&id) {
            let user = known.users.get(name)?;
            return Some((found(id, name, &user.row.roles), true));
        }
        let token = known.tokens.get(&id).filter(|token| holds(token))?;
        Some((found(id, &token.row.name, &token.row.roles), false))
    }

    /// What the user of this name may do, if there is one.
    pub(super) fn roles_of(&self, name: &str) -> Option<Arc<Grants>> {
        self.known().users.get(name).map(|user| Arc::new(user.row.roles.clone()))
    }

    /// Was a session ended before its time?
    pub(super) fn is_ended(&self, session: Uuid) -> bool {
        self.ended_here().contains_key(&session) || self.known().ended.contains(&session)
    }

    fn ended_here(&self) -> MutexGuard<'_, HashMap<Uuid, Timestamp>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who has this name and password.
    pub(super) async fn password(&self, name: &str, password: &str) -> Result<Found, Problem> {
        let tries = || self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.known();
        let user = known.users.get(name);
        // Before it is looked at: many at once are no more than one after the other.
        tries().begin(name, user.is_some())?;
        let checked = self.passwords.check(user.map(|user| user.password.as_str()), password).await;
        let right = checked.inspect_err(|_| tries().take_back(name, user.is_some()))?;
        match user.filter(|_| right) {
            Some(user) => {
                tries().right(name);
                Ok(found(user.stamp, name, &user.row.roles))
            }
            None => {
                let detail = format!("there is no user `{}`, or this is not the password", super::clip(name));
                Err(Problem { field: Some("password".to_owned()), ..Problem::new(401, "Wrong login", detail) })
            }
        }
    }

    /// Ends a session before its time; here at once.
    pub(super) async fn end(&self, session: Uuid, until: Timestamp) -> Result<(), ResultsError> {
        {
            let (mut ended, now) = (self.ended_here(), Timestamp::now());
            ended.retain(|_, until| *until > now);
            ended.insert(session, until);
        }
        self.changed.send_replace(());
        self.results.end_session(session, until).await
    }
}

fn found(id: Uuid, name: &str, roles: &Grants) -> Found {
    Found { id, name: name.to_owned(), roles: Arc::new(roles.clone()) }
}

fn holds(token: &Token) -> bool {
    token.row.expires.is_none_or(|end| end > Timestamp::now())
}

impl Found {
    /// As the one who calls.
    pub(super) fn caller(self, how: super::caller::How) -> Caller {
        Caller::new(self.name, how, self.roles)
    }
}

/// A token that nobody guesses, its id, and what is kept of it.
pub(super) fn fresh_token() -> (String, Uuid, Vec<u8>) {
    let id = Uuid::now_v7();
    let text = format!("{PREFIX}{}_{}", id.simple(), session::fresh_token());
    let hash = digest_of(&text).as_ref().to_vec();
    (text, id, hash)
}

/// Nobody guesses 24 random bytes: there is no need to make that slow, too.
fn digest_of(token: &str) -> digest::Digest {
    digest::digest(&digest::SHA256, token.as_bytes())
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;
    use spinor_consumers::results::ResultsTarget;

    use super::*;

    #[tokio::test]
    async fn all_who_ask_before_everybody_was_read_wait_for_that_and_no_old_reading_brings_a_session_back() {
        let file = std::env::temp_dir().join(format!("spinor-access-{}.db", Uuid::now_v7()));
        let results = Results::open(&ResultsTarget::Sqlite(file.clone())).await.expect("it opens");
        let (access, tasks) = (Arc::new(Access::new(results.clone())), TaskTracker::new());
        let ask = async || {
            access.refresh(&tasks).await;
            access.known().at.is_some()
        };
        assert_eq!(join_all((0..10).map(|_| ask())).await, [true; 10]);
        let session = Uuid::now_v7();
        access.end(session, Timestamp::MAX).await.expect("it ends");
        // A reading that was asked before comes after it.
        *access.known.write().expect("it is there") = Arc::default();
        assert!(access.is_ended(session));
        results.close().await;
        for end in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{end}", file.display()));
        }
    }
}
