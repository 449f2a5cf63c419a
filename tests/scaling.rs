//! A group's wanted replicas become true: real processes on RabbitMQ, tasks when embedded.
//!
//! What ran is told by a ledger that the jobs' own processes write, outside Spinor; who runs, by
//! `/proc`. The wish is set where it lives, in state.

mod elsewhere;
mod processes;
mod scaler;
mod stage;
mod tasks;
