//! Who of a group takes jobs, as far as can be told: a supervisor's own by what it knows of them,
//! everybody else by their presence in state.
//!
//! Owns who counts. Refuses to count the dead: a consumer that ended hard stays present for a
//! minute, so one on this machine is looked for among its processes.

use std::{path::Path, time::Duration};

use jiff::Timestamp;
use spinor_consumers::state::Present;

use super::{decide::Seen, fleet::Fleet, replica::Place};

/// A consumer whose process is not here is dead when it was silent for so long: several beats. One
/// in another container may share this machine's name and not its processes; it is not silent.
const SILENT: Duration = Duration::from_secs(15);

/// The consumers of a group that take jobs, the fleet's own among them.
pub fn seen(group: &str, host: &str, fleet: &Fleet, present: &[Present]) -> Vec<Seen> {
    let of_group = || present.iter().filter(|present| present.beat.group == group);
    let mut seen: Vec<Seen> = fleet
        .active()
        .map(|place| {
            let told = of_group().find(|present| is(place, host, present));
            // One that nobody has heard of yet is the newest.
            let (started, consumer) =
                told.map_or((Timestamp::MAX, String::new()), |told| (told.beat.started, told.beat.consumer.clone()));
            Seen { started, consumer, mine: true }
        })
        .collect();
    let others = of_group().filter(|present| {
        let known = fleet.active().chain(fleet.leaving()).any(|place| is(place, host, present));
        !known && !present.beat.draining && !is_dead(host, present)
    });
    seen.extend(others.map(|present| Seen {
        started: present.beat.started,
        consumer: present.beat.consumer.clone(),
        mine: false,
    }));
    seen
}

fn is(place: &Place, host: &str, present: &Present) -> bool {
    match place {
        Place::Task(consumer) => *consumer == present.beat.consumer,
        Place::Child(pid) => *pid == present.beat.pid && present.beat.host == host,
        Place::Nowhere => false,
    }
}

fn is_dead(host: &str, present: &Present) -> bool {
    let process = Path::new("/proc").join(present.beat.pid.to_string());
    present.beat.host == host && present.ago > SILENT && !process.exists()
}
