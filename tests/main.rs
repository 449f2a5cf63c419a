//! The one integration binary: every module here tests over the real thing.
//!
//! `conformance`: one suite over the broker contract, run on each broker.

#![allow(missing_docs)]

#[cfg(test)]
mod conformance;
