//! The one integration binary: every module here tests over the real thing.

#![allow(missing_docs)]

#[cfg(test)]
mod message;
