//! Devices that come back (004-28): logins of devices that were here before in this process's life, in all and in the last
//! minute. Device numbers are given in a row, so who was here is a bitmap of about a bit each.

use longwire_proto::id::ClientId;
use parking_lot::Mutex;
use roaring::RoaringTreemap;

/// The window, seconds.
const WINDOW_S: usize = 60;

/// Who was here, and who came back when. As large as the devices that ever logged in, in bits.
pub(crate) struct Returns(Mutex<Seen>);

struct Seen {
    clients: RoaringTreemap,
    total: u64,
    /// A second and how many came back in it, at the second's place modulo the window.
    seconds: [(u64, u64); WINDOW_S],
}

impl Returns {
    pub(crate) fn new() -> Returns {
        Returns(Mutex::new(Seen { clients: RoaringTreemap::new(), total: 0, seconds: [(0, 0); WINDOW_S] }))
    }

    /// A device was let in, at a second of any clock that only rises.
    pub(crate) fn logged_in(&self, client: ClientId, now_s: u64) {
        let mut seen = self.0.lock();
        if seen.clients.insert(client.0) {
            return;
        }
        seen.total += 1;
        let at = &mut seen.seconds[now_s as usize % WINDOW_S];
        if at.0 != now_s {
            *at = (now_s, 0);
        }
        at.1 += 1;
    }

    /// How many came back since the start, and within the minute that ends with `now_s`.
    pub(crate) fn counts(&self, now_s: u64) -> (u64, u64) {
        let seen = self.0.lock();
        let fresh = seen.seconds.iter().filter(|(second, _)| second + WINDOW_S as u64 > now_s);
        (seen.total, fresh.map(|(_, count)| count).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_forgets_and_the_total_does_not() {
        let returns = Returns::new();
        for second in [100, 101] {
            returns.logged_in(ClientId(7), second);
        }
        returns.logged_in(ClientId(8), 101);
        assert_eq!(returns.counts(101), (1, 1), "the first login of a device is no return");
        returns.logged_in(ClientId(8), 130);
        assert_eq!(returns.counts(130), (2, 2));
        assert_eq!(returns.counts(160), (2, 2), "the window holds its 60 seconds");
        assert_eq!(returns.counts(161), (2, 1));
        assert_eq!(returns.counts(190), (2, 0));
        // The place of a second is used again.
        returns.logged_in(ClientId(7), 190);
        assert_eq!(returns.counts(190), (3, 1));
    }
}
