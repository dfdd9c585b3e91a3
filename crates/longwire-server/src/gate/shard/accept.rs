//! New connections. Accepting never ends on an error: out of descriptors it refuses with a reason from a reserve
//! descriptor, and any other failure pauses it for a millisecond.

use super::Shard;
use crate::gate::connection::{Connection, refuse_and_drop};
use crate::gate::pressure::Level;
use crate::gate::stats::ShardStats;
use longwire_proto::close::CloseReason;
use longwire_proto::wire::Refusal;
use mio::{Interest, Token};
use std::fs::File;
use std::io::ErrorKind;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// The listener's token; slots of connections stay below.
pub(super) const LISTENER: Token = Token(usize::MAX - 1);
/// Accepts in one turn.
const ACCEPTS_PER_TURN: usize = 128;
/// After a turn longer than this the shard is late: it accepts a few only, and the others wait in the kernel's backlog.
const LATE: Duration = Duration::from_millis(50);
/// Accepts in a turn after a late one.
const ACCEPTS_WHEN_LATE: usize = 16;
/// Logins that may be in decision at once per shard; beyond it nothing is accepted until some are decided, so that a storm
/// waits in the backlog and not in the hub's queues. The hub decides them by hundreds.
const DECIDING_MAX: u64 = 2048;
/// What a refused device waits at least, seconds; spread so that they do not come back together.
const RETRY_AFTER_S: Range<u16> = 5..30;
/// The same while the node sheds load (LIMITS 7.3).
const RETRY_WHEN_CROWDED_S: Range<u16> = 30..120;

/// The shard's listener and what admits connections.
pub(super) struct Door {
    listener: Option<mio::net::TcpListener>,
    ready: bool,
    paused: bool,
    /// Closed to let one refusal be said when there are no descriptors left.
    reserve: Option<File>,
    open_connections: Arc<AtomicUsize>,
    connections_max: usize,
    refused: u16,
}

impl Door {
    pub(super) fn new(open_connections: Arc<AtomicUsize>, connections_max: usize) -> Door {
        Door {
            listener: None,
            ready: false,
            paused: false,
            reserve: None,
            open_connections,
            connections_max,
            refused: 0,
        }
    }

    pub(super) fn ready(&mut self) {
        self.ready = true;
    }

    pub(super) fn is_ready(&self) -> bool {
        self.ready && self.listener.is_some() && !self.paused
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused && self.listener.is_some()
    }

    pub(super) fn shut(&mut self) {
        self.listener = None;
    }

    pub(super) fn left(&self) {
        self.open_connections.fetch_sub(1, Relaxed);
    }

    fn refusal(&mut self, wait_s: &Range<u16>) -> Refusal {
        self.refused = self.refused.wrapping_add(1);
        // A prime step, so that neighbours in the backlog come back far apart.
        let spread = self.refused.wrapping_mul(37) % (wait_s.end - wait_s.start);
        Refusal { reason: CloseReason::Full, retry_after_s: wait_s.start + spread }
    }
}

impl Shard {
    pub(super) fn listen(&mut self, mut listener: mio::net::TcpListener) {
        self.door.reserve = File::open("/dev/null").ok();
        match self.poll.registry().register(&mut listener, LISTENER, Interest::READABLE) {
            Ok(()) => (self.door.listener, self.door.ready) = (Some(listener), true),
            Err(_) => ShardStats::count(&self.stats.own().accept_errors, 1),
        }
    }

    pub(super) fn accept_some(&mut self) {
        self.door.paused = false;
        if !self.door.is_ready() {
            return;
        }
        let crowded = self.stats.own().deciding.load(Relaxed) >= DECIDING_MAX;
        let accepts = match (crowded, self.last_turn > LATE) {
            (true, _) => 0,
            (false, true) => ACCEPTS_WHEN_LATE,
            (false, false) => ACCEPTS_PER_TURN,
        };
        if accepts < ACCEPTS_PER_TURN {
            ShardStats::count(&self.stats.own().accepts_held_back, 1);
        }
        self.door.paused = crowded;
        for _ in 0..accepts {
            let (true, Some(listener)) = (self.door.ready, &self.door.listener) else { return };
            match listener.accept() {
                Ok((socket, _)) => self.admit(socket),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.door.ready = false,
                Err(error) if is_out_of_descriptors(&error) => {
                    ShardStats::count(&self.stats.own().accept_errors, 1);
                    self.refuse_from_reserve();
                    return;
                }
                // The peer went away while it waited, or the call was interrupted: the next one may be fine.
                Err(error)
                    if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {}
                Err(_) => {
                    ShardStats::count(&self.stats.own().accept_errors, 1);
                    self.door.paused = true;
                    return;
                }
            }
        }
    }

    fn admit(&mut self, mut socket: mio::net::TcpStream) {
        ShardStats::count(&self.stats.own().accepted, 1);
        if self.stats.0.pressure.level() >= Level::Crowded {
            return self.turn_away(socket, &RETRY_WHEN_CROWDED_S);
        }
        if self.door.open_connections.fetch_add(1, Relaxed) >= self.door.connections_max {
            self.door.left();
            return self.turn_away(socket, &RETRY_AFTER_S);
        }
        let now_s = self.time.now_s();
        let token = self.slab.next_slot();
        let registered = self.poll.registry().register(
            &mut socket,
            Token(token as usize),
            Interest::READABLE | Interest::WRITABLE,
        );
        if registered.is_err() {
            self.door.left();
            ShardStats::count(&self.stats.own().accept_errors, 1);
            return;
        }
        let Some(slot) = self.slab.insert(Connection::new(socket, now_s)) else {
            self.door.left();
            return;
        };
        debug_assert_eq!(slot, token);
        self.wheel.insert(&mut self.slab, slot, now_s + self.limits.login_s);
        self.stats.own().connections.store(self.slab.len() as u64, Relaxed);
    }

    fn turn_away(&mut self, socket: mio::net::TcpStream, wait_s: &Range<u16>) {
        let refusal = self.door.refusal(wait_s);
        ShardStats::count(&self.stats.own().closed[CloseReason::Full.index()], 1);
        refuse_and_drop(socket, refusal);
    }

    /// Frees the reserve descriptor for one accept, refuses that connection, and takes the reserve back.
    fn refuse_from_reserve(&mut self) {
        self.door.paused = true;
        self.door.reserve = None;
        let accepted = self.door.listener.as_ref().map(mio::net::TcpListener::accept);
        if let Some(Ok((socket, _))) = accepted {
            ShardStats::count(&self.stats.own().accepted, 1);
            self.turn_away(socket, &RETRY_AFTER_S);
        }
        self.door.reserve = File::open("/dev/null").ok();
    }
}

fn is_out_of_descriptors(error: &std::io::Error) -> bool {
    use rustix::io::Errno;
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}
