//! Which consumers a process has, and what each may run.

use std::{sync::Arc, time::Duration};

use spinor_consumers::{
    blobs::Blobs,
    broker::{AnyBroker, QueueSpec},
    consumer::{Agreed, Consumer, ConsumerSettings, KindSettings, QueueSettings, Record},
    results::ResultsTarget,
    schedule::Spec,
    trigger::{Asked, FAN_OUT_KIND, FanOut, ItemSource},
};
use spinor_executors::{Bounds, KindPattern, Node, Origin, Registry, builtin, guardian::Guardian, plan::PLAN_KIND};
use uuid::Uuid;

use super::{Own, Role, connect, programs};
use crate::{
    config::{AskedConfig, Config, ItemsConfig, OtherDatabase, SearchChoice},
    orchestrations::drive::node_queue,
    scaling::MakeConsumer,
};

/// Plans of one node that may be side by side; the sync ones among them still take turns.
const NODE_SLOTS: usize = 4;

/// Each consumer of this process with the kinds it may run.
pub fn of(config: &Config, role: &Role) -> anyhow::Result<Vec<(Arc<ConsumerSettings>, Arc<Registry>)>> {
    let mut consumers = Vec::new();
    if role.jobs {
        consumers.push(jobs(config, role.own.as_ref())?);
    }
    for node in &role.nodes {
        let mut registry = Registry::new();
        let journals = config.data.join("plans").join(node);
        builtin(&mut registry, Some(Node { name: node, journals: &journals }))?;
        // A node admits plans only: what else it could run comes as steps.
        registry.allow(&[KindPattern::new(PLAN_KIND).map_err(anyhow::Error::msg)?]);
        let settings = settings(config, NODE_SLOTS, vec![queue(config, &node_queue(node))], Some(node.clone()));
        consumers.push((Arc::new(settings), Arc::new(registry)));
    }
    Ok(consumers)
}

/// A consumer of these settings, ready to run.
pub fn start(
    config: &Arc<Config>,
    settings: &Arc<ConsumerSettings>,
    registry: &Arc<Registry>,
    broker: &AnyBroker,
    record: &Record,
    blobs: &Blobs,
    agreed: &Agreed,
) -> Consumer {
    Consumer::new(Arc::clone(settings), Arc::clone(registry), broker.clone(), None)
        .with_record(Arc::clone(record))
        .with_blobs(blobs.clone())
        .with_agreed(agreed.clone())
        .with_drafts(Arc::new(programs::FromJobs(Arc::clone(config))))
}

/// Makes replicas of this process's own consumer, each with a name of its own.
pub fn maker(config: Arc<Config>, broker: AnyBroker, record: Record, blobs: Blobs, agreed: Agreed) -> MakeConsumer {
    Box::new(move || {
        let (settings, registry) = jobs(&config, None)?;
        Ok((settings.origin.consumer.clone(), start(&config, &settings, &registry, &broker, &record, &blobs, &agreed)))
    })
}

/// This machine's name.
pub fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Starts the process that ends our jobs' processes if this one dies: this program, where it is `spinor`.
pub fn start_guardian(role: &Role) -> anyhow::Result<()> {
    let program = match &role.own {
        None => std::env::current_exe()?,
        Some(Own { guardian: Some(spinor), .. }) => spinor.clone(),
        Some(_) => return Ok(()),
    };
    Ok(Guardian::start(&program, &["guardian"])?)
}

/// The consumer of the configured queues.
fn jobs(config: &Config, own: Option<&Own>) -> anyhow::Result<(Arc<ConsumerSettings>, Arc<Registry>)> {
    let mut registry = Registry::new();
    builtin(&mut registry, None)?;
    for (kind, executor) in own.iter().flat_map(|own| &own.executors) {
        registry.add(kind, Arc::clone(executor))?;
    }
    programs::register(config, &mut registry)?;
    if !config.items.is_empty() {
        let sources = config.items.iter().filter_map(|(name, items)| {
            let spec = config.triggers.get(name)?.clone();
            Some((name.clone(), source(config, items, spec)))
        });
        registry.add(FAN_OUT_KIND, Arc::new(FanOut::new(sources.collect())))?;
    }
    if let Some(patterns) = &config.consumer.kinds {
        registry.allow(patterns);
    }
    let queues = config.consumer.queues.iter().map(|name| queue(config, name)).collect();
    let settings = settings(config, config.consumer.slots, queues, None);
    Ok((Arc::new(settings), Arc::new(registry)))
}

/// Who tells the items of a trigger.
fn source(config: &Config, items: &ItemsConfig, spec: Spec) -> ItemSource {
    let asked = match &items.asked {
        AskedConfig::Command(argv) => Asked::Command(argv.clone()),
        AskedConfig::Sql(database, sql) => {
            let database = match database {
                None => connect::target(config, &config.data),
                Some(OtherDatabase::Sqlite(path)) => ResultsTarget::Sqlite(path.clone()),
                Some(OtherDatabase::MySql(endpoint)) => ResultsTarget::MySql(endpoint.reveal().to_owned()),
            };
            Asked::Sql { database, sql: sql.clone() }
        }
    };
    ItemSource { asked, limit: items.limit, spec }
}

fn queue(config: &Config, name: &str) -> QueueSettings {
    let queue = config.queue(name);
    QueueSettings {
        spec: QueueSpec { name: name.to_owned(), foreign: queue.foreign },
        default_kind: queue.default_kind,
    }
}

fn settings(config: &Config, slots: usize, queues: Vec<QueueSettings>, node: Option<String>) -> ConsumerSettings {
    let host = host();
    let group = node.clone().unwrap_or_else(|| config.consumer.group.clone());
    // The end of the id is random; its start is the time, the same for consumers started together.
    let unique = Uuid::now_v7().simple().to_string().split_off(20);
    // A plan's steps have limits of their own; the plan as a whole has none.
    let everything = node.is_none().then_some(config.consumer.timeout);
    ConsumerSettings {
        origin: Origin { consumer: format!("{group}@{host}-{unique}"), group, host },
        node,
        queues,
        slots,
        hold_after: config.consumer.hold_after,
        results_bound: config.results_bound(),
        grace: config.consumer.grace,
        soft_to_hard: Duration::from_secs(5),
        keep_output: 32 * 1024,
        unknown_kind_grace: Duration::from_secs(600),
        whole_reports: config.search != SearchChoice::Off,
        kinds: kinds(config, everything),
        limits: config.limits.clone(),
    }
}

/// Limits by kind, the most exact pattern first.
fn kinds(config: &Config, everything: Option<spinor_executors::Timeout>) -> Vec<KindSettings> {
    let mut patterns: Vec<&String> = config.kinds.keys().collect();
    patterns.sort_by_key(|pattern| std::cmp::Reverse((pattern.trim_end_matches('*').len(), !pattern.ends_with('*'))));
    let mut kinds: Vec<KindSettings> = patterns
        .into_iter()
        .filter_map(|text| {
            let limits = config.limits_of(text.trim_end_matches('*'));
            let own = config.kinds.get(text)?;
            Some(KindSettings {
                pattern: KindPattern::new(text.as_str()).ok()?,
                timeout: own.timeout.or(limits.timeout).or(everything),
                retry: own.retry.or(limits.retry),
                bounds: Bounds { memory: own.memory.or(limits.memory), files: own.files.or(limits.files) },
                limits: limits.limits.unwrap_or_default(),
                at_most_once: limits.at_most_once.unwrap_or_default(),
            })
        })
        .collect();
    kinds.extend(KindPattern::new("*").ok().map(|pattern| KindSettings {
        pattern,
        timeout: everything,
        retry: None,
        bounds: Bounds::default(),
        limits: Vec::new(),
        at_most_once: false,
    }));
    kinds
}
