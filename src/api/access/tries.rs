//! Wrong passwords: after ten within a minute a name has to wait for the end of the minute.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use super::Problem;

const MOST: u32 = 10;
const WINDOW: Duration = Duration::from_secs(60);
/// More names are not remembered: the oldest go.
const NAMES: usize = 1000;

/// How often who was wrong.
#[derive(Default)]
pub(super) struct Tries(HashMap<String, (Instant, u32)>);

impl Tries {
    /// Refuses a name that was wrong too often.
    pub(super) fn check(&mut self, name: &str) -> Result<(), Problem> {
        self.0.retain(|_, (since, _)| since.elapsed() < WINDOW);
        match self.0.get(name) {
            Some((since, times)) if *times >= MOST => {
                let left = WINDOW.saturating_sub(since.elapsed()).as_secs() + 1;
                Err(Problem::new(429, "Too many tries", format!("{times} wrong passwords; try again in {left} s")))
            }
            _ => Ok(()),
        }
    }

    /// Counts a wrong one.
    pub(super) fn wrong(&mut self, name: &str) {
        if self.0.len() >= NAMES
            && let Some(oldest) = self.0.iter().min_by_key(|(_, (since, _))| *since).map(|(name, _)| name.clone())
        {
            self.0.remove(&oldest);
        }
        self.0.entry(name.to_owned()).or_insert_with(|| (Instant::now(), 0)).1 += 1;
    }

    /// Forgets them.
    pub(super) fn right(&mut self, name: &str) {
        self.0.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_name_waits_after_ten_wrong_ones_and_no_other_does() {
        let mut tries = Tries::default();
        for _ in 0..MOST {
            assert!(tries.check("ann").is_ok());
            tries.wrong("ann");
        }
        assert!(tries.check("ann").is_err_and(|problem| problem.status == 429) && tries.check("bob").is_ok());
        tokio::time::advance(WINDOW).await;
        assert!(tries.check("ann").is_ok());
    }
}
