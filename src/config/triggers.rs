//! The keys of a trigger: read into the form that people use everywhere, and checked by its rules.

use std::collections::BTreeMap;

use serde::Deserialize;
use spinor_consumers::schedule::{Misfire, Overlap, Spec};
use spinor_executors::Json;

use super::{ItemsConfig, each, raw::Rules, secrets::Secrets};
use crate::api::{
    NewTrigger,
    new_trigger::{self, CountsFrom},
};

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawTrigger {
    cron: Option<String>,
    zone: Option<String>,
    every: Option<String>,
    from: Option<CountsFrom>,
    at: Option<String>,
    /// As JSON.
    job: Option<String>,
    /// As JSON.
    each: Option<String>,
    misfire: Option<Misfire>,
    overlap: Option<Overlap>,
    start: Option<String>,
    end: Option<String>,
    blackout: Vec<String>,
    jitter: Option<String>,
    max_runs: Option<u64>,
    paused: bool,
}

impl Rules<'_> {
    /// The triggers of the file, each once its rules hold, and who tells the items of some.
    pub(super) fn triggers(
        &mut self,
        raw: BTreeMap<String, RawTrigger>,
        secrets: &Secrets,
    ) -> (BTreeMap<String, Spec>, BTreeMap<String, ItemsConfig>) {
        let (mut triggers, mut items) = (BTreeMap::new(), BTreeMap::new());
        for (name, raw) in raw {
            let source = raw.each.as_deref().and_then(each::read);
            let new = NewTrigger {
                name: None,
                cron: raw.cron,
                zone: raw.zone,
                every: raw.every,
                from: raw.from,
                at: raw.at,
                job: raw.job.and_then(|text| Json::new(text).ok()),
                // Without a password: this is stored, and shown.
                each: raw.each.and_then(|text| Json::new(each::masked(&text)).ok()),
                misfire: raw.misfire,
                overlap: raw.overlap,
                start: raw.start,
                end: raw.end,
                blackout: raw.blackout,
                jitter: raw.jitter,
                max_runs: raw.max_runs,
                paused: raw.paused,
                by: None,
                why: None,
            };
            match new.check().and_then(|spec| new_trigger::check_args(&spec).map(|()| spec)) {
                Ok(spec) => {
                    let source = source.and_then(|source| each::items(source, secrets.each_password.as_deref()));
                    items.extend(source.map(|source| (name.clone(), source)));
                    triggers.insert(name, spec);
                }
                Err(problem) => {
                    let field = problem.field.as_deref().unwrap_or("job");
                    let known = match problem.known.as_slice() {
                        [] => String::new(),
                        known => format!("; there are {}", known.join(", ")),
                    };
                    // What is wrong within the job stands where the job does.
                    let at = field.split('.').next().unwrap_or(field);
                    let within = if at == field { String::new() } else { format!("`{field}` ") };
                    let place = self.place(&[&format!("triggers.{name}.{at}"), &format!("triggers.{name}")]);
                    self.add_at(&place, &format!("triggers.{name}.{at}"), format!("{within}{}{known}", problem.detail));
                }
            }
        }
        (triggers, items)
    }
}
