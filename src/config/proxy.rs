//! A proxy that knows who asks, and says so in a header.
//!
//! Owns from which addresses it is believed. Refuses a header that any browser or server sends by itself.

use std::{fmt, net::IpAddr};

use serde::Deserialize;
use spinor_consumers::access::{Grant, Grants};

use super::raw::Rules;

/// Headers that mean something else already.
const TAKEN: [&str; 14] = [
    "accept",
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "host",
    "idempotency-key",
    "last-event-id",
    "origin",
    "referer",
    "user-agent",
    "x-forwarded-for",
    "x-spinor",
];

/// Whose word is taken for who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyConfig {
    /// The header with a name in it, in small letters.
    pub header: String,
    /// From where it is believed.
    pub from: Vec<Network>,
    /// What somebody may do who is no user of the table.
    pub roles: Grants,
}

/// Addresses with the same first bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: u128,
    bits: u32,
    is_v4: bool,
}

impl Network {
    /// Of its text: `10.0.0.0/8`, `::1`.
    pub fn of(text: &str) -> Result<Self, String> {
        let expected =
            || "expected an address such as 127.0.0.1, or a network such as 10.1.0.0/16 or fd00::/8".to_owned();
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let (address, most) = number(address.parse().map_err(|_| expected())?);
        let bits = bits.map_or(Ok(most), |bits| bits.parse().map_err(|_| expected()))?;
        if bits > most {
            return Err(format!("has more than {most} bits"));
        }
        let network = Self { address: address & mask(bits, most), bits, is_v4: most == 32 };
        if network.address != address {
            return Err(format!("has bits set beyond the first {bits}"));
        }
        Ok(network)
    }

    /// Is this address one of them?
    pub fn holds(&self, address: IpAddr) -> bool {
        let (address, most) = number(address.to_canonical());
        (most == 32) == self.is_v4 && address & mask(self.bits, most) == self.address
    }
}

fn number(address: IpAddr) -> (u128, u32) {
    match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    }
}

fn mask(bits: u32, most: u32) -> u128 {
    let all = if most == 32 { u128::from(u32::MAX) } else { u128::MAX };
    // All bits but the last ones.
    all & all.checked_shl(most - bits).unwrap_or(0)
}

impl fmt::Display for ProxyConfig {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{} from {} networks", self.header, self.from.len())
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawProxy {
    header: Option<String>,
    from: Vec<String>,
    roles: Vec<String>,
}

impl Rules<'_> {
    pub(super) fn proxy(&mut self, raw: RawProxy) -> Option<ProxyConfig> {
        let RawProxy { header: Some(header), from, roles } = raw else {
            if !raw.from.is_empty() || !raw.roles.is_empty() {
                self.add("api.proxy", "needs `api.proxy.header` beside it");
            }
            return None;
        };
        let header = header.to_ascii_lowercase();
        if header.is_empty() || !header.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            self.add("api.proxy.header", format_args!("`{header}` is no name of a header, such as X-Forwarded-User"));
        }
        if TAKEN.contains(&header.as_str()) {
            self.add("api.proxy.header", format_args!("`{header}` means something else already"));
        }
        if from.is_empty() {
            self.add("api.proxy.from", "names no address: the header would be believed from nobody");
        }
        let mut networks = Vec::new();
        for text in &from {
            match Network::of(text) {
                Ok(network) => networks.push(network),
                Err(why) => self.add("api.proxy.from", format_args!("`{text}`: {why}")),
            }
        }
        // None: only those whom the table of users names.
        let roles = roles.iter().map(|text| text.parse::<Grant>().map_err(|why| format!("`{text}`: {why}")));
        let roles = roles.collect::<Result<Vec<_>, _>>().unwrap_or_else(|why| {
            self.add("api.proxy.roles", why);
            Vec::new()
        });
        let roles = if roles.is_empty() { Grants::default() } else { Grants::of(roles).unwrap_or_default() };
        Some(ProxyConfig { header, from: networks, roles })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_its_own_addresses_and_no_others() {
        let holds = |network: &str, address: &str| Network::of(network).unwrap().holds(address.parse().unwrap());
        assert!(holds("10.1.0.0/16", "10.1.255.7") && !holds("10.1.0.0/16", "10.2.0.1"));
        assert!(holds("127.0.0.1", "127.0.0.1") && !holds("127.0.0.1", "127.0.0.2"));
        assert!(holds("127.0.0.1", "::ffff:127.0.0.1"), "the same address, as a socket for both tells it");
        assert!(holds("fd00::/8", "fd12::1") && !holds("fd00::/8", "fe80::1") && !holds("::/0", "1.2.3.4"));
        assert!(holds("0.0.0.0/0", "1.2.3.4"));
        for wrong in ["", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/x", "example.org", "::1/129"] {
            assert!(Network::of(wrong).is_err(), "{wrong}");
        }
    }
}
