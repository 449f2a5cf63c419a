//! `spinor triggers next`: the coming instants, in the trigger's zone and in UTC; those of blackouts are left out.

use clap::{ArgGroup, Args};
use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;

use super::{Failure, Global, Output};
use crate::{
    api::{NewTrigger, new_trigger::moment},
    cli::table::Table,
};

/// Flags of `triggers next`.
#[derive(Args, Debug)]
#[command(
    group = ArgGroup::new("of").required(true).args(["name", "cron", "every"]),
    after_help = "Examples:\n  spinor triggers next nightly\n  spinor triggers next --cron '30 2 * * *' --zone Europe/Berlin --after 2026-03-28T00:00:00Z\n  spinor triggers next --every 90s --limit 3 --json\n  spinor triggers next --every 4h --blackout 22:00-06:00 --zone Europe/Paris"
)]
pub struct NextInstants {
    /// A trigger; else say an expression, and no running Spinor is asked
    name: Option<String>,
    /// A cron expression
    #[arg(long, value_name = "EXPRESSION")]
    cron: Option<String>,
    /// Its time zone [default: UTC]
    #[arg(long, value_name = "ZONE", conflicts_with = "name")]
    zone: Option<String>,
    /// An interval
    #[arg(long, value_name = "DURATION")]
    every: Option<String>,
    /// A window in which nothing fires; may be repeated
    #[arg(long, value_name = "WINDOW", conflicts_with = "name")]
    blackout: Vec<String>,
    /// Those after this instant [default: now]
    #[arg(long, value_name = "INSTANT", conflicts_with = "name")]
    after: Option<String>,
    /// So many
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
}

/// An instant, on two clocks.
#[derive(Debug, Serialize)]
struct Coming {
    /// In UTC.
    instant: Timestamp,
    /// In the zone, with its offset.
    local: String,
}

impl NextInstants {
    pub(super) async fn run(self, global: &Global, output: Output) -> Result<u8, Failure> {
        let (instants, zone) = match &self.name {
            Some(name) => {
                let shown = global.client()?.trigger(name, self.limit).await?;
                let asked: NewTrigger =
                    shown.trigger.asked.read().map_err(|error| Failure::failed(error.to_string()))?;
                (shown.coming, asked.zone.unwrap_or_else(|| "UTC".to_owned()))
            }
            None => self.without_a_server()?,
        };
        let place = TimeZone::get(&zone).unwrap_or(TimeZone::UTC);
        let coming: Vec<Coming> = instants
            .into_iter()
            .map(|instant| {
                let local = instant.to_zoned(place.clone()).strftime("%a %Y-%m-%d %H:%M:%S %:z").to_string();
                Coming { instant, local }
            })
            .collect();
        output.value(&coming, |coming| {
            let mut table = Table::new(&[&zone, "UTC"]);
            for Coming { instant, local } in coming {
                table.row(vec![local.clone(), instant.to_string()]);
            }
            table.text("nothing is to come")
        })
    }

    fn without_a_server(&self) -> Result<(Vec<Timestamp>, String), Failure> {
        let usage = |problem: crate::api::Problem| {
            let field = problem.field.as_deref().map(|field| format!("--{field}: ")).unwrap_or_default();
            Failure::usage(format!("{field}{}", problem.detail))
        };
        let job = spinor_executors::Json::new(r#"{"kind":"noop"}"#).ok();
        let (cron, zone, every) = (self.cron.clone(), self.zone.clone(), self.every.clone());
        let new = NewTrigger { cron, zone, every, job, blackout: self.blackout.clone(), ..NewTrigger::default() };
        let spec = new.check().map_err(usage)?;
        let after = moment("after", self.after.as_deref()).map_err(usage)?.unwrap_or_else(Timestamp::now);
        let schedule = spec.schedule().map_err(|error| Failure::usage(error.to_string()))?;
        let instants = std::iter::successors(schedule.coming(after), |at| schedule.coming(*at));
        Ok((instants.take(self.limit as usize).collect(), spec.zone().to_owned()))
    }
}
