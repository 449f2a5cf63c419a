//! What the kernel says of processes: CPU, memory, and who listens on a port.
//!
//! Reads `/proc` only. Refuses to guess: what cannot be read is `None` and shown as not known.

use std::{collections::HashSet, fs, path::Path};

/// Ticks a second in `/proc/PID/stat`: fixed for user space on Linux.
const TICKS: f64 = 100.0;

/// CPU seconds of a process and of its children that ended and were waited for.
pub fn cpu_seconds(pid: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    let ticks: f64 = fields.split(' ').skip(11).take(4).filter_map(|field| field.parse::<f64>().ok()).sum();
    Some(ticks / TICKS)
}

/// Resident bytes now.
pub fn resident(pid: u32) -> Option<u64> {
    status(pid, "VmRSS")
}

/// The most resident bytes it had since its start.
pub fn peak(pid: u32) -> Option<u64> {
    status(pid, "VmHWM")
}

fn status(pid: u32, field: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    line.trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kib| kib * 1024)
}

/// The process of this machine that listens on a TCP port.
pub fn listener(port: u16) -> Option<u32> {
    let inodes: HashSet<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| table.lines().filter_map(|line| listening(line, port)).collect::<Vec<_>>())
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    if inodes.is_empty() {
        return None;
    }
    let pids =
        fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.into_iter().find(|pid| holds(*pid, &inodes))
}

/// The inode of a socket that listens on this port, out of a line of the table.
fn listening(line: &str, port: u16) -> Option<String> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (_, found) = fields.get(1)?.rsplit_once(':')?;
    let listens = *fields.get(3)? == "0A";
    (listens && u16::from_str_radix(found, 16).ok()? == port).then(|| fields.get(9).map(|inode| (*inode).to_owned()))?
}

fn holds(pid: u32, sockets: &HashSet<String>) -> bool {
    let Ok(open) = fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fd")) else { return false };
    open.flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .any(|target| target.to_str().is_some_and(|target| sockets.contains(target)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_listener_of_a_port_is_found_and_measured() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        assert_eq!(listener(port), Some(std::process::id()));
        // In this order, since other tests make the process grow; the kernel counts pages in batches.
        let resident = resident(std::process::id()).unwrap();
        assert!(resident > 0);
        assert!(peak(std::process::id()).unwrap() > resident / 2);
        assert!(cpu_seconds(std::process::id()).is_some());
        drop(socket);
        assert_eq!(listener(port), None);
    }
}
