//! What is asked of the runs: what is overdue, what a member gets from others, where each member stands.

use std::collections::BTreeMap;

use jiff::Timestamp;
use uuid::Uuid;

use super::{
    super::{
        Results, ResultsError,
        database::{Column, Value},
        read::{json, small},
    },
    AT_ONCE, Due, Followed, MemberRow, Role, list,
    row::{DUE, due, told, told_columns},
    word,
};
use crate::next::{
    inputs::{Asked, Known},
    job_id,
};

/// So many that are overdue are taken at once.
const SOME: usize = 200;

const KNOWN: &str = "m.job, m.name, m.state, m.value, m.value_ref, m.error";

impl Results {
    /// What was not published or told in its time: whoever was to do it died, or could not.
    pub async fn overdue(&self) -> Result<Followed, ResultsError> {
        let now = || vec![Value::Int(Timestamp::now().as_microsecond())];
        let sql =
            format!("SELECT {DUE} FROM members WHERE due < ? AND state = '{}' ORDER BY due LIMIT {SOME}", word::DUE);
        let due = self.0.database.ask(sql, now()).await?.iter().map(due).collect::<Result<Vec<Due>, _>>()?;
        let sql = format!("SELECT {} FROM driven WHERE untold < ? ORDER BY untold LIMIT {SOME}", told_columns());
        let tell = self.0.database.ask(sql, now()).await?.iter().map(told).collect::<Result<Vec<_>, _>>()?;
        Ok(Followed { tell, due })
    }

    /// What the args of a member ask for, by name. Stops when it is more than `most` bytes: `None`.
    pub async fn known(
        &self,
        due: &Due,
        asked: &Asked,
        most: usize,
    ) -> Result<Option<BTreeMap<String, Known>>, ResultsError> {
        let mut known = BTreeMap::new();
        let mut size = 0;
        let names: Vec<Uuid> = asked.names.iter().map(|name| job_id(due.run, name)).collect();
        for some in names.chunks(AT_ONCE) {
            let (holes, ids) = list(some);
            let sql = format!("SELECT {KNOWN} FROM members m WHERE m.run = ? AND m.job IN {holes}");
            let values = [Value::Id(due.run)].into_iter().chain(ids).collect();
            size += take(&self.0.database.ask(sql, values).await?, &mut known)?;
        }
        let mut after = Uuid::nil();
        while asked.all && size <= most {
            // A page at a time: no question takes long, whatever the values are.
            let (sql, values) = match due.role {
                Role::Member => (
                    format!(
                        "SELECT {KNOWN} FROM needs n JOIN members m ON m.run = n.run AND m.job = n.need \
                         WHERE n.run = ? AND n.follower = ? AND n.need > ? ORDER BY n.need LIMIT {SOME}"
                    ),
                    vec![Value::Id(due.run), Value::Id(due.job), Value::Id(after)],
                ),
                _ => (
                    format!(
                        "SELECT {KNOWN} FROM members m WHERE m.run = ? AND m.job > ? AND m.role = 0 \
                         ORDER BY m.job LIMIT {SOME}"
                    ),
                    vec![Value::Id(due.run), Value::Id(after)],
                ),
            };
            let rows = self.0.database.ask(sql, values).await?;
            size += take(&rows, &mut known)?;
            match rows.last() {
                Some(last) if rows.len() == SOME => after = last.id(0)?,
                _ => break,
            }
        }
        Ok((size <= most).then_some(known))
    }

    /// Did every member of a run succeed?
    pub async fn all_succeeded(&self, run: Uuid) -> Result<bool, ResultsError> {
        let sql = "SELECT failed FROM driven WHERE run = ?".to_owned();
        let rows = self.0.database.ask(sql, vec![Value::Id(run)]).await?;
        Ok(rows.first().map_or(Ok(0), |row| row.int(0))? == 0)
    }

    /// The members of a run that the part `trigger` drives, in the order they were given, then what follows
    /// them. A compensation is there once it is wanted.
    pub async fn members(&self, run: Uuid) -> Result<Vec<MemberRow>, ResultsError> {
        let sql = format!(
            "SELECT name, job, state, replay, error FROM members WHERE run = ? \
             AND (role <> 1 OR state <> '{}') ORDER BY role, place",
            word::WAITING
        );
        let rows = self.0.database.ask(sql, vec![Value::Id(run)]).await?;
        let mut members = Vec::with_capacity(rows.len());
        let mut places = BTreeMap::new();
        for row in &rows {
            places.insert(row.id(1)?, members.len());
            members.push(MemberRow {
                name: row.text(0)?,
                job: row.id(1)?,
                state: row.text(2)?,
                replay: small(row.int(3)?),
                needs: Vec::new(),
                error: row.maybe_text(4)?,
            });
        }
        if members.is_empty() {
            return Ok(members);
        }
        let sql = "SELECT need, follower FROM needs WHERE run = ?".to_owned();
        for row in self.0.database.ask(sql, vec![Value::Id(run)]).await? {
            if let (Some(need), Some(follower)) = (places.get(&row.id(0)?), places.get(&row.id(1)?)) {
                let name = members[*need].name.clone();
                members[*follower].needs.push(name);
            }
        }
        members.iter_mut().for_each(|member| member.needs.sort_unstable());
        Ok(members)
    }
}

/// Takes rows over; tells their bytes.
fn take(rows: &[Column], known: &mut BTreeMap<String, Known>) -> Result<usize, ResultsError> {
    let mut size = 0;
    for row in rows {
        let value = row.maybe_text(3)?;
        size += 100 + value.as_ref().map_or(0, String::len);
        let value = match value {
            Some(text) => Some(json(&text)?),
            None => None,
        };
        let value_ref = row.maybe_text(4)?.as_deref().map(json).transpose()?;
        let member = Known { job: row.id(0)?, state: row.text(2)?, value, value_ref, error: row.maybe_text(5)? };
        known.insert(row.text(1)?, member);
    }
    Ok(size)
}
