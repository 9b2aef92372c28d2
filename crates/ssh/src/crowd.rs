//! Places for connections, and who loses one when there are none left.
//!
//! Whoever has the most makes room: of those that have not logged in, the address with the most of them; of those that have, the
//! account. So a newcomer gets in however many others one address or one account has sent, and nobody loses a place
//! to somebody who has more. Addresses are counted as whoever has them gets them: IPv6 by /64.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::Config;

/// Connections of one account beyond the sessions that it may have: one without a session can make room.
const SPARE: usize = 16;

/// The connections there are.
pub(crate) struct Crowd {
    strangers: usize,
    guests: usize,
    guests_per_account: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Counts events: what has the smaller number came first.
    clock: u64,
    there: HashMap<u64, Connection>,
}

struct Connection {
    who: Who,
    /// When it came, logged in, or had its last session.
    since: u64,
    sessions: usize,
    lost: CancellationToken,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Who {
    /// Not logged in: the address, or as much of it as is one customer's.
    Stranger(IpAddr),
    /// The account's name.
    Guest(String),
}

/// One connection's place; free again when dropped.
pub(crate) struct Spot {
    crowd: Arc<Crowd>,
    number: u64,
    lost: CancellationToken,
}

/// A session of a connection, while it runs.
pub(crate) struct Busy(Arc<Spot>);

impl Crowd {
    pub(crate) fn new(config: &Config) -> Arc<Self> {
        Arc::new(Self {
            strangers: config.max_unauthenticated,
            guests: config.max_connections,
            guests_per_account: config.max_sessions_per_account.saturating_add(SPARE),
            state: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for somebody who has not logged in. Where there is none, somebody loses theirs.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr) -> Arc<Spot> {
        let lost = CancellationToken::new();
        let mut state = self.lock();
        let number = state.tick();
        let connection = Connection {
            who: Who::Stranger(customer(address)),
            since: number,
            sessions: 0,
            lost: lost.clone(),
        };
        state.there.insert(number, connection);
        state.make_room(self.strangers, |who| matches!(who, Who::Stranger(_)));
        Arc::new(Spot {
            crowd: self.clone(),
            number,
            lost,
        })
    }
}

impl State {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// While more than `most` of those are there, one of whoever has the most of them goes: the one that has been without a session for
    /// the longest time, or where all have sessions the newest.
    fn make_room(&mut self, most: usize, those: impl Fn(&Who) -> bool) {
        loop {
            let mut counts: HashMap<&Who, usize> = HashMap::new();
            for connection in self.there.values().filter(|c| those(&c.who)) {
                *counts.entry(&connection.who).or_default() += 1;
            }
            if counts.values().sum::<usize>() <= most {
                return;
            }
            let largest = counts.values().max().copied();
            let goes = self
                .there
                .iter()
                .filter(|(_, c)| counts.get(&c.who).copied() == largest)
                .min_by_key(|(_, c)| match c.sessions {
                    0 => (false, c.since),
                    _ => (true, u64::MAX - c.since),
                });
            let Some(number) = goes.map(|(number, _)| *number) else {
                return;
            };
            if let Some(connection) = self.there.remove(&number) {
                connection.lost.cancel();
            }
        }
    }
}

impl Spot {
    /// Somebody has logged in here. Where the account or all accounts have too many, one loses theirs; it may be this one.
    pub(crate) fn log_in(&self, account: &str) {
        let mut state = self.crowd.lock();
        let since = state.tick();
        let Some(connection) = state.there.get_mut(&self.number) else {
            return;
        };
        connection.who = Who::Guest(account.to_owned());
        connection.since = since;
        state.make_room(
            self.crowd.guests_per_account,
            |who| matches!(who, Who::Guest(name) if name == account),
        );
        state.make_room(self.crowd.guests, |who| matches!(who, Who::Guest(_)));
    }

    /// Returns when the place was given to somebody else.
    pub(crate) async fn lost(&self) {
        self.lost.cancelled().await;
    }

    /// A session begins here.
    pub(crate) fn busy(self: &Arc<Self>) -> Busy {
        if let Some(connection) = self.crowd.lock().there.get_mut(&self.number) {
            connection.sessions += 1;
        }
        Busy(self.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut state = self.0.crowd.lock();
        let now = state.tick();
        if let Some(connection) = state.there.get_mut(&self.0.number) {
            connection.sessions -= 1;
            connection.since = now;
        }
    }
}

impl Drop for Spot {
    fn drop(&mut self) {
        self.crowd.lock().there.remove(&self.number);
    }
}

/// As much of an address as one customer is given.
fn customer(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            [a, b, c, d, 0, 0, 0, 0].into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crowd(strangers: usize, guests: usize, sessions: usize) -> Arc<Crowd> {
        Crowd::new(&Config {
            max_unauthenticated: strangers,
            max_connections: guests,
            max_sessions_per_account: sessions,
            ..Config::default()
        })
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn is_lost(spot: &Spot) -> bool {
        spot.lost.is_cancelled()
    }

    #[test]
    fn the_address_with_the_most_makes_room_and_its_oldest_goes() {
        let crowd = crowd(4, 10, 10);
        let flood: Vec<_> = (0..20).map(|_| crowd.enter(address("192.0.2.1"))).collect();
        let lost: Vec<bool> = flood.iter().map(|spot| is_lost(spot)).collect();
        assert_eq!(lost, [[true; 16].as_slice(), &[false; 4]].concat());
        let others = ["192.0.2.2", "::ffff:192.0.2.3"].map(|text| crowd.enter(address(text)));
        assert!(is_lost(&flood[16]) && is_lost(&flood[17]) && !is_lost(&flood[18]));
        // Who has one loses it to nobody who has more.
        let more: Vec<_> = (0..9).map(|_| crowd.enter(address("192.0.2.1"))).collect();
        assert!(others.iter().all(|spot| !is_lost(spot)) && !is_lost(&more[8]));
    }

    #[test]
    fn one_network_of_ipv6_is_one_address() {
        let crowd = crowd(3, 10, 10);
        let flood: Vec<_> = (0..10)
            .map(|n| crowd.enter(address(&format!("2001:db8:0:7:{n}::1"))))
            .collect();
        let other = crowd.enter(address("2001:db8:0:8::1"));
        let more = crowd.enter(address("2001:db8:0:7:ffff::1"));
        assert!(!is_lost(&other) && !is_lost(&more));
        assert_eq!(flood.iter().filter(|spot| !is_lost(spot)).count(), 1);
    }

    #[test]
    fn the_account_with_the_most_makes_room_and_its_longest_idle_goes() {
        let crowd = crowd(100, 6, 100);
        let log_in = |account: &str| {
            let spot = crowd.enter(address("192.0.2.1"));
            spot.log_in(account);
            spot
        };
        let many: Vec<_> = (0..6).map(|_| log_in("many")).collect();
        let working = many[0].busy();
        let done = many[1].busy();
        drop(done);
        let bob = log_in("bob");
        assert!(is_lost(&many[2]) && !is_lost(&many[0]) && !is_lost(&bob));
        let carol = log_in("carol");
        let dave = log_in("dave");
        assert!(is_lost(&many[3]) && is_lost(&many[4]) && !is_lost(&many[1]));
        drop((carol, dave));
        let bobs = log_in("bob");
        assert!(!is_lost(&bobs) && !is_lost(&bob));
        // What works goes last, the newest first.
        let sessions: Vec<_> = [&many[5], &many[1]].map(|spot| spot.busy()).into();
        let eve = log_in("eve");
        let frank = log_in("frank");
        assert!(
            is_lost(&many[1]) && !is_lost(&many[5]) && !is_lost(&many[0]),
            "the newest of those"
        );
        assert!(!is_lost(&eve) && !is_lost(&frank) && !is_lost(&bob));
        drop((working, sessions));
    }

    #[test]
    fn one_account_has_not_many_more_connections_than_sessions() {
        let crowd = crowd(100, 1000, 2);
        let spots: Vec<_> = (0..2 + SPARE + 3)
            .map(|_| {
                let spot = crowd.enter(address("192.0.2.1"));
                spot.log_in("many");
                spot
            })
            .collect();
        assert_eq!(spots.iter().filter(|spot| is_lost(spot)).count(), 3);
        assert!(is_lost(&spots[2]) && !is_lost(&spots[3]));
    }

    #[test]
    fn places_come_back_and_nothing_is_left_behind() {
        let crowd = crowd(2, 2, 2);
        for _ in 0..5 {
            let one = crowd.enter(address("192.0.2.1"));
            let other = crowd.enter(address("192.0.2.1"));
            other.log_in("a");
            let busy = other.busy();
            drop(other);
            drop(busy);
            assert!(!is_lost(&one));
        }
        assert!(crowd.lock().there.is_empty());
    }
}
