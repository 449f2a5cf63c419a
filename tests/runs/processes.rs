//! The real processes, killed in the middle of a run, and without a recorder.
