//! Steering: what people want of jobs, queues, consumers and limits is stored with who and why, shown
//! at once, and obeyed by whoever meets it. The API over its socket; then the command line with real processes.

mod away;
mod cancel;
mod consumers;
mod gone;
mod locks;
mod over;
mod queues;
mod stage;
mod unique;
mod whole;
mod why;
