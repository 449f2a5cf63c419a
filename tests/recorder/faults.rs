//! The recorder while its database refuses, stops and comes back.
