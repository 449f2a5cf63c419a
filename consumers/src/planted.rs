//! Faults that the torture harness plants, to prove that its oracle finds them.
//!
//! Owns the switch: the variable `PLANTED_FAULT`, read once, and only in builds with debug
//! assertions (without `SPINOR_` before it, which would make it a setting). In a release build every
//! question is a constant `false`, and the name of the variable is not in the program. Refuses to
//! be a setting: no file, flag or page for users knows it.

/// Between an ack that comes too early and what it acks: a strike falls into it for certain.
pub const GAP: std::time::Duration = std::time::Duration::from_millis(300);

/// One way to break a promise on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A delivery is acked as soon as it is settled, before what it publishes is confirmed.
    AckBeforeConfirm,
    /// A message that the broker returned counts as published.
    DropOnReturn,
    /// What follows a delivery is published twice, and no copy is asked for its claim, which would tell.
    SettleTwice,
    /// What a dead consumer held is dropped instead of going home.
    ForgottenHold,
    /// A failed attempt is followed by another, whatever the policy says.
    RetryWithoutBound,
    /// A cancel is not obeyed.
    LostCancel,
    /// The relay of an outbox stops for ever between the confirms of a batch and the removal of its rows.
    RelayStuck,
    /// Some instants of a trigger make two jobs, and so do some delayed ones.
    DoubleTick,
    /// The job of some instants is marked as published and is not; some delayed ones, too.
    LostTick,
}

/// Is this fault planted in this process?
#[cfg(debug_assertions)]
pub fn planted(fault: Fault) -> bool {
    static NAME: std::sync::LazyLock<Option<String>> = std::sync::LazyLock::new(|| std::env::var("PLANTED_FAULT").ok());
    let name = match fault {
        Fault::AckBeforeConfirm => "ack-before-confirm",
        Fault::DropOnReturn => "drop-on-return",
        Fault::SettleTwice => "settle-twice",
        Fault::ForgottenHold => "forgotten-hold",
        Fault::RetryWithoutBound => "retry-without-bound",
        Fault::LostCancel => "lost-cancel",
        Fault::RelayStuck => "relay-stuck",
        Fault::DoubleTick => "double-tick",
        Fault::LostTick => "lost-tick",
    };
    NAME.as_deref() == Some(name)
}

/// Is this fault planted in this process? Never in a release.
#[cfg(not(debug_assertions))]
pub const fn planted(_: Fault) -> bool {
    false
}
