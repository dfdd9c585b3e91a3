//! What the server says.

use std::io::{self, Read};

use longwire_proto::limit::{FRAME_BODY_BYTES_CEILING, HEADER_BYTES};
use longwire_proto::wire::{Command, Header, ServerFrame};

use super::Swarm;
use crate::fleet::slot::split_frame;

impl Swarm {
    /// Reads what is there; to the end if the connection is `ending`, because there will be no other event.
    pub(super) fn read(&mut self, index: usize, ending: bool) {
        let mut buffer = std::mem::take(&mut self.buffer);
        while let Some(socket) = self.slots.get_mut(index).and_then(|slot| slot.socket.as_mut()) {
            match socket.read(&mut buffer) {
                Ok(0) => self.leave(index, "closed by the server", None),
                Ok(bytes) => {
                    self.take(index, &buffer[..bytes]);
                    if bytes < buffer.len() && !ending {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) =>
                {
                    break;
                }
                Err(error) => self.leave(index, &error.to_string(), None),
            }
        }
        self.buffer = buffer;
    }

    pub(super) fn take(&mut self, index: usize, bytes: &[u8]) {
        let whole = self.slots[index].cut.take().map(|cut| [&cut[..], bytes].concat());
        let mut rest = whole.as_deref().unwrap_or(bytes);
        while let Some((frame, after)) = split_frame(rest) {
            rest = after;
            self.hear(index, frame);
            if self.slots[index].socket.is_none() {
                return;
            }
        }
        if !rest.is_empty() {
            self.slots[index].cut = Some(rest.into());
        }
    }

    pub(super) fn hear(&mut self, index: usize, frame: &[u8]) {
        if frame[4] == Command::Pong as u8 {
            let took_us = (self.now_us() as u32).wrapping_sub(self.slots[index].since_us);
            if self.pings.is_some() {
                self.answered += 1;
                self.latencies.record_ns(u64::from(took_us) * 1000);
            }
            return;
        }
        let Some(head) = frame.first_chunk::<HEADER_BYTES>() else { return };
        let Ok(header) = Header::decode(head, FRAME_BODY_BYTES_CEILING) else {
            return self.leave(index, "the server broke the protocol", None);
        };
        match ServerFrame::decode(&header, &frame[HEADER_BYTES..]) {
            Ok(ServerFrame::Welcome(_)) => self.welcome(index),
            Ok(ServerFrame::Refusal(refusal) | ServerFrame::Close(refusal)) => {
                self.leave(index, refusal.reason.label(), Some(refusal));
            }
            Ok(_) => {}
            Err(_) => self.leave(index, "the server broke the protocol", None),
        }
    }
}
