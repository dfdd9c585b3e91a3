//! New connections. Accepting never ends on an error: out of descriptors it refuses with a reason from a reserve
//! descriptor, and any other failure pauses it for a millisecond. What the node cannot take now waits in the kernel's
//! backlog; a backlog that has not been empty for two seconds is emptied, by refusals where logins have no room.

use super::Shard;
use crate::delivery::border::Handle;
use crate::gate::admission::{Address, Admission, Awaiting, Load, Meeting, Rejection};
use crate::gate::connection::{Connection, Slab};
use crate::gate::options::LISTENERS_MAX;
use crate::gate::pressure::Level;
use crate::gate::stats::ShardStats;
use crate::gate::transport::Layers;
use mio::net::TcpStream;
use mio::{Interest, Token};
use std::fs::File;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// The token of the first listener; those of the others lie below it, and slots of connections below them.
const LISTENER: usize = usize::MAX - 1;
/// Accepts in one turn.
const ACCEPTS_PER_TURN: usize = 128;
/// After a turn longer than this the shard is late: it accepts a few only, and the others wait in the kernel's backlog.
const LATE: Duration = Duration::from_millis(50);
/// Accepts in a turn after a late one.
const ACCEPTS_WHEN_LATE: usize = 16;
/// Logins that may be in decision at once per shard; beyond it nothing is accepted until some are decided, so that a storm
/// waits in the backlog and not in the hub's queues. The hub decides them by hundreds.
const DECIDING_MAX: u64 = 2048;
/// A connection waits no longer in the backlog for its login to be let in (LIMITS 7.2), microseconds.
const HELD_US_MAX: u64 = 2_000_000;

/// Whether a token is a listener's.
pub(super) fn is_listener(token: Token) -> bool {
    (LISTENER - LISTENERS_MAX..=LISTENER).contains(&token.0)
}

/// A listening socket of the shard.
struct Listening {
    /// Its terms are those of this number.
    number: u8,
    socket: mio::net::TcpListener,
    /// Its backlog may hold connections.
    ready: bool,
}

/// The shard's listeners and what admits connections.
pub(super) struct Door {
    pub(super) admission: Arc<Admission>,
    listeners: Vec<Listening>,
    /// Which of them is asked first, so that a flood at one keeps nobody out at another.
    turn: usize,
    paused: bool,
    /// Since when the backlog has not been empty although the shard would not take all of it.
    held_since_us: Option<u64>,
    /// Closed to let one refusal be said when there are no descriptors left.
    reserve: Option<File>,
    awaiting: Awaiting,
}

impl Door {
    pub(super) fn new(admission: Arc<Admission>, awaiting_max: usize) -> Door {
        Door {
            admission,
            listeners: Vec::new(),
            turn: 0,
            paused: false,
            held_since_us: None,
            reserve: None,
            awaiting: Awaiting::new(awaiting_max),
        }
    }

    pub(super) fn ready(&mut self, token: Token) {
        let ready = self.listeners.iter_mut().find(|listening| token_of(listening.number) == token);
        if let Some(listening) = ready {
            listening.ready = true;
        }
    }

    /// The backlog of any may hold connections.
    pub(super) fn all_ready(&mut self) {
        self.listeners.iter_mut().for_each(|listening| listening.ready = true);
    }

    pub(super) fn is_ready(&self) -> bool {
        self.has_backlog() && !self.paused
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused && !self.listeners.is_empty()
    }

    pub(super) fn shut(&mut self) {
        self.listeners.clear();
    }

    fn has_backlog(&self) -> bool {
        self.listeners.iter().any(|listening| listening.ready)
    }

    /// The next listener that may have a connection, by turns.
    fn next(&mut self) -> Option<&mut Listening> {
        let count = self.listeners.len();
        let places = (0..count).map(|step| (self.turn + step) % count);
        let place = places.into_iter().find(|place| self.listeners[*place].ready)?;
        self.turn = place + 1;
        Some(&mut self.listeners[place])
    }

    /// The connection has said CONNECT.
    pub(super) fn awaits_no_more(&mut self, address: Address, accepted_s: u32, stats: &ShardStats) {
        self.admission.awaits_no_more(address);
        self.awaiting.leave(accepted_s);
        stats.awaiting.store(self.awaiting.count() as u64, Relaxed);
    }

    /// The connection has ended; `awaiting`: without CONNECT.
    pub(super) fn left(&mut self, connection: &Connection, awaiting: bool, stats: &ShardStats) {
        if awaiting {
            self.awaits_no_more(connection.address, connection.accepted_s, stats);
        }
        self.admission.leave(connection.address);
    }

    /// How long the backlog has been held is known from here.
    fn look_back(&mut self, held: bool, now_us: u64) {
        if !self.has_backlog() {
            self.held_since_us = None;
        } else if held {
            self.held_since_us.get_or_insert(now_us);
        }
    }

    fn is_overdue(&self, now_us: u64) -> bool {
        self.held_since_us.is_some_and(|since_us| now_us.saturating_sub(since_us) > HELD_US_MAX)
    }
}

impl Shard {
    pub(super) fn listen(&mut self, number: u8, mut socket: mio::net::TcpListener) {
        self.door.reserve = File::open("/dev/null").ok();
        self.stats.0.login_rate.store(self.door.admission.pace.rate(), Relaxed);
        match self.poll.registry().register(&mut socket, token_of(number), Interest::READABLE) {
            Ok(()) => self.door.listeners.push(Listening { number, socket, ready: true }),
            Err(_) => ShardStats::count(&self.stats.own().accept_errors, 1),
        }
    }

    pub(super) fn accept_some(&mut self) {
        self.door.paused = false;
        if !self.door.is_ready() {
            return;
        }
        let now_us = self.door.admission.now_us();
        let mut places = self.places(now_us);
        let held = places < ACCEPTS_PER_TURN;
        if held {
            ShardStats::count(&self.stats.own().accepts_held_back, 1);
        }
        let overdue = self.door.is_overdue(now_us);
        let looks = if overdue { ACCEPTS_PER_TURN } else { places };
        self.door.paused = looks == 0;
        for _ in 0..looks {
            let Some(arrived) = self.next_socket() else { break };
            ShardStats::count(&self.stats.own().accepted, 1);
            let (peer, listener) = (arrived.peer, arrived.listener);
            match self.admit(arrived, places, overdue) {
                Ok(()) => places -= 1,
                Err((socket, rejection)) => self.turn_away(Arrived { socket, peer, listener }, rejection),
            }
        }
        self.door.admission.pace.give_back(places);
        self.door.look_back(held, now_us);
    }

    /// Logins that may be let in during this turn: what the shard can take, out of what the node's pace leaves.
    fn places(&mut self, now_us: u64) -> usize {
        let hurried = self.door.awaiting.is_hurried(self.time.now_s());
        let (stats, pace) = (&self.stats.0, &self.door.admission.pace);
        pace.look(now_us, || {
            let sum = |of: fn(&ShardStats) -> u64| stats.shards.iter().map(of).sum();
            Load {
                deciding: sum(|shard| shard.deciding.load(Relaxed)),
                decided: sum(|shard| shard.decided.load(Relaxed)),
            }
        });
        stats.login_rate.store(pace.rate(), Relaxed);
        let crowded = hurried || self.stats.own().deciding.load(Relaxed) >= DECIDING_MAX;
        let wanted = match (crowded, self.last_turn > LATE) {
            (true, _) => 0,
            (false, true) => ACCEPTS_WHEN_LATE,
            (false, false) => ACCEPTS_PER_TURN,
        };
        pace.take(wanted, now_us)
    }

    /// The next of the backlog; `None`: no more in this turn.
    pub(super) fn next_socket(&mut self) -> Option<Arrived> {
        for _ in 0..ACCEPTS_PER_TURN {
            let listening = self.door.next()?;
            match listening.socket.accept() {
                Ok((socket, peer)) => return Some(Arrived { socket, peer, listener: listening.number }),
                Err(error) if error.kind() == ErrorKind::WouldBlock => listening.ready = false,
                Err(error) if is_out_of_descriptors(&error) => {
                    ShardStats::count(&self.stats.own().accept_errors, 1);
                    self.refuse_from_reserve();
                    return None;
                }
                // The peer went away while it waited, or the call was interrupted: the next one may be fine.
                Err(error)
                    if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {}
                Err(_) => {
                    ShardStats::count(&self.stats.own().accept_errors, 1);
                    self.door.paused = true;
                    return None;
                }
            }
        }
        None
    }

    fn admit(
        &mut self,
        Arrived { socket, peer, listener }: Arrived,
        places: usize,
        overdue: bool,
    ) -> Result<(), (TcpStream, Rejection)> {
        let level = self.stats.0.pressure.level();
        if level >= Level::Crowded {
            return Err((socket, Rejection::Pressure));
        }
        let address = self.door.admission.address(peer.ip());
        let proxied = self.options.listeners[usize::from(listener)].is_proxy(peer.ip());
        let meeting = self.meeting(overdue);
        let entered = if proxied {
            self.door.admission.enter_proxied(address)
        } else {
            self.door.admission.enter(address, meeting)
        };
        if let Err(rejection) = entered {
            return Err((socket, rejection));
        }
        let seated = if places == 0 {
            Err((socket, Rejection::LoginRate))
        } else {
            self.make_room();
            self.seat(socket, address, (listener, proxied))
        };
        if seated.is_err() {
            self.door.admission.awaits_no_more(address);
            self.door.admission.leave(address);
        }
        seated
    }

    /// At the bound of connections without CONNECT the oldest makes room. It is not young: young ones hold at most half of
    /// the places and one turn's more.
    fn make_room(&mut self) {
        if !self.door.awaiting.is_full() {
            return;
        }
        let oldest = self.door.awaiting.oldest(|handle| awaits(&self.slab, handle));
        if let Some(slot) = oldest.and_then(|handle| self.slab.find(handle)) {
            self.turn_out(slot, Rejection::Awaiting);
        }
    }

    /// How a connection meets the door now; `overdue`: the backlog has not been empty for too long.
    fn meeting(&mut self, overdue: bool) -> Meeting {
        Meeting {
            pressed: overdue || self.stats.0.pressure.level() >= Level::Busy,
            awaiting_crowd: self.door.awaiting.is_crowded(self.time.now_s()),
            now_us: self.door.admission.now_us(),
        }
    }

    /// A load balancer has said whose a connection is.
    ///
    /// # Errors
    /// That address has no place for it.
    pub(super) fn move_to(&mut self, slot: u32, ip: IpAddr) -> Result<(), Rejection> {
        let meeting = self.meeting(self.door.is_overdue(self.door.admission.now_us()));
        let to = self.door.admission.address(ip);
        let Some(connection) = self.slab.at(slot) else { return Ok(()) };
        self.door.admission.move_to(connection.address, to, meeting)?;
        connection.address = to;
        Ok(())
    }

    fn seat(
        &mut self,
        mut socket: TcpStream,
        address: Address,
        (listener, proxied): (u8, bool),
    ) -> Result<(), (TcpStream, Rejection)> {
        let now_s = self.time.now_s();
        let token = self.slab.next_slot();
        if token >= Handle::SLOTS_MAX {
            return Err((socket, Rejection::Full));
        }
        let both = Interest::READABLE | Interest::WRITABLE;
        if self.poll.registry().register(&mut socket, Token(token as usize), both).is_err() {
            ShardStats::count(&self.stats.own().accept_errors, 1);
            return Err((socket, Rejection::Descriptors));
        }
        let mut connection = Connection::new(socket, address, now_s);
        connection.flags.layered = true;
        connection.flags.listener = listener;
        connection.layers = proxied.then(|| Box::new(Layers::new(true)));
        let inserted = self.slab.insert(connection);
        debug_assert_eq!(inserted, Some(token));
        let slot = token;
        self.wheel.insert(&mut self.slab, slot, now_s + self.limits.login_s);
        let handle = self.handle(slot);
        self.door.awaiting.enter(handle, now_s, |handle| awaits(&self.slab, handle));
        let stats = self.stats.own();
        stats.awaiting.store(self.door.awaiting.count() as u64, Relaxed);
        stats.connections.store(self.slab.len() as u64, Relaxed);
        Ok(())
    }

    /// Frees the reserve descriptor for one accept, refuses that connection, and takes the reserve back.
    fn refuse_from_reserve(&mut self) {
        self.door.paused = true;
        self.door.reserve = None;
        let mut ready = self.door.listeners.iter().filter(|listening| listening.ready);
        let accepted = ready.find_map(|listening| Some((listening.socket.accept().ok()?, listening.number)));
        if let Some(((socket, peer), listener)) = accepted {
            ShardStats::count(&self.stats.own().accepted, 1);
            self.turn_away(Arrived { socket, peer, listener }, Rejection::Descriptors);
        }
        self.door.reserve = File::open("/dev/null").ok();
    }
}

/// The token of the listener of a number.
fn token_of(number: u8) -> Token {
    Token(LISTENER - usize::from(number))
}

/// A connection from a backlog.
pub(super) struct Arrived {
    pub(super) socket: TcpStream,
    pub(super) peer: SocketAddr,
    /// The number of the listener that it came to.
    pub(super) listener: u8,
}

/// Whether the connection is still there and has not said CONNECT.
fn awaits(slab: &Slab, handle: Handle) -> bool {
    slab.shown(handle).is_some_and(|connection| connection.is_awaiting())
}

fn is_out_of_descriptors(error: &std::io::Error) -> bool {
    use rustix::io::Errno;
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}
