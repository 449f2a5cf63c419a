//! Who may do what: roles, and what they are given for.
//!
//! Owns the rule. Refuses to know how somebody is known: the API does.

mod grant;

pub(crate) use grant::any_fits;
pub use grant::{Grant, Grants, Role};
