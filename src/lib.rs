//! x
pub mod orchestrations;
