//! A test that runs again, as a child on a small disk of its own.
//!
//! Owns the mount, which is in a namespace of the child and gone with it. Refuses to fill a disk of
//! the machine.

use std::process::Command;

use super::scratch::Scratch;

/// Runs this test of this binary again with `variable` naming a fresh disk of that size, and fails as it fails.
pub fn run_again(test: &str, variable: &str, size: &str) {
    let scratch = Scratch::new("small-disk");
    let mut command = Command::new("unshare");
    // Root needs no user namespace to mount, and a chroot has none to give.
    if !rustix::process::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    let ended = command
        .args(["--mount", "sh", "-c"])
        .arg(format!("mount -t tmpfs -o size={size} none \"${variable}\" && exec \"$@\""))
        .arg("sh")
        .arg(std::env::current_exe().expect("our own path"))
        .args([test, "--exact", "--nocapture"])
        .env(variable, scratch.path())
        .output()
        .expect("unshare");
    let said = format!("{}{}", String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success() && said.contains("1 passed"), "{said}");
}
