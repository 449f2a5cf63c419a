//! RabbitMQ as the suite sees it: the server that the environment names, and a prefix of its own.

use std::time::Duration;

use lapin::{
    Connection, ConnectionProperties,
    options::{ExchangeDeleteOptions, QueueDeleteOptions},
};
use spinor_consumers::broker::{
    AnyBroker, Broker,
    rabbitmq::{RabbitMq, RabbitSettings},
};
use uuid::Uuid;

use super::fixture::Fixture;
use crate::support::{proxy::CutProxy, servers};

/// One prefix; each handle reaches the server through a proxy that can be cut.
pub struct OnRabbitMq {
    prefix: String,
    search: bool,
    proxy: CutProxy,
    broker: AnyBroker,
    /// Handles of other processes, and of those that "died": kept, so that nothing of theirs is
    /// closed in good order.
    dead: Vec<(CutProxy, AnyBroker)>,
}

/// `host:port` of a URL.
fn address_of(url: &str) -> String {
    let rest = url.rsplit_once('@').map_or(url, |(_, rest)| rest);
    rest.split('/').next().expect("a host").to_owned()
}

async fn connect(prefix: &str, search: bool) -> (CutProxy, AnyBroker) {
    let url = servers::rabbitmq_url();
    let proxy = CutProxy::start(&address_of(&url)).await;
    let settings = RabbitSettings {
        prefix: prefix.to_owned(),
        search,
        confirm_timeout: Duration::from_secs(3),
        ..RabbitSettings::new(proxy.url(&url))
    };
    let broker = RabbitMq::connect(settings).await.expect("connect");
    broker.declare(&[]).await.expect("declare");
    (proxy, AnyBroker::RabbitMq(broker))
}

impl Fixture for OnRabbitMq {
    async fn install(search: bool) -> Self {
        let prefix = format!("test-{}", Uuid::now_v7().simple());
        let (proxy, broker) = connect(&prefix, search).await;
        Self { prefix, search, proxy, broker, dead: Vec::new() }
    }

    fn broker(&self) -> AnyBroker {
        self.broker.clone()
    }

    async fn another(&mut self) -> AnyBroker {
        let (proxy, broker) = connect(&self.prefix, self.search).await;
        self.dead.push((proxy, broker.clone()));
        broker
    }

    async fn reopen(&mut self) -> AnyBroker {
        self.broker.close().await;
        (self.proxy, self.broker) = connect(&self.prefix, self.search).await;
        self.broker()
    }

    async fn lose(&mut self) -> AnyBroker {
        self.proxy.cut();
        let (proxy, broker) = connect(&self.prefix, self.search).await;
        let dead = (std::mem::replace(&mut self.proxy, proxy), std::mem::replace(&mut self.broker, broker));
        self.dead.push(dead);
        self.broker()
    }
}

impl Drop for OnRabbitMq {
    fn drop(&mut self) {
        let (url, prefix) = (servers::rabbitmq_url(), self.prefix.clone());
        let clean = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async { remove(&url, &prefix).await.map_err(std::io::Error::other) })
        };
        // Best effort: what stays has a name of its own.
        let _ = std::thread::spawn(clean).join();
    }
}

/// Deletes what an installation declared.
pub async fn remove(url: &str, prefix: &str) -> lapin::Result<()> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let work = ["images", "mail", "one", "two", "three", "stage"];
    let work = work.into_iter().flat_map(|queue| ["", ".high", ".low"].map(|lane| format!("jobs.{queue}{lane}")));
    let own = ["results", "search", "next", "dead", "back", "lost", "held", "events"].map(str::to_owned);
    let tiers = ["1s", "5s", "15s", "1m", "5m", "15m"].map(|tier| format!("delay.{tier}"));
    let takers = ["images", "stage"].map(|queue| format!("takers.{queue}"));
    for rest in work.chain(own).chain(takers).chain(tiers) {
        let name = format!("{prefix}.{rest}");
        channel.queue_delete(name.as_str().into(), QueueDeleteOptions::default()).await?;
        channel.exchange_delete(name.as_str().into(), ExchangeDeleteOptions::default()).await?;
    }
    connection.close(200, "done".into()).await
}
