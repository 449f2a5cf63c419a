//! Refusals of who is not known: one a minute from each address, so that nobody fills a disk with them.

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use tokio::time::Instant;

const WINDOW: Duration = Duration::from_secs(60);
/// More addresses count as one.
const PLACES: usize = 1000;
const OTHERS: &str = "";

/// How many were left out, by address, since one was written down.
#[derive(Default)]
pub(super) struct Nobody(HashMap<String, (Instant, u64)>);

impl Nobody {
    /// Is this one written down? With how many before it were not.
    pub(super) fn count(&mut self, place: &str) -> Option<u64> {
        // Not by port: each connection has another one.
        let place = place.parse::<SocketAddr>().map_or_else(|_| place.to_owned(), |place| place.ip().to_string());
        self.0.retain(|_, (since, left)| *left > 0 && since.elapsed() < 60 * WINDOW || since.elapsed() < WINDOW);
        let is_full = self.0.len() >= PLACES && !self.0.contains_key(&place);
        let place = if is_full { OTHERS.to_owned() } else { place };
        match self.0.get_mut(&place) {
            Some((since, left)) if since.elapsed() < WINDOW => {
                *left += 1;
                None
            }
            Some(last) => Some(std::mem::replace(last, (Instant::now(), 0)).1),
            None => {
                self.0.insert(place, (Instant::now(), 0));
                Some(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_refusal_a_minute_is_written_down_from_each_address_with_how_many_were_not() {
        let mut nobody = Nobody::default();
        assert_eq!(nobody.count("10.0.0.1:1000"), Some(0));
        for port in 1001..1100 {
            assert_eq!(nobody.count(&format!("10.0.0.1:{port}")), None);
        }
        assert_eq!(nobody.count("10.0.0.2:1000"), Some(0), "another address");
        tokio::time::advance(WINDOW).await;
        assert_eq!(nobody.count("10.0.0.1:2000"), Some(99));
        for host in 0..3000 {
            let _ = nobody.count(&format!("10.1.{}.{}:1", host / 250, host % 250));
        }
        assert!(nobody.0.len() <= PLACES + 1);
    }
}
