//! Triggers: when they fire, by an oracle; that each instant fires once, whoever dies; what people do to them.

mod backfill;
mod changes;
mod ledger;
mod oracle;
mod overlap;
mod processes;
mod steering;
mod store;
