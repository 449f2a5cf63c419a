//! Triggers: when they fire, by an oracle; that each instant fires once, whoever dies; what people do to them; jobs that wait for their time.

mod backfill;
mod changes;
mod delayed;
mod each;
mod kept;
mod late;
mod ledger;
mod oracle;
mod overlap;
mod processes;
mod steering;
mod store;
