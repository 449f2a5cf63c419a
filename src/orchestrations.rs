//! Orchestrations: YAML files whose jobs run, in order, on many nodes.
//!
//! Owns the file format ([`parse`]), the way from a file to one plan for each node ([`compile`]),
//! the life of a run ([`drive`]), its figures ([`analysis`]) and the command `spinor run`
//! ([`command`]). A world on the engine: the engine never imports it, and it reaches a node only
//! by a message over the broker.
//!
//! ```text
//! text -> source -> parse -> compile -> drive -> analysis
//! ```

pub mod analysis;
pub mod command;
pub mod compile;
pub mod drive;
pub mod jobs_analysis;
pub mod parse;
pub mod problem;
pub mod progress;
pub mod remote;
mod run_text;
pub mod serve;
mod source;
pub mod view;

pub use drive::node_queue;
