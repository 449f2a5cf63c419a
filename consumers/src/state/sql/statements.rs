//! Every statement that writes state, in the words of each dialect, built once.
//!
//! Time is the store's own: `{now}` is its clock in microseconds.

use crate::{
    database::{Flavour, Sql},
    state::{CLAIM_KEPT, CLEARED_KEPT, PRESENT_FOR, micros},
};

/// The statements; each is named by what it does.
pub struct Statements {
    pub claim: Sql,
    pub claimed_by: Sql,
    pub take_over: Sql,
    pub lock_versions: Sql,
    pub set_counter: Sql,
    pub mark_is_set: Sql,
    pub put_mark: Sql,
    pub clear_mark: Sql,
    pub new_key: Sql,
    pub key: Sql,
    pub give_key: Sql,
    pub free_key: Sql,
    pub limit: Sql,
    pub new_limit: Sql,
    pub use_limit: Sql,
    pub return_permits: Sql,
    pub permit: Sql,
    pub put_permit: Sql,
    pub drop_permit: Sql,
    pub drop_ended_permits: Sql,
    pub permits_of: Sql,
    pub renew_permits: Sql,
    pub lease: Sql,
    pub new_lease: Sql,
    pub put_lease: Sql,
    pub end_lease: Sql,
    pub beat: Sql,
    pub leave: Sql,
    pub ended_permits: Sql,
    pub forgettable_marks: Sql,
    pub forget_mark: Sql,
    pub prune: Vec<Sql>,
    /// Its clock, for questions.
    pub now: &'static str,
}

/// Rows of a table that go in one call.
const CHUNK: usize = 1000;

/// Rows that take a few statements each.
const FEW: usize = 100;

/// Table, key and condition of what only has to be deleted.
const PRUNED: [(&str, &str, &str, &str); 4] = [
    ("state_claims", "job, replay, attempt", "at", "at < {now} - {claims}"),
    ("state_keys", "name", "until", "until < {now}"),
    ("state_presence", "consumer", "at", "at < {now} - {presence}"),
    ("state_limits", "name", "used", "used < {now} - 3600000000 AND held = 0 AND due < {now}"),
];

impl Statements {
    /// For a flavour.
    pub fn new(flavour: Flavour) -> Self {
        let lite = flavour == Flavour::Sqlite;
        let text = |sql: &str| -> Sql {
            let times = [("{claims}", CLAIM_KEPT), ("{cleared}", CLEARED_KEPT), ("{presence}", PRESENT_FOR)];
            times
                .iter()
                .fold(flavour.words(sql), |sql, (name, time)| sql.replace(name, &micros(*time).to_string()))
                .into()
        };
        let (chunk, few) = (CHUNK, FEW);
        let prune = PRUNED.iter().map(|(table, key, by, when)| {
            if lite {
                text(&format!("DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM {table} WHERE {when} ORDER BY {by} LIMIT {chunk})"))
            } else {
                text(&format!("DELETE FROM {table} WHERE {when} ORDER BY {by} LIMIT {chunk}"))
            }
        });
        Self {
            prune: prune.collect(),
            claim: text("{insert} INTO state_claims (job, replay, attempt, execution, at) VALUES (?, ?, ?, ?, {now})"),
            claimed_by: text("SELECT execution FROM state_claims WHERE job = ? AND replay = ? AND attempt = ?{lock}"),
            take_over: text(
                "UPDATE state_claims SET execution = ?, at = {now} WHERE job = ? AND replay = ? AND attempt = ?",
            ),
            lock_versions: text("SELECT value FROM state_counters WHERE name = ?{lock}"),
            set_counter: text("UPDATE state_counters SET value = ? WHERE name = ?"),
            mark_is_set: text("SELECT 1 FROM state_marks WHERE subject = ? AND cleared = 0"),
            put_mark: text(
                "REPLACE INTO state_marks (subject, kind, version, at, cleared, body) VALUES (?, ?, ?, {now}, 0, ?)",
            ),
            clear_mark: text("UPDATE state_marks SET version = ?, at = {now}, cleared = 1, body = ? WHERE subject = ?"),
            new_key: text("{insert} INTO state_keys (name, job, until) VALUES (?, ?, {now} + ?)"),
            key: text("SELECT job, until, {now} FROM state_keys WHERE name = ?{lock}"),
            give_key: text("UPDATE state_keys SET job = ?, until = {now} + ? WHERE name = ?"),
            free_key: text("DELETE FROM state_keys WHERE name = ? AND job = ?"),
            limit: text("SELECT held, due, {now} FROM state_limits WHERE name = ?{lock}"),
            new_limit: text("{insert} INTO state_limits (name, held, due, used) VALUES (?, 0, 0, {now})"),
            use_limit: text("UPDATE state_limits SET held = ?, due = ?, used = {now} WHERE name = ?"),
            return_permits: text("UPDATE state_limits SET held = held - ? WHERE name = ?"),
            permit: text("SELECT until FROM state_permits WHERE name = ? AND owner = ?"),
            put_permit: text("REPLACE INTO state_permits (name, owner, until) VALUES (?, ?, {now} + ?)"),
            drop_permit: text("DELETE FROM state_permits WHERE name = ? AND owner = ? AND until < ?"),
            drop_ended_permits: text("DELETE FROM state_permits WHERE name = ? AND until <= {now} AND owner <> ?"),
            permits_of: text("SELECT name FROM state_permits WHERE owner = ? ORDER BY name"),
            renew_permits: text("UPDATE state_permits SET until = {now} + ? WHERE owner = ?"),
            lease: text("SELECT owner, epoch, until, {now} FROM state_leases WHERE name = ?{lock}"),
            new_lease: text("{insert} INTO state_leases (name, owner, epoch, until) VALUES (?, ?, 1, {now} + ?)"),
            put_lease: text("UPDATE state_leases SET owner = ?, epoch = ?, until = {now} + ? WHERE name = ?"),
            end_lease: text("UPDATE state_leases SET until = 0 WHERE name = ? AND owner = ?"),
            beat: text("REPLACE INTO state_presence (consumer, at, beat) VALUES (?, {now}, ?)"),
            leave: text("DELETE FROM state_presence WHERE consumer = ?"),
            ended_permits: text(&format!(
                "SELECT name, owner, {{now}} FROM state_permits WHERE until < {{now}} ORDER BY until LIMIT {few}"
            )),
            forgettable_marks: text(&format!(
                "SELECT subject, version FROM state_marks WHERE cleared = 1 AND at < {{now}} - {{cleared}} \
                 ORDER BY version LIMIT {few}"
            )),
            forget_mark: text("DELETE FROM state_marks WHERE subject = ? AND cleared = 1 AND version = ?"),
            now: flavour.now(),
        }
    }
}
