//! Which messages the application has acked, and how far it came: what a restarted process must know to show nothing twice.
//!
//! A message that was shown and not acked is not remembered: the application may have been killed before it had done
//! anything with it, so it is shown again. A record is written before its ACK leaves. It is not synced: after a crash of
//! the process it is there, after a power cut the last ones may be missing, and such a message may be shown again.

use std::collections::VecDeque;
use std::io;

use longwire_proto::id::{MessageId, Position, Source};
use longwire_proto::limit::{AHEAD_PLACES_MAX, DEDUP_WINDOW_MESSAGES};
use longwire_proto::session::Memory;

use super::journal::{Journal, put_record};
use super::{Folder, StateError};

const MAGIC: [u8; 8] = *b"LWSEEN_1";
/// Bytes of the file at which it is rewritten; a full window needs about 36 KiB.
const FILE_BYTES_MAX: u64 = 256 * 1024;
const SETTLED: u8 = 1;
const PASSED: u8 = 2;
const AHEAD: u8 = 3;

/// The file and what stands in it.
#[derive(Debug)]
pub(crate) struct Remembered {
    journal: Journal,
    settled: VecDeque<MessageId>,
    mailbox: Position,
    log: Position,
    /// Places that came ahead of their turn and were acked, oldest first.
    ahead: VecDeque<(Source, Position)>,
    /// Said once.
    warned: bool,
    _folder: Folder,
}

impl Remembered {
    pub(crate) fn open(folder: &Folder) -> Result<Remembered, StateError> {
        let (journal, records) = folder.journal("seen", MAGIC)?;
        let mut remembered = Remembered {
            journal,
            settled: VecDeque::new(),
            mailbox: Position::START,
            log: Position::START,
            ahead: VecDeque::new(),
            warned: false,
            _folder: folder.clone(),
        };
        for record in records {
            // A record that passed its check and is not understood is a later version's; what it says is not needed.
            match decode(&record) {
                Some((AHEAD, source, position, message)) => remembered.note_ahead(source, position, message),
                Some((_, source, position, message)) => remembered.note(source, position, message),
                None => {}
            }
        }
        Ok(remembered)
    }

    /// The memory of a device that begins.
    pub(crate) fn memory(&self) -> Memory {
        let memory = Memory::restore(self.mailbox, self.log, self.settled.iter().copied());
        memory.with_ahead(self.ahead.iter().copied())
    }

    /// The application acked a message (`None`: something was left out). `position`: up to where it is done with
    /// everything of the source, so that the next CONNECT claims no more.
    pub(crate) fn settle(&mut self, source: Source, position: Position, message: Option<MessageId>) {
        self.note(source, position, message);
        let kind = if message.is_some() { SETTLED } else { PASSED };
        self.keep(kind, source, position, message);
    }

    /// The application acked a message that came ahead of its turn.
    pub(crate) fn settle_ahead(&mut self, source: Source, position: Position, message: MessageId) {
        self.note_ahead(source, position, Some(message));
        self.keep(AHEAD, source, position, Some(message));
    }

    fn keep(&mut self, kind: u8, source: Source, position: Position, message: Option<MessageId>) {
        if let Err(error) = self.write(kind, source, position, message)
            && !self.warned
        {
            self.warned = true;
            tracing::warn!(%error, "acks are not remembered: after a restart messages may be shown again");
        }
    }

    fn note_ahead(&mut self, source: Source, position: Position, message: Option<MessageId>) {
        if self.ahead.len() == AHEAD_PLACES_MAX {
            self.ahead.pop_front();
        }
        self.ahead.push_back((source, position));
        self.note(source, Position::START, message);
    }

    fn note(&mut self, source: Source, position: Position, message: Option<MessageId>) {
        let reached = match source {
            Source::Mailbox => &mut self.mailbox,
            Source::AppLog => &mut self.log,
        };
        *reached = position.max(*reached);
        let reached = *reached;
        self.ahead.retain(|(of, place)| *of != source || *place > reached);
        if let Some(message) = message {
            if self.settled.len() == DEDUP_WINDOW_MESSAGES {
                self.settled.pop_front();
            }
            self.settled.push_back(message);
        }
    }

    fn write(
        &mut self,
        kind: u8,
        source: Source,
        position: Position,
        message: Option<MessageId>,
    ) -> io::Result<()> {
        if self.journal.is_broken() || self.journal.bytes() >= FILE_BYTES_MAX {
            let mut records = Vec::new();
            encode(PASSED, Source::Mailbox, self.mailbox, None, &mut records);
            encode(PASSED, Source::AppLog, self.log, None, &mut records);
            for message in &self.settled {
                encode(SETTLED, Source::Mailbox, Position::START, Some(*message), &mut records);
            }
            for (source, position) in &self.ahead {
                encode(AHEAD, *source, *position, None, &mut records);
            }
            return self.journal.rewrite(&records);
        }
        let mut record = Vec::new();
        encode(kind, source, position, message, &mut record);
        self.journal.append(&record, false)
    }
}

fn encode(kind: u8, source: Source, position: Position, message: Option<MessageId>, out: &mut Vec<u8>) {
    let mut body = vec![kind, source as u8];
    body.extend_from_slice(&position.0.to_be_bytes());
    if let Some(message) = message {
        body.extend_from_slice(&message.0.to_be_bytes());
    }
    put_record(&body, out);
}

fn decode(body: &[u8]) -> Option<(u8, Source, Position, Option<MessageId>)> {
    let (head, rest) = body.split_first_chunk::<2>()?;
    let source = match head[1] {
        1 => Source::Mailbox,
        2 => Source::AppLog,
        _ => return None,
    };
    let (position, rest) = rest.split_first_chunk::<8>()?;
    let position = Position(u64::from_be_bytes(*position));
    let message = rest.try_into().ok().map(|bytes| MessageId(u128::from_be_bytes(bytes)));
    match head[0] {
        SETTLED => Some((SETTLED, source, position, Some(message?))),
        PASSED => Some((PASSED, source, position, None)),
        // Rewritten, its message stands among the others.
        AHEAD => Some((AHEAD, source, position, message)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use longwire_proto::id::ClientId;

    #[test]
    fn what_was_acked_is_remembered_over_many_rewrites() {
        let folder = tempfile::tempdir().unwrap();
        for round in 0..3_u64 {
            let held = Folder::hold(folder.path(), ClientId(1)).unwrap();
            let mut remembered = Remembered::open(&held).unwrap();
            for sequence in round * 10_000 + 1..=(round + 1) * 10_000 {
                let message = Some(MessageId(u128::from(sequence)));
                remembered.settle(Source::Mailbox, Position::new(1, sequence), message);
            }
            remembered.settle(Source::AppLog, Position::new(1, round + 1), None);
            drop(remembered);
            let again = Remembered::open(&held).unwrap();
            let last = (round + 1) * 10_000;
            assert_eq!(again.settled.len(), DEDUP_WINDOW_MESSAGES);
            assert_eq!(again.settled.back(), Some(&MessageId(u128::from(last))));
            assert_eq!((again.mailbox, again.log), (Position::new(1, last), Position::new(1, round + 1)));
            assert!(again.journal.bytes() < 2 * FILE_BYTES_MAX);
        }
    }

    #[test]
    fn a_folder_is_held_by_one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let held = Folder::hold(folder.path(), ClientId(1)).unwrap();
        let refused = Folder::hold(folder.path(), ClientId(1)).unwrap_err();
        assert!(matches!(refused, StateError::InUse(_)), "{refused}");
        drop(held);
        Folder::hold(folder.path(), ClientId(1)).unwrap();
    }
}
