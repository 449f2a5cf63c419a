//! Where jobs come from and where reports go.
//!
//! In the order of a job's way: [`message`] (how a job is carried), [`broker`] (the seam, with the
//! two brokers under it), [`consumer`] (queues in, pool, settle), [`recorder`] (the reply queue
//! into the results database), [`search`] (the same into the search index), [`replays`] (what ended is
//! started anew), [`next`] and [`trigger`] (what follows, after a job or at a time), [`schedule`] (when),
//! [`outbox`] (jobs that wait in a database of somebody else's), [`access`] (who may), [`notices`] (who wants to
//! hear of what ended badly). Only `broker/rabbitmq` knows the AMQP client;
//! only `results` knows SQL of the record.

pub mod access;
mod anchor;
pub mod backup;
pub mod blobs;
pub mod broker;
pub mod consumer;
mod database;
pub mod entry;
pub mod hidden;
pub mod marks;
pub mod message;
pub mod next;
pub mod notices;
pub mod outbox;
mod planted;
pub mod recorder;
pub mod replays;
pub mod results;
pub mod retention;
pub mod schedule;
pub mod search;
pub mod state;
mod tls;
pub mod trigger;

pub use tls::{install_tls_provider, read_ca_file};
