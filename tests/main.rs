//! The one integration-test binary: the real thing from outside, over real servers.
//!
//! `make test` starts the servers and names them in the environment; [`support`] holds the
//! fixtures. One module a subject, one line each, sorted. Tests await events and never sleep.
#![allow(missing_docs, reason = "tests are not an interface")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod access;
mod alerts;
mod api;
mod architecture;
mod backup;
mod bench;
mod blobs;
mod cli;
mod config;
mod conformance;
mod consumer;
#[cfg(test)]
mod embedded_faults;
mod failures;
mod holding;
mod kill;
mod kinds;
mod log;
mod message;
mod notices;
mod openapi;
mod orchestrations;
mod outbox;
mod page;
mod production;
mod programs;
mod python;
mod rabbitmq;
mod readme;
mod recorder;
mod retention;
mod runs;
mod rust;
mod scaling;
mod search;
mod state;
mod steer;
mod support;
mod tls;
mod torture;
mod triggers;
