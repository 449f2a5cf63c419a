//! Wrong passwords: after ten within a minute a name has to wait for the end of the minute.
//!
//! A try counts before the password is looked at, so that many at once are no more than ten. Users are counted by name;
//! names that nobody has share a fixed number of counts, so that no flood of them makes a user's be forgotten.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher as _,
    time::Duration,
};

use tokio::time::Instant;

use super::Problem;

const MOST: u32 = 10;
const WINDOW: Duration = Duration::from_secs(60);
/// Names that nobody has are counted by so many.
const OTHERS: u64 = 1024;

#[derive(Clone, PartialEq, Eq, Hash)]
enum Who {
    User(String),
    Other(u64),
}

/// How often who was wrong.
#[derive(Default)]
pub(super) struct Tries {
    times: HashMap<Who, (Instant, u32)>,
    seed: RandomState,
}

impl Tries {
    fn who(&self, name: &str, is_user: bool) -> Who {
        if is_user { Who::User(name.to_owned()) } else { Who::Other(self.seed.hash_one(name) % OTHERS) }
    }

    /// Counts a try, or refuses a name that was wrong too often.
    pub(super) fn begin(&mut self, name: &str, is_user: bool) -> Result<(), Problem> {
        self.times.retain(|_, (since, _)| since.elapsed() < WINDOW);
        let who = self.who(name, is_user);
        let (since, times) = self.times.entry(who).or_insert_with(|| (Instant::now(), 0));
        if *times >= MOST {
            let left = WINDOW.saturating_sub(since.elapsed()).as_secs() + 1;
            return Err(Problem::new(429, "Too many tries", format!("{times} wrong passwords; try again in {left} s")));
        }
        *times += 1;
        Ok(())
    }

    /// Forgets the wrong ones of a user.
    pub(super) fn right(&mut self, name: &str) {
        self.times.remove(&Who::User(name.to_owned()));
    }

    /// Takes back one that was not looked at.
    pub(super) fn take_back(&mut self, name: &str, is_user: bool) {
        let who = self.who(name, is_user);
        if let Some((_, times)) = self.times.get_mut(&who) {
            *times = times.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_name_waits_after_ten_tries_whatever_others_try_meanwhile() {
        let mut tries = Tries::default();
        for _ in 0..MOST {
            assert!(tries.begin("ann", true).is_ok());
        }
        for other in 0..5000 {
            let _ = tries.begin(&format!("nobody-{other}"), false);
        }
        assert!(tries.begin("ann", true).is_err_and(|problem| problem.status == 429));
        assert!(tries.begin("bob", true).is_ok() && tries.times.len() <= 1026);
        tries.take_back("ann", true);
        assert!(tries.begin("ann", true).is_ok() && tries.begin("ann", true).is_err());
        tokio::time::advance(WINDOW).await;
        assert!(tries.begin("ann", true).is_ok());
    }
}
