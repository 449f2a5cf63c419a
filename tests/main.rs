//! The one integration binary: every module here tests over the real thing.
//!
//! `conformance`: one suite over the broker contract, run on each broker. `embedded_faults`: the
//! embedded broker killed, torn, full.

#![allow(missing_docs)]

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod embedded_faults;
