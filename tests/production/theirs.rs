//! A queue of somebody else's that is not there when Spinor starts.

use lapin::{
    Connection, ConnectionProperties,
    options::{BasicPublishOptions, QueueDeclareOptions, QueueDeleteOptions},
    types::FieldTable,
};

use super::{PATIENCE, drained, up};
use crate::support::{eventually, process::Spinor, site::Site};

#[tokio::test]
async fn a_foreign_queue_that_is_missing_stops_nothing_and_is_taken_from_once_its_owner_made_it() {
    let site = Site::new().await;
    let theirs = format!("{}-theirs", site.prefix);
    let spinor = Spinor::new(&format!(
        "{}data = 'data'\n[consumer]\nqueues = ['{theirs}', 'one']\nkinds = ['noop']\n\
         [queues.'{theirs}']\nforeign = true\ndefault_kind = 'noop'\n",
        site.toml()
    ));
    let process = up(&spinor, &[]).await;
    process.says("until its owner has made it", PATIENCE).await;
    spinor.run(&["publish", "noop", "--queue", "one", "--wait", "--timeout", "60s"]).await.expect_success();
    let connection = Connection::connect(&site.broker, ConnectionProperties::default()).await.expect("AMQP");
    let channel = connection.create_channel().await.expect("a channel");
    let name = theirs.as_str();
    channel.queue_declare(name.into(), QueueDeclareOptions::durable(), FieldTable::default()).await.expect("declared");
    channel
        .basic_publish("".into(), name.into(), BasicPublishOptions::default(), b"{}", Default::default())
        .await
        .expect("published");
    let count = async || -> i64 {
        let sql = "SELECT COUNT(*) FROM jobs WHERE state = 'succeeded'";
        sqlx::query_scalar(sql).fetch_one(&mut site.sql().await).await.expect("a count")
    };
    eventually("the job of theirs to be done", PATIENCE, async || count().await == 2).await;
    channel.queue_delete(name.into(), QueueDeleteOptions::default()).await.expect("deleted");
    drained(process).await;
}
