//! Messages to the business and to topics until they are answered.
//!
//! One task owns them. What waits together is written together and synced once; the file is touched on the runtime's
//! blocking threads only. Without a state folder the same task keeps them in memory.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::Arc;

use longwire_proto::wire::{DeviceFrame, Upstream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;

use super::journal::{Journal, put_record, record_bytes};
use super::{Folder, StateError};
use crate::topic::Publication;
use crate::upstream::{Outward, SendError, UpstreamId, UpstreamMessage};

const MAGIC: [u8; 8] = *b"LWOUTBX1";
/// Requests that are written together.
const BATCH_MAX: usize = 128;
/// Bytes of answered messages that a file may hold beside as many as wait; then it is rewritten.
const DEAD_BYTES_MAX: u64 = 256 * 1024;
const MESSAGE: u8 = 1;
const ANSWERED: u8 = 2;
/// The first id that was not given out yet, so that a file that was emptied gives none twice.
const NEXT_ID: u8 = 3;
const PUBLICATION: u8 = 4;

/// A message with its number.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Pending {
    pub(crate) id: u64,
    pub(crate) message: Outward,
}

impl Pending {
    pub(crate) fn frame(&self) -> DeviceFrame<'_> {
        match &self.message {
            Outward::Upstream(message) => DeviceFrame::Upstream(Upstream {
                client_message: self.id,
                mode: u8::from(message.durable),
                kind: &message.kind,
                to: &message.to,
                payload: &message.payload,
            }),
            Outward::Publication(publication) => DeviceFrame::Publish(publication.frame(self.id, true)),
        }
    }
}

/// What is asked of the outbox.
#[derive(Debug)]
pub(crate) enum Keep {
    /// Keep this message, then give it to the driver and answer.
    Send(Outward, oneshot::Sender<Result<UpstreamId, SendError>>),
    /// It was answered for good.
    Answered(u64),
}

/// How much may wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

/// What is kept, and where.
pub(crate) struct Outbox {
    /// `None`: in memory only, or out at a blocking thread.
    journal: Option<Journal>,
    folder: Option<Folder>,
    waiting: BTreeMap<u64, Arc<Pending>>,
    waiting_bytes: usize,
    next_id: u64,
    bound: Bound,
}

impl Outbox {
    /// What a folder holds, or an empty outbox in memory. `random` begins the numbers of a new one, so that a device that
    /// lost its folder does not use numbers that the server knows already.
    pub(crate) fn open(folder: Option<&Folder>, bound: Bound, random: u64) -> Result<Outbox, StateError> {
        let first = (random >> 1) & !0xFFFF_FFFF | 1;
        let mut outbox = Outbox {
            journal: None,
            folder: folder.cloned(),
            waiting: BTreeMap::new(),
            waiting_bytes: 0,
            next_id: first,
            bound,
        };
        let Some(folder) = folder else { return Ok(outbox) };
        let (mut journal, records) = folder.journal("outbox", MAGIC)?;
        let mut next_id = 0;
        for record in &records {
            next_id = next_id.max(outbox.replay(record));
        }
        if next_id == 0 {
            let floor = numbers_from(first);
            journal
                .append(&floor, true)
                .map_err(|source| StateError::Disk { path: folder.path.join("outbox"), source })?;
        } else {
            outbox.next_id = next_id;
        }
        outbox.journal = Some(journal);
        Ok(outbox)
    }

    /// What waits, oldest first.
    pub(crate) fn waiting(&self) -> Vec<Arc<Pending>> {
        self.waiting.values().cloned().collect()
    }

    /// Serves until everybody who could ask is gone. `to_driver` has room for the bound.
    pub(crate) async fn run(
        mut self,
        mut asked: mpsc::Receiver<Keep>,
        to_driver: mpsc::Sender<Arc<Pending>>,
    ) {
        let mut batch = Vec::new();
        while asked.recv_many(&mut batch, BATCH_MAX).await > 0 {
            self.turn(&mut batch, &to_driver).await;
        }
    }

    async fn turn(&mut self, batch: &mut Vec<Keep>, to_driver: &mpsc::Sender<Arc<Pending>>) {
        let (mut records, mut taken) = (Vec::new(), Vec::new());
        for keep in batch.drain(..) {
            match keep {
                Keep::Answered(id) => {
                    if self.forget(id) {
                        put_record(&[&[ANSWERED][..], &id.to_be_bytes()].concat(), &mut records);
                    }
                }
                Keep::Send(message, answer) => match self.admit(message) {
                    Ok(pending) => {
                        encode(&pending, &mut records);
                        taken.push((pending, answer));
                    }
                    Err(error) => drop(answer.send(Err(error))),
                },
            }
        }
        let written = self.write(records, !taken.is_empty()).await;
        if written.is_err() {
            for (pending, _) in &taken {
                self.forget(pending.id);
            }
        }
        for (pending, answer) in taken {
            let outcome = match &written {
                Ok(()) => {
                    let id = UpstreamId(pending.id);
                    // The driver has room for all that may wait; if it has ended, the next device sends it.
                    let _ = to_driver.try_send(pending);
                    Ok(id)
                }
                Err(error) => Err(SendError::Disk(error.kind())),
            };
            // Somebody who no longer waits is not told; the message is sent all the same.
            let _ = answer.send(outcome);
        }
    }

    fn admit(&mut self, message: Outward) -> Result<Arc<Pending>, SendError> {
        let (messages, bytes) = (self.waiting.len(), self.waiting_bytes);
        if messages >= self.bound.messages || bytes + message.bytes() > self.bound.bytes {
            return Err(SendError::Full { messages, bytes });
        }
        let pending = Arc::new(Pending { id: self.next_id, message });
        self.next_id += 1;
        self.hold(Arc::clone(&pending));
        Ok(pending)
    }

    fn hold(&mut self, pending: Arc<Pending>) {
        self.waiting_bytes += pending.message.bytes();
        self.waiting.insert(pending.id, pending);
    }

    fn forget(&mut self, id: u64) -> bool {
        let Some(pending) = self.waiting.remove(&id) else { return false };
        self.waiting_bytes -= pending.message.bytes();
        true
    }

    /// One record of the file; the lowest number that it leaves free.
    fn replay(&mut self, record: &[u8]) -> u64 {
        let Some((&tag, rest)) = record.split_first() else { return 0 };
        let Some((id, rest)) = rest.split_first_chunk::<8>() else { return 0 };
        let id = u64::from_be_bytes(*id);
        match tag {
            MESSAGE => {
                if let Some(message) = decode(rest) {
                    self.hold(Arc::new(Pending { id, message: Outward::Upstream(message) }));
                }
                id + 1
            }
            PUBLICATION => {
                if let Some(publication) = decode_publication(rest) {
                    self.hold(Arc::new(Pending { id, message: Outward::Publication(publication) }));
                }
                id + 1
            }
            ANSWERED => {
                self.forget(id);
                id + 1
            }
            NEXT_ID => id,
            _ => 0,
        }
    }

    async fn write(&mut self, records: Vec<u8>, sync: bool) -> io::Result<()> {
        if self.folder.is_none() || records.is_empty() {
            return Ok(());
        }
        let Some(mut journal) = self.journal.take() else { return Err(ErrorKind::BrokenPipe.into()) };
        let waiting: usize = self.waiting.values().map(|pending| encoded_bytes(&pending.message)).sum();
        let dead = (journal.bytes() + records.len() as u64).saturating_sub(waiting as u64);
        // After a failed write the whole is written anew: what the file holds is not known.
        let anew = journal.is_broken() || dead > waiting as u64 + DEAD_BYTES_MAX;
        let whole = if anew { self.whole() } else { records };
        let done = spawn_blocking(move || {
            let written = if anew { journal.rewrite(&whole) } else { journal.append(&whole, sync) };
            (journal, written)
        });
        match done.await {
            Ok((journal, written)) => {
                self.journal = Some(journal);
                written
            }
            Err(_) => Err(ErrorKind::Interrupted.into()), // the runtime ends
        }
    }

    fn whole(&self) -> Vec<u8> {
        let mut records = numbers_from(self.next_id);
        for pending in self.waiting.values() {
            encode(pending, &mut records);
        }
        records
    }
}

fn numbers_from(id: u64) -> Vec<u8> {
    let mut record = Vec::new();
    put_record(&[&[NEXT_ID][..], &id.to_be_bytes()].concat(), &mut record);
    record
}

/// `1 · id u64 · durable u8 · kind length u8 · kind · to length u8 · to · payload`, or
/// `4 · id u64 · retain u8 · ttl u32 · topic length u8 · topic · payload`.
fn encode(pending: &Pending, out: &mut Vec<u8>) {
    let mut body = Vec::with_capacity(encoded_bytes(&pending.message));
    let begin = |tag: u8, body: &mut Vec<u8>| {
        body.push(tag);
        body.extend_from_slice(&pending.id.to_be_bytes());
    };
    match &pending.message {
        Outward::Upstream(message) => {
            begin(MESSAGE, &mut body);
            body.extend_from_slice(&[u8::from(message.durable), message.kind.len() as u8]);
            body.extend_from_slice(message.kind.as_bytes());
            body.push(message.to.len() as u8);
            body.extend_from_slice(message.to.as_bytes());
            body.extend_from_slice(&message.payload);
        }
        Outward::Publication(publication) => {
            begin(PUBLICATION, &mut body);
            body.push(u8::from(publication.retain));
            body.extend_from_slice(&publication.ttl_s.to_be_bytes());
            body.push(publication.topic.len() as u8);
            body.extend_from_slice(publication.topic.as_bytes());
            body.extend_from_slice(&publication.payload);
        }
    }
    put_record(&body, out);
}

fn encoded_bytes(message: &Outward) -> usize {
    record_bytes(match message {
        Outward::Upstream(message) => 12 + message.kind.len() + message.to.len() + message.payload.len(),
        Outward::Publication(publication) => 15 + publication.topic.len() + publication.payload.len(),
    })
}

fn decode_publication(body: &[u8]) -> Option<Publication> {
    let (&retain, body) = body.split_first()?;
    let (ttl_s, body) = body.split_first_chunk::<4>()?;
    let (topic, body) = text(body)?;
    let ttl_s = u32::from_be_bytes(*ttl_s);
    Some(Publication { topic, payload: body.to_vec().into(), retain: retain == 1, ttl_s })
}

fn decode(body: &[u8]) -> Option<UpstreamMessage> {
    let (&durable, body) = body.split_first()?;
    let (kind, body) = text(body)?;
    let (to, body) = text(body)?;
    Some(UpstreamMessage { kind, to, payload: body.to_vec().into(), durable: durable == 1 })
}

fn text(body: &[u8]) -> Option<(String, &[u8])> {
    let (&length, body) = body.split_first()?;
    let (text, body) = body.split_at_checked(usize::from(length))?;
    Some((String::from_utf8(text.to_vec()).ok()?, body))
}
