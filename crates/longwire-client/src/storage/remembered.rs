//! Which messages the application has acked, and how far it came: what a restarted process must know to show nothing twice.
//!
//! A message that was shown and not acked is not remembered: the application may have been killed before it had done
//! anything with it, so it is shown again. A record is written before its ACK leaves. It is not synced: after a crash of
//! the process it is there, after a power cut the last ones may be missing, and such a message may be shown again.

use std::collections::VecDeque;
use std::io;

use longwire_proto::id::{MessageId, Position, Source};
use longwire_proto::limit::DEDUP_WINDOW_MESSAGES;
use longwire_proto::session::Memory;

use super::journal::{Journal, put_record};
use super::{Folder, StateError};

const MAGIC: [u8; 8] = *b"LWSEEN_1";
/// Bytes of the file at which it is rewritten; a full window needs about 36 KiB.
const FILE_BYTES_MAX: u64 = 256 * 1024;
const SETTLED: u8 = 1;
const PASSED: u8 = 2;

/// The file and what stands in it.
#[derive(Debug)]
pub(crate) struct Remembered {
    journal: Journal,
    settled: VecDeque<MessageId>,
    mailbox: Position,
    log: Position,
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
            warned: false,
            _folder: folder.clone(),
        };
        for record in records {
            // A record that passed its check and is not understood is a later version's; what it says is not needed.
            if let Some((source, position, message)) = decode(&record) {
                remembered.note(source, position, message);
            }
        }
        Ok(remembered)
    }

    /// The memory of a device that begins.
    pub(crate) fn memory(&self) -> Memory {
        Memory::restore(self.mailbox, self.log, self.settled.iter().copied())
    }

    /// The application acked a message (`None`: something was left out). `position`: up to where it is done with
    /// everything of the source, so that the next CONNECT claims no more.
    pub(crate) fn settle(&mut self, source: Source, position: Position, message: Option<MessageId>) {
        self.note(source, position, message);
        if let Err(error) = self.write(source, position, message)
            && !self.warned
        {
            self.warned = true;
            tracing::warn!(%error, "acks are not remembered: after a restart messages may be shown again");
        }
    }

    fn note(&mut self, source: Source, position: Position, message: Option<MessageId>) {
        let reached = match source {
            Source::Mailbox => &mut self.mailbox,
            Source::AppLog => &mut self.log,
        };
        *reached = position.max(*reached);
        if let Some(message) = message {
            if self.settled.len() == DEDUP_WINDOW_MESSAGES {
                self.settled.pop_front();
            }
            self.settled.push_back(message);
        }
    }

    fn write(&mut self, source: Source, position: Position, message: Option<MessageId>) -> io::Result<()> {
        if self.journal.is_broken() || self.journal.bytes() >= FILE_BYTES_MAX {
            let mut records = Vec::new();
            encode(Source::Mailbox, self.mailbox, None, &mut records);
            encode(Source::AppLog, self.log, None, &mut records);
            for message in &self.settled {
                encode(Source::Mailbox, Position::START, Some(*message), &mut records);
            }
            return self.journal.rewrite(&records);
        }
        let mut record = Vec::new();
        encode(source, position, message, &mut record);
        self.journal.append(&record, false)
    }
}

fn encode(source: Source, position: Position, message: Option<MessageId>, out: &mut Vec<u8>) {
    let mut body = vec![if message.is_some() { SETTLED } else { PASSED }, source as u8];
    body.extend_from_slice(&position.0.to_be_bytes());
    if let Some(message) = message {
        body.extend_from_slice(&message.0.to_be_bytes());
    }
    put_record(&body, out);
}

fn decode(body: &[u8]) -> Option<(Source, Position, Option<MessageId>)> {
    let (head, rest) = body.split_first_chunk::<2>()?;
    let source = match head[1] {
        1 => Source::Mailbox,
        2 => Source::AppLog,
        _ => return None,
    };
    let (position, rest) = rest.split_first_chunk::<8>()?;
    let position = Position(u64::from_be_bytes(*position));
    match head[0] {
        SETTLED => Some((source, position, Some(MessageId(u128::from_be_bytes(rest.try_into().ok()?))))),
        PASSED => Some((source, position, None)),
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
