//! The recorder's loops over a broker: packs to rows, acks after the commit, bad lines to dead.
