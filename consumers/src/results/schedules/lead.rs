//! Who fires, and what is due: the lease of the leader, and the one transaction that decides instants.
//!
//! The transaction holds the leader's row, so that nobody decides with an epoch that is over. What it
//! inserted is published after it, then marked; what stays unmarked is found by whoever leads then.

use std::time::Duration;

use uuid::Uuid;

use super::{
    super::{
        Results, ResultsError, Store,
        change::clip,
        database::{Column, Value, Writing},
        read::json,
        write::anew,
    },
    Tick,
    counts::{Counted, Published},
    fire::{BROKEN, OVERDUE},
    instant,
    row::{COLUMNS, Row, previous},
    word, words,
};

/// How long the lead lasts unless it is renewed, in microseconds.
const LEASE: i64 = 6_000_000;
/// It is renewed once less than this is left.
const RENEW: i64 = 4_000_000;
/// So many triggers are decided in one transaction.
const SOME: usize = 100;

/// A process that would fire.
#[derive(Clone, Debug)]
pub struct Lead {
    /// Its own, new with each start.
    pub owner: Uuid,
    /// For people.
    pub who: String,
    /// No other process can be there: whoever led has ended.
    pub alone: bool,
}

/// What a look without a transaction tells.
#[derive(Clone, Copy, Debug)]
pub struct Looked {
    /// Another process leads.
    pub led: bool,
    /// A transaction is needed: to take or renew the lead, or to decide.
    pub act: bool,
    /// Something was not published in its time.
    pub overdue: bool,
    /// The next trigger is due after this.
    pub wait: Duration,
}

/// What a transaction did.
#[derive(Debug, Default)]
pub struct Turn {
    /// The epoch in which this process leads; none when another does.
    pub epoch: Option<i64>,
    /// To be published now.
    pub due: Vec<Tick>,
    /// What was left out.
    pub counted: Counted,
}

impl Results {
    /// Is there anything to do for this process? Writes nothing.
    pub async fn look_to_fire(&self, lead: &Lead) -> Result<Looked, ResultsError> {
        let sql = "SELECT owner, until, {now}, (SELECT MIN(fire_at) FROM schedules), (SELECT MIN(due) FROM ticks) \
                   FROM leaders WHERE name = 'triggers'";
        let sql = words(self.0.database.flavour(), sql);
        let rows = self.0.database.ask(sql.to_string(), Vec::new()).await?;
        let Some(row) = rows.first() else {
            return Ok(Looked { led: false, act: true, overdue: false, wait: Duration::ZERO });
        };
        let (owner, until, now) = (row.id(0)?, row.int(1)?, row.int(2)?);
        let (fire, due) = (row.maybe_int(3)?, row.maybe_int(4)?);
        let led = owner != lead.owner && until > now && !lead.alone;
        let wait = fire.map_or(i64::MAX, |fire| fire.saturating_sub(now)).max(0);
        Ok(Looked {
            led,
            act: !led && (owner != lead.owner || until - now < RENEW || wait == 0),
            overdue: !led && due.is_some_and(|due| due <= now),
            wait: Duration::from_micros(wait.unsigned_abs()),
        })
    }

    /// Takes or renews the lead, and decides what is due, in one transaction.
    pub async fn take_turn(&self, lead: &Lead) -> Result<Turn, ResultsError> {
        anew(|| self.0.take_turn(lead)).await
    }

    /// What was decided and is not known to be published: all of it, or what is overdue.
    pub async fn unpublished(&self, all: bool) -> Result<Vec<Tick>, ResultsError> {
        let bound = if all { i64::MAX.to_string() } else { "{now}".to_owned() };
        let sql = format!(
            "SELECT t.instant, t.job, s.id, s.name, s.spec, s.prev_instant, s.prev_state, s.prev_value, t.due, t.fire_at \
             FROM ticks t JOIN schedules s ON s.id = t.schedule WHERE t.due <= {bound} ORDER BY t.due LIMIT {SOME}"
        );
        let sql = words(self.0.database.flavour(), &sql);
        let rows = self.0.database.ask(sql.to_string(), Vec::new()).await?;
        let tick = |row: &Column| {
            Ok(Tick {
                instant: instant(row.int(0)?),
                job: row.id(1)?,
                schedule: row.id(2)?,
                name: row.text(3)?,
                spec: json(&row.text(4)?)?,
                previous: previous(row, 5)?,
                // 0: it was not put off until its time.
                time: (row.int(8)? > 0).then(|| row.int(9).map(instant)).transpose()?,
            })
        };
        let (mut ticks, mut unread) = (Vec::new(), Vec::new());
        for row in &rows {
            match tick(row) {
                Ok(tick) => ticks.push(tick),
                Err(error @ ResultsError::Unavailable(_)) => return Err(error),
                Err(error) => {
                    tracing::error!(trigger = row.text(3)?, %error, "An instant of a trigger cannot be read by this process.");
                    unread.push((row.id(2)?, row.int(0)?));
                }
            }
        }
        self.put_off_ticks(&unread).await?;
        Ok(ticks)
    }

    /// Instants, by trigger and microsecond, that cannot be published now let others go first.
    pub async fn put_off_ticks(&self, of: &[(Uuid, i64)]) -> Result<(), ResultsError> {
        if of.is_empty() {
            return Ok(());
        }
        // What was wanted at once is not late before it is put off. Assignments run from left to right.
        let sql = format!(
            "UPDATE ticks SET fire_at = CASE WHEN due > 0 THEN fire_at ELSE {{now}} END, due = {{now}} + {OVERDUE} \
             WHERE schedule = ? AND instant = ? AND due IS NOT NULL"
        );
        let sql = words(self.0.database.flavour(), &sql);
        let mut sorted = of.to_vec();
        sorted.sort_unstable();
        anew(|| async {
            let mut writing = self.0.database.begin().await?;
            for (schedule, instant) in &sorted {
                writing.run(&sql, vec![Value::Id(*schedule), Value::Int(*instant)]).await?;
            }
            writing.commit().await
        })
        .await
    }

    /// Writes down that the jobs of these instants are with the broker.
    /// Tells how long after its time the latest one was.
    pub async fn ticks_published(&self, of: &[Published]) -> Result<Duration, ResultsError> {
        if of.is_empty() {
            return Ok(Duration::ZERO);
        }
        anew(|| self.0.ticks_published(of)).await
    }

    /// Ends the lead early, so that another process goes on at once.
    pub async fn give_up_lead(&self, owner: Uuid) -> Result<(), ResultsError> {
        let sql =
            words(self.0.database.flavour(), "UPDATE leaders SET until = 0 WHERE name = 'triggers' AND owner = ?");
        let mut writing = self.0.database.begin().await?;
        writing.run(&sql, vec![Value::Id(owner)]).await?;
        writing.commit().await
    }
}

impl Store {
    async fn ticks_published(&self, of: &[Published]) -> Result<Duration, ResultsError> {
        let sql = format!(
            "UPDATE ticks SET due = NULL, published = COALESCE(published, {{now}}), \
             state = CASE WHEN state = '{}' THEN '{}' ELSE state END WHERE schedule = ? AND instant = ?",
            word::DUE,
            word::PUBLISHED
        );
        let sql = words(self.database.flavour(), &sql);
        let mut sorted = of.to_vec();
        sorted.sort_unstable();
        let mut writing = self.database.begin().await?;
        for (schedule, instant, _) in sorted {
            writing.run(&sql, vec![Value::Id(schedule), Value::Int(instant)]).await?;
        }
        let late = self.count_published(&mut writing, of).await?;
        writing.commit().await?;
        Ok(late)
    }

    async fn take_turn(&self, lead: &Lead) -> Result<Turn, ResultsError> {
        let flavour = self.database.flavour();
        let mut writing = self.database.begin().await?;
        let Some((epoch, now)) = self.lead(&mut writing, lead).await? else { return Ok(Turn::default()) };
        let sql =
            format!("SELECT {COLUMNS} FROM schedules WHERE fire_at <= ? ORDER BY fire_at, id LIMIT {SOME}{{lock}}");
        let rows = writing.fetch(&words(flavour, &sql), vec![Value::Int(now)]).await?;
        let mut turn = Turn { epoch: Some(epoch), ..Turn::default() };
        for row in &rows {
            let mut row = match Row::read(row) {
                Ok(row) => row,
                Err(error) => {
                    // It was written by another version: the others do not wait for it.
                    tracing::error!(trigger = row.text(1)?, %error, "A trigger cannot be read by this process.");
                    let later = vec![Value::Int(now + BROKEN), Value::Id(row.id(0)?)];
                    writing.run(&"UPDATE schedules SET fire_at = ? WHERE id = ?".into(), later).await?;
                    continue;
                }
            };
            self.fire(&mut writing, &mut row, now, &mut turn).await?;
            row.write(&mut writing, flavour, false).await?;
        }
        self.count_left_out(&mut writing, turn.counted).await?;
        writing.commit().await?;
        Ok(turn)
    }

    /// Takes or renews the lead; tells the epoch and the time, or nothing when another process leads.
    async fn lead(&self, writing: &mut Writing, lead: &Lead) -> Result<Option<(i64, i64)>, ResultsError> {
        let flavour = self.database.flavour();
        let read = words(flavour, "SELECT owner, epoch, until, {now} FROM leaders WHERE name = 'triggers'{lock}");
        let mut rows = writing.fetch(&read, Vec::new()).await?;
        if rows.is_empty() {
            let sql =
                "{insert} INTO leaders (name, owner, who, epoch, since, until) VALUES ('triggers', ?, ?, 0, 0, 0)";
            writing.run(&words(flavour, sql), vec![Value::Id(Uuid::nil()), Value::Text(String::new())]).await?;
            rows = writing.fetch(&read, Vec::new()).await?;
        }
        let Some(row) = rows.first() else { return Ok(None) };
        let (owner, epoch, until, now) = (row.id(0)?, row.int(1)?, row.int(2)?, row.int(3)?);
        if owner != lead.owner && until > now && !lead.alone {
            return Ok(None);
        }
        let until = Value::Int(now + LEASE);
        if owner == lead.owner {
            let sql = words(flavour, "UPDATE leaders SET until = ? WHERE name = 'triggers'");
            writing.run(&sql, vec![until]).await?;
            return Ok(Some((epoch, now)));
        }
        let sql = "UPDATE leaders SET owner = ?, who = ?, epoch = ?, since = ?, until = ? WHERE name = 'triggers'";
        let values = vec![
            Value::Id(lead.owner),
            Value::Text(clip(&lead.who, 250)),
            Value::Int(epoch + 1),
            Value::Int(now),
            until,
        ];
        writing.run(&words(flavour, sql), values).await?;
        Ok(Some((epoch + 1, now)))
    }
}
