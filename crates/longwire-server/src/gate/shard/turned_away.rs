//! Connections that are refused at the door. What they speak is often not known yet when they are accepted, so some wait
//! for their first bytes, to be told in their own words; all others are told at once.

use super::Shard;
use super::accept::Arrived;
use crate::gate::admission::Rejection;
use crate::gate::connection::{ReadOutcome, read_once, say_and_drop};
use crate::gate::stats::ShardStats;
use crate::gate::transport::{ListenerTerms, Refused, UNCLEAR_BYTES_MAX};
use longwire_proto::close::CloseReason;
use longwire_proto::wire::Refusal;
use mio::net::TcpStream;
use mio::{Interest, Poll, Token};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Refused connections that may wait, over all shards, each its share: they hold a descriptor each. Beyond it the oldest is told
/// at once, as a native device.
const WAITING_MAX: usize = 256;
/// The same as a share of the node's connections, so that a node with few descriptors spends few on it.
const WAITING_SHARE: usize = 16;
/// The token of the first place; those of connections are below.
const FIRST: usize = usize::MAX / 2;
/// Connections of the backlog that a drain tells; the kernel resets the others.
const TOLD_AT_THE_END_MAX: usize = 128;
/// A refused connection waits for its first bytes until the second tick of the shard's clock: one to two seconds.
const WAITS_S: u32 = 2;

/// The refused connections that wait.
pub(super) struct TurnedAway {
    /// Filled in turn, so that the next place is that of the oldest.
    places: Vec<Option<Waiting>>,
    next: usize,
    listeners: Arc<[ListenerTerms]>,
}

struct Waiting {
    /// The number of the listener.
    listener: u8,
    socket: TcpStream,
    heard: Vec<u8>,
    refused: Refused,
    until_s: u32,
}

impl Waiting {
    /// Takes what has come. `None`: it was told, or is gone.
    fn listen(mut self, listeners: &[ListenerTerms]) -> Option<Waiting> {
        let mut bytes = [0; 2048];
        loop {
            match read_once(&mut self.socket, &mut bytes) {
                ReadOutcome::Bytes(count) => self.heard.extend_from_slice(&bytes[..count]),
                ReadOutcome::Drained => return Some(self),
                ReadOutcome::Ended | ReadOutcome::Broken(_) => return None,
            }
            if let Some(words) = self.refused.words(&self.heard) {
                say_and_drop(self.socket, &words);
                return None;
            }
            if self.heard.len() > UNCLEAR_BYTES_MAX {
                self.give_up(listeners);
                return None;
            }
        }
    }

    fn give_up(self, listeners: &[ListenerTerms]) {
        if let Some(terms) = listeners.get(usize::from(self.listener)) {
            say_and_drop(self.socket, &self.refused.words_at_last(terms));
        }
    }
}

impl TurnedAway {
    pub(super) fn new(listeners: Arc<[ListenerTerms]>, connections_max: usize, shards: usize) -> TurnedAway {
        let most = WAITING_MAX.min(connections_max / WAITING_SHARE);
        let places = (0..(most / shards.max(1)).max(1)).map(|_| None).collect();
        TurnedAway { places, next: 0, listeners }
    }

    /// Whether the token is of a place here.
    pub(super) fn has(&self, token: Token) -> bool {
        (FIRST..FIRST + self.places.len()).contains(&token.0)
    }

    /// Refuses a connection, at once if it has made itself clear.
    fn refuse(&mut self, poll: &Poll, waiting: Waiting) {
        let Some(mut waiting) = waiting.listen(&self.listeners) else { return };
        let place = self.next;
        self.next = (place + 1) % self.places.len();
        if let Some(oldest) = self.places[place].take() {
            oldest.give_up(&self.listeners);
        }
        match poll.registry().register(&mut waiting.socket, Token(FIRST + place), Interest::READABLE) {
            Ok(()) => self.places[place] = Some(waiting),
            Err(_) => waiting.give_up(&self.listeners),
        }
    }

    /// One at this place has said something, or has gone. The place may have a new owner since: looking once more does no harm.
    fn ready(&mut self, token: Token) {
        if let Some(place) = self.places.get_mut(token.0.wrapping_sub(FIRST))
            && let Some(waiting) = place.take()
        {
            *place = waiting.listen(&self.listeners);
        }
    }

    /// Tells those whose time has come; with `u32::MAX` all.
    fn tell_until(&mut self, now_s: u32) {
        for place in &mut self.places {
            if let Some(waiting) = place.take_if(|waiting| waiting.until_s <= now_s) {
                waiting.give_up(&self.listeners);
            }
        }
    }

    fn count(&self) -> usize {
        self.places.iter().flatten().count()
    }
}

impl Shard {
    /// Refuses a connection that has no place in the slab.
    pub(super) fn turn_away(&mut self, arrived: Arrived, rejection: Rejection) {
        let Arrived { socket, peer, listener } = arrived;
        let stats = self.stats.own();
        let reason = rejection.reason();
        ShardStats::count(&stats.closed[reason], 1);
        ShardStats::count(&stats.rejected[rejection as usize], 1);
        let retry_after_s = self.door.admission.retry_after_s(rejection);
        let refusal = Refusal { reason, retry_after_s };
        let proxied = self.options.listeners[usize::from(listener)].is_proxy(peer.ip());
        let refused = Refused { refusal, said: rejection.said(), proxied };
        let until_s = self.time.now_s() + WAITS_S;
        let waiting = Waiting { listener, socket, heard: Vec::new(), refused, until_s };
        self.turned_away.refuse(&self.poll, waiting);
        if rejection == Rejection::Descriptors {
            // They hold what is short.
            self.turned_away.tell_until(u32::MAX);
        }
        self.count_turned_away();
    }

    /// The node drains: nobody else comes in, and those in the backlog are told.
    pub(super) fn shut_door(&mut self) {
        self.door.all_ready();
        for _ in 0..TOLD_AT_THE_END_MAX {
            let Some(arrived) = self.next_socket() else { break };
            ShardStats::count(&self.stats.own().accepted, 1);
            self.turn_away(arrived, Rejection::Draining);
        }
        self.door.shut();
    }

    /// A connection with a slot has to go, for a limit that it met before its login.
    pub(super) fn turn_out(&mut self, slot: u32, rejection: Rejection) {
        ShardStats::count(&self.stats.own().rejected[rejection as usize], 1);
        let retry_after_s = self.door.admission.retry_after_s(rejection);
        self.end(slot, CloseReason::Full, retry_after_s, Some(rejection.said()));
    }

    /// A refused connection has said something.
    pub(super) fn turned_away_ready(&mut self, token: Token) {
        self.turned_away.ready(token);
        self.count_turned_away();
    }

    /// Once a second, and at the end.
    pub(super) fn tell_turned_away(&mut self, now_s: u32) {
        self.turned_away.tell_until(now_s);
        self.count_turned_away();
    }

    pub(super) fn has_turned_away(&self) -> bool {
        self.turned_away.count() > 0
    }

    fn count_turned_away(&self) {
        self.stats.own().turned_away.store(self.turned_away.count() as u64, Relaxed);
    }
}
