"""Tests against a running Spinor, named by the environment; `tests/python.rs` starts it."""
