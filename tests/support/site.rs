//! A place of a test's own on shared servers: a prefix on the broker, a database, a queue name.
//!
//! Owns the part of a configuration that leads there, and clears the place when the test is done.
//! Refuses to start a server: `servers` does.

use std::str::FromStr;

use lapin::{Connection, ConnectionProperties, options::QueueDeclareOptions, types::FieldTable};
use sqlx::{ConnectOptions, Connection as _, MySqlConnection, mysql::MySqlConnectOptions};
use uuid::Uuid;

use super::servers;
use crate::{
    conformance::on_rabbitmq,
    recorder::{admin, with_database},
};

/// Names that no other test has. Dropped = cleared, as far as the servers answer.
pub struct Site {
    /// What the names of our objects on the broker start with.
    pub prefix: String,
    /// The broker's address.
    pub broker: String,
    /// The address of the test's own database.
    pub results: String,
    /// The address of the server it is on, and its name.
    database: (String, String),
}

impl Site {
    /// On the servers of the test run.
    pub async fn new() -> Self {
        Self::on(&servers::rabbitmq_url(), &servers::mysql_url()).await
    }

    /// On these servers.
    pub async fn on(broker: &str, sql: &str) -> Self {
        let name = Uuid::now_v7().simple().to_string();
        let database = format!("spinor_{name}");
        admin(sql, &format!("CREATE DATABASE {database}")).await;
        Self {
            prefix: format!("test-{name}"),
            broker: broker.to_owned(),
            results: with_database(sql, &database),
            database: (sql.to_owned(), database),
        }
    }

    /// The lines of a configuration that lead here.
    pub fn toml(&self) -> String {
        format!("broker = {:?}\nbroker_prefix = {:?}\nresults = {:?}\n", self.broker, self.prefix, self.results)
    }

    /// A connection to the test's own database, beside the product.
    pub async fn sql(&self) -> MySqlConnection {
        connect(&self.results).await
    }

    /// How many messages are ready on a queue of ours, by the broker's own count.
    pub async fn ready(&self, queue: &str) -> u32 {
        let connection = Connection::connect(&self.broker, ConnectionProperties::default()).await.expect("AMQP");
        let channel = connection.create_channel().await.expect("a channel");
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let name = format!("{}.{queue}", self.prefix);
        let declared = channel.queue_declare(name.as_str().into(), options, FieldTable::default()).await;
        let count = declared.expect("the queue is there").message_count();
        connection.close(200, "done".into()).await.expect("it closes");
        count
    }
}

async fn connect(url: &str) -> MySqlConnection {
    MySqlConnectOptions::from_str(url).expect("a MySQL URL").connect().await.expect("the database answers")
}

impl Drop for Site {
    fn drop(&mut self) {
        let (broker, prefix) = (self.broker.clone(), self.prefix.clone());
        let (server, database) = self.database.clone();
        let clear = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                // Best effort: what stays has a name of its own. A test that fails keeps its record.
                let _ = on_rabbitmq::remove(&broker, &prefix).await;
                if let Ok(options) = MySqlConnectOptions::from_str(&server)
                    && let Ok(mut connection) = options.connect().await
                {
                    let drop = format!("DROP DATABASE IF EXISTS {database}");
                    let _ = sqlx::query(sqlx::AssertSqlSafe(drop)).execute(&mut connection).await;
                    let _ = connection.close().await;
                }
            });
            std::io::Result::Ok(())
        };
        if !std::thread::panicking() {
            let _ = std::thread::spawn(clear).join();
        }
    }
}
