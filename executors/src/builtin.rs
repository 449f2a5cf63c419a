//! The built-in executors.
