//! The process: command line, configuration, HTTP API, the client for programs, wiring.
//!
//! The worlds on the engine live here as modules the engine never imports.
//!
//! What a program needs is named here, at the top: [`Client`] to publish and wait, [`Consumer`] to run
//! jobs with executors of its own.

pub mod api;
pub mod app;
pub mod bench;
pub mod cli;
pub mod client;
pub mod config;
pub mod consumer;
pub mod log;
pub mod orchestrations;
pub mod scaling;

mod signals;

pub use api::{Asked, new_job::NewJob, new_run::NewJobRun};
pub use client::{Client, ClientError};
pub use consumer::{Consumer, ConsumerBuilder, ConsumerError};
pub use spinor_executors::{Context, Executor, Job, Json, Outcome, TypedExecutor};
