//! What a frame of the server means for a device, apart from how frames are cut out of bytes.

use super::Millis;
use super::client::FromServer;
use super::heartbeat::Heartbeat;
use super::memory::Memory;
use crate::close::CloseReason;
use crate::id::{ClientId, MessageId};
use crate::wire::{AckKind, DeviceFrame, Gap, Push, ServerFrame, Welcome, encode_acks, push_flags};

/// The conversation apart from the bytes of an unfinished frame, which a decoded frame may borrow.
#[derive(Debug)]
pub(super) struct Talk {
    pub(super) memory: Memory,
    pub(super) client: ClientId,
    /// The latest `now` that the caller told.
    pub(super) now: Millis,
    /// Its deadline is, while joining, when to give up.
    pub(super) heartbeat: Heartbeat,
    pub(super) state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    Joining,
    Live,
    Over,
}

impl Talk {
    /// One frame of the server; answers go to `out`.
    pub(super) fn take<'a>(
        &mut self,
        frame: ServerFrame<'a>,
        now: Millis,
        out: &mut Vec<u8>,
    ) -> Result<FromServer<'a>, CloseReason> {
        self.now = now;
        let awaited = self.heartbeat.heard(); // whatever came, the server is there
        let from = match (frame, self.state) {
            (ServerFrame::Welcome(welcome), State::Joining) => {
                self.join(&welcome, out);
                FromServer::Welcome(welcome)
            }
            (ServerFrame::Refusal(refusal), State::Joining) => {
                self.state = State::Over;
                FromServer::Refused(refusal)
            }
            (ServerFrame::Redirect(to), _) => FromServer::Redirect(to),
            (ServerFrame::GoAway { after_ms, to }, _) => FromServer::GoAway { after_ms, to },
            (ServerFrame::Close(refusal), _) => {
                self.state = State::Over;
                FromServer::Closed(refusal)
            }
            (ServerFrame::Pong, State::Live) => {
                let round_trip_ms = self.heartbeat.since_ping(now);
                if awaited {
                    let announce = self.heartbeat.answered();
                    self.announce(announce, out);
                }
                FromServer::Pong { round_trip_ms }
            }
            (ServerFrame::Push(push), State::Live) => {
                self.business(false, out);
                self.push(push)
            }
            (ServerFrame::Gap(gap), State::Live) => {
                self.gap(&gap, out);
                FromServer::Gap(gap)
            }
            (ServerFrame::UpAck(answer), State::Live) => FromServer::UpAck(answer),
            (ServerFrame::Result { request, code }, State::Live) => FromServer::Result { request, code },
            _ => return Err(CloseReason::OutOfOrder),
        };
        Ok(from)
    }

    fn join(&mut self, welcome: &Welcome, out: &mut Vec<u8>) {
        self.state = State::Live;
        let announce = self.heartbeat.welcome(welcome, self.client.0, self.now);
        self.announce(announce, out);
    }

    /// Tells the server the interval that will be kept from now on, so that its idle limit covers it.
    pub(super) fn announce(&self, seconds: Option<u16>, out: &mut Vec<u8>) {
        if let Some(seconds) = seconds {
            DeviceFrame::Interval(seconds).encode(self.client, out);
        }
    }

    /// Something other than heartbeats passed, from the device (`ours`) or to it.
    pub(super) fn business(&mut self, ours: bool, out: &mut Vec<u8>) {
        let announce = self.heartbeat.business(ours, self.now);
        self.announce(announce, out);
    }

    fn push<'a>(&mut self, push: Push<'a>) -> FromServer<'a> {
        // What is recalled or replaced before it came is not shown when it comes.
        for gone in push.replaces.into_iter().chain(push.recalls()) {
            self.memory.meet(gone);
        }
        // Online-only messages are not stored, so they are never sent again and have no place.
        let Some(source) = push.source else {
            return FromServer::Push { push, repeated: false, hole: false };
        };
        // What comes ahead of its turn says nothing of what lies before it.
        if push.flags & push_flags::AHEAD != 0 {
            self.memory.came_ahead(source, push.position);
            let repeated = self.memory.meet(push.message);
            return FromServer::Push { push, repeated, hole: false };
        }
        let hole = self.memory.is_hole(source, push.previous);
        self.memory.reach(source, push.position);
        let repeated = self.memory.meet(push.message);
        FromServer::Push { push, repeated, hole }
    }

    /// A hole before a gap is left open, so that the next push of the source tells it.
    fn gap(&mut self, gap: &Gap, out: &mut Vec<u8>) {
        if !self.memory.is_hole(gap.source, gap.previous) {
            self.memory.reach(gap.source, gap.position);
        }
        if gap.message != MessageId(0) {
            encode_acks(AckKind::Received, &[gap.message], self.client, out);
            self.business(true, out);
        }
    }
}
