//! The process: command line, configuration, HTTP API, the client for programs, wiring.
//!
//! The worlds on the engine live here as modules the engine never imports.

pub mod api;
pub mod app;
pub mod bench;
pub mod cli;
pub mod client;
pub mod config;
pub mod log;
pub mod orchestrations;
pub mod scaling;
