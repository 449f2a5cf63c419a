//! The outboxes of the configuration: where each is, and how its rows are read as the API reads jobs.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use spinor_consumers::outbox::{Order, OutboxSettings, OutboxTarget, ReadRow};
use uuid::Uuid;

use super::consumers;
use crate::{
    api::{
        Schemas,
        new_job::{self, Checked},
    },
    config::{Config, Journal, OtherDatabase},
};

/// What the relays need, one for each database.
pub fn settings(config: &Config) -> Vec<OutboxSettings> {
    let table = &config.outbox.table;
    let one = |database: &OtherDatabase| {
        let (target, whose) = match database {
            OtherDatabase::Sqlite(path) => {
                // The same path on two machines is two files.
                (OutboxTarget::Sqlite(path.clone()), format!("{}:{}", consumers::host(), path.display()))
            }
            OtherDatabase::MySql(endpoint) => {
                (OutboxTarget::MySql(endpoint.reveal().to_owned()), endpoint.place().to_owned())
            }
        };
        let lease = format!("outbox-{}", Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("{whose} {table}").as_bytes()));
        OutboxSettings { target, table: table.clone(), place: database.to_string(), lease }
    };
    config.outbox.databases.iter().map(one).collect()
}

/// Reads rows as jobs.
pub struct FromRows {
    /// Whose queues they are for.
    pub config: Arc<Config>,
    /// What args their kinds take.
    pub schemas: Arc<Schemas>,
}

impl ReadRow for FromRows {
    fn read(&self, id: Uuid, job: &[u8], age: Duration) -> Result<Order, String> {
        let (mut jobs, is_list) = new_job::read(job).map_err(|problem| problem.told("job"))?;
        let (Some(mut job), false) = (jobs.pop(), is_list) else {
            return Err("job: expected one job, this is a list".to_owned());
        };
        if job.id.get_or_insert(id) != &id {
            return Err("id: the job names another one than its row".to_owned());
        }
        // Times count from when the row was written, as they would from a publish.
        let written = SignedDuration::try_from(age).ok().and_then(|age| Timestamp::now().checked_sub(age).ok());
        let checked = job.check(written.unwrap_or_else(Timestamp::now)).and_then(Checked::not_kept);
        let Checked { job, delay, wanted, .. } = checked.map_err(|problem| problem.told("job"))?;
        if wanted.is_some() {
            return Err(
                "unique: a key cannot be taken from an outbox, where nobody hears that it is taken; publish this \
                        job through the API"
                    .to_owned(),
            );
        }
        // Whoever wrote it hears nothing, so what any version takes is taken.
        self.schemas.check_told(&job).map_err(|problem| problem.told("job"))?;
        let journaled = self.config.queue(&job.queue).journal == Journal::Full;
        Ok(Order { job, delay: delay.map(|delay| delay.saturating_sub(age)), journaled })
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use jiff::Timestamp;
    use spinor_consumers::outbox::ReadRow;
    use uuid::Uuid;

    use super::{FromRows, Schemas};
    use crate::config::Ask;

    #[test]
    fn a_row_is_read_as_the_api_reads_a_job_and_its_times_count_from_when_it_was_written() {
        let flags = vec![("data", "/tmp/none".to_owned(), "--data")];
        let config = Ask { flags, ..Ask::default() }.load().expect("the defaults are right").config;
        let schemas = Arc::new(Schemas::new(Arc::default(), Arc::default()));
        let rows = FromRows { config: Arc::new(config), schemas };
        let (id, age) = (Uuid::now_v7(), Duration::from_secs(60));
        let read = |text: &str| rows.read(id, text.as_bytes(), age);
        let order = read(r#"{"kind":"a","delay":"90s","expires":"1m","args":{"x": 1.0}}"#).expect("a job");
        assert_eq!((order.job.id, order.job.args.text(), order.journaled), (id, r#"{"x": 1.0}"#, true));
        assert_eq!(order.delay.map(|delay| delay.as_secs()), Some(30));
        assert!(order.job.created < Timestamp::now() - age && order.job.expires_at < Some(Timestamp::now()));
        assert_eq!(read(r#"{"kind":"a","delay":"1s"}"#).expect("a job").delay, Some(Duration::ZERO));
        for (row, word) in [
            ("", "job: "),
            ("7", "job: "),
            (r#"[{"kind":"a"}]"#, "job: expected one"),
            (r#"{"kind":"b c"}"#, "kind: "),
            (r#"{"kind":"a","id":"01900000-0000-7000-8000-000000000000"}"#, "id: "),
            (r#"{"kind":"a","unique":{"key":"k"}}"#, "unique: "),
            (r#"{"kind":"a","knid":1}"#, "knid: "),
            (r#"{"kind":"a","in":"3d"}"#, "at: "),
            (r#"{"kind":"command","args":{"argv":["true",1]}}"#, "args.argv[1]: "),
        ] {
            let why = read(row).map(|_| ()).expect_err(row);
            assert!(why.starts_with(word), "{row}: {why}");
        }
    }
}
