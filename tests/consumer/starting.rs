//! A broker that goes away between the connection and the consumer's start.

use std::sync::Arc;

use spinor_consumers::{
    broker::{
        Address, AnyBroker, Broker, Link,
        rabbitmq::{RabbitMq, RabbitSettings},
    },
    consumer::{Consumer, Shutdown},
    message,
};
use spinor_executors::{Job, Json, Registry, builtin};
use tokio::task::JoinSet;

use super::stage::{QUEUE, settings};
use crate::{
    conformance::fixture::{PATIENCE, consume, must, publish_one, take, work},
    support::{eventually, proxy::CutProxy, site::Site},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_goes_away_while_a_consumer_starts_is_waited_for() {
    let site = Site::new().await;
    let address = site.broker.rsplit_once('@').and_then(|(_, rest)| rest.split('/').next()).expect("a host");
    let proxy = CutProxy::start(address).await;
    let reach = RabbitSettings { prefix: site.prefix.clone(), ..RabbitSettings::new(proxy.url(&site.broker)) };
    let broker = AnyBroker::RabbitMq(RabbitMq::connect(reach).await.expect("connect"));
    let mut link = broker.link();
    proxy.cut();
    let lost = link.wait_for(|link| matches!(link, Link::Down { .. }));
    drop(tokio::time::timeout(PATIENCE, lost).await.expect("in time").expect("a link"));
    let mut registry = Registry::new();
    builtin(&mut registry, None).expect("the kinds");
    let consumer = Consumer::new(Arc::new(settings(2)), Arc::new(registry), broker.clone(), None);
    let shutdown = Shutdown::default();
    let mut running = JoinSet::new();
    running.spawn(consumer.run(shutdown.clone()));
    let refused = broker.declare(&[]).await;
    assert!(refused.is_err() && running.try_join_next().is_none(), "it waits");
    proxy.heal();
    eventually("the consumer on its queue", PATIENCE, async || {
        let stats = broker.stats(&[QUEUE.to_owned()]).await.unwrap_or_default();
        stats.first().is_some_and(|queue| queue.consumers == 1)
    })
    .await;
    let job = Job::new("noop", QUEUE, Json::empty());
    publish_one(&broker, must(work(QUEUE), message::encode(&job, false))).await.expect("published");
    let report = take(&mut consume(&broker, Address::Results, 1).await).await;
    assert!(String::from_utf8_lossy(&report.message.body).contains(&job.id.to_string()));
    shutdown.drain.cancel();
    let ended = tokio::time::timeout(PATIENCE, running.join_next()).await.expect("in time").expect("it ran");
    ended.expect("no panic").expect("it started");
    broker.close().await;
}
