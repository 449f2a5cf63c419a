//! Runs of many jobs: what follows fires once, whoever dies, and however its needs ended.
//!
//! `engine` is a consumer and triggers without any recorder, on both brokers; `processes` kills the real ones, and
//! `dag` says what must be true then.

mod dag;
mod engine;
mod processes;
mod stage;
