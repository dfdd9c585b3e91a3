//! What the kernel still holds for a peer: the bytes written to one socket that the peer's kernel has not taken yet. A thread
//! of its own asks (`NETLINK_SOCK_DIAG`, one socket a question), because kernels before 6.9 answer under a lock that
//! another process's listing of sockets can hold, and shards wait for nothing. Without such a kernel service nothing is
//! asked, and only what a socket takes counts as progress.

use super::queue::ShardQueue;
use crate::delivery::border::Handle;
use crossbeam_queue::ArrayQueue;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{JoinHandle, Thread};

/// Questions that may wait over all shards; beyond it a shard asks again a second later.
const QUESTIONS_MAX: usize = 4096;

/// Bytes of a netlink header, of an `inet_diag_req_v2`, and of an `inet_diag_msg`.
const HEADER: usize = 16;
const REQUEST: usize = 56;
const ANSWER: usize = 72;
/// `SOCK_DIAG_BY_FAMILY`, `NLM_F_REQUEST`, `IPPROTO_TCP`.
const BY_FAMILY: u16 = 20;
const IS_REQUEST: u16 = 1;
const TCP: u8 = 6;
/// `AF_INET`, `AF_INET6`.
const INET: u8 = 2;
const INET6: u8 = 10;
/// `INET_DIAG_INFO`, the attribute that holds a `struct tcp_info`, and where that holds `tcpi_retransmits`.
const INFO: u16 = 2;
const RETRANSMITS: usize = 2;
/// The state of a listener: what a look-up finds when the connection is gone.
const LISTENS: u8 = 10;

/// One connection to be looked at.
pub(super) struct Question {
    pub(super) from: Handle,
    pub(super) local: SocketAddr,
    pub(super) peer: SocketAddr,
}

/// What the kernel held for a connection.
pub(super) struct Reading {
    pub(super) of: Handle,
    /// Bytes that the peer has not acked.
    pub(super) unacked: u32,
    /// Our kernel sends it something again because nothing answers. A peer that is alive and has no room answers.
    pub(super) unanswered: bool,
}

/// Where shards ask.
pub(super) struct Judge {
    questions: ArrayQueue<Question>,
    thread: OnceLock<Thread>,
    /// The kernel does not answer such questions.
    absent: AtomicBool,
    ended: AtomicBool,
}

impl Judge {
    pub(super) fn new() -> Judge {
        Judge {
            questions: ArrayQueue::new(QUESTIONS_MAX),
            thread: OnceLock::new(),
            absent: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        }
    }

    /// Starts the thread that asks the kernel and gives the readings to the shards' queues.
    ///
    /// # Errors
    /// No thread to be had.
    pub(super) fn start(self: &Arc<Judge>, queues: Vec<Arc<ShardQueue>>) -> io::Result<JoinHandle<()>> {
        let judge = self.clone();
        let handle = std::thread::Builder::new().name("judge".into()).spawn(move || judge.run(&queues))?;
        let _ = self.thread.set(handle.thread().clone());
        Ok(handle)
    }

    /// Whether so many questions wait that no other is taken.
    pub(super) fn is_busy(&self) -> bool {
        self.questions.is_full()
    }

    /// Whether there is nobody to ask.
    pub(super) fn is_absent(&self) -> bool {
        self.absent.load(Ordering::Relaxed)
    }

    /// Never waits. False: too many questions wait.
    pub(super) fn ask(&self, question: Question) -> bool {
        let taken = self.questions.push(question).is_ok();
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
        taken
    }

    /// Ends the thread.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    fn run(&self, queues: &[Arc<ShardQueue>]) {
        let socket = match Diagnosis::open() {
            Ok(socket) => socket,
            Err(error) => return self.give_up(&error),
        };
        while !self.ended.load(Ordering::Acquire) {
            let Some(question) = self.questions.pop() else {
                std::thread::park();
                continue;
            };
            match socket.look(question.local, question.peer) {
                Ok(Some((unacked, unanswered))) => {
                    if let Some(queue) = queues.get(usize::from(question.from.shard().0)) {
                        queue.read(Reading { of: question.from, unacked, unanswered });
                    }
                }
                Ok(None) => {}
                Err(error) => return self.give_up(&error),
            }
        }
    }

    fn give_up(&self, error: &io::Error) {
        self.absent.store(true, Ordering::Relaxed);
        tracing::warn!(
            %error,
            "the kernel does not tell what it holds for a socket (sock_diag): peers are judged by what sockets take"
        );
    }
}

/// A socket to the kernel's diagnosis of sockets.
struct Diagnosis(OwnedFd);

impl Diagnosis {
    fn open() -> io::Result<Diagnosis> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let protocol = Some(netlink::SOCK_DIAG);
        Ok(Diagnosis(socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?))
    }

    /// Bytes not acked, and whether some are being sent again. `None`: there is no such connection any more.
    fn look(&self, local: SocketAddr, peer: SocketAddr) -> io::Result<Option<(u32, bool)>> {
        send(&self.0, &request(local, peer), SendFlags::empty())?;
        let mut answer = [0; 1024];
        // The kernel answers within the send, so the answer is there.
        let (count, _) = recv(&self.0, &mut answer, RecvFlags::empty())?;
        read_answer(&answer[..count])
    }
}

/// One socket by its addresses: netlink header and `inet_diag_req_v2`, in the machine's byte order but for ports and addresses.
fn request(local: SocketAddr, peer: SocketAddr) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + REQUEST);
    bytes.extend_from_slice(&((HEADER + REQUEST) as u32).to_ne_bytes());
    bytes.extend_from_slice(&BY_FAMILY.to_ne_bytes());
    bytes.extend_from_slice(&IS_REQUEST.to_ne_bytes());
    // Sequence and sender: there is one question at a time, and the kernel fills in the sender.
    bytes.extend_from_slice(&[0; 8]);
    let family = if local.is_ipv4() { INET } else { INET6 };
    // With `tcp_info` beyond the fixed answer, and any state.
    bytes.extend_from_slice(&[family, TCP, 1 << (INFO - 1), 0]);
    bytes.extend_from_slice(&u32::MAX.to_ne_bytes());
    bytes.extend_from_slice(&local.port().to_be_bytes());
    bytes.extend_from_slice(&peer.port().to_be_bytes());
    for address in [local.ip(), peer.ip()] {
        let mut octets = [0; 16];
        match address {
            IpAddr::V4(ip) => octets[..4].copy_from_slice(&ip.octets()),
            IpAddr::V6(ip) => octets = ip.octets(),
        }
        bytes.extend_from_slice(&octets);
    }
    // A link-local peer is found on its interface only; then any cookie.
    let interface = if let SocketAddr::V6(peer) = peer { peer.scope_id() } else { 0 };
    bytes.extend_from_slice(&interface.to_ne_bytes());
    bytes.extend_from_slice(&[0xFF; 8]);
    bytes
}

fn read_answer(bytes: &[u8]) -> io::Result<Option<(u32, bool)>> {
    let cut_short = || io::Error::from(io::ErrorKind::InvalidData);
    let kind = bytes.get(4..6).and_then(|kind| kind.try_into().ok()).map(u16::from_ne_bytes);
    let word = |at: usize| -> io::Result<u32> {
        let word = bytes.get(at..at + 4).and_then(|word| word.try_into().ok());
        word.map(u32::from_ne_bytes).ok_or_else(cut_short)
    };
    if kind == Some(BY_FAMILY) && bytes.len() >= HEADER + ANSWER {
        // family, state, timer, retransmits; 48 bytes of addresses; expires, receive queue, send queue.
        let unacked = word(HEADER + 60)?;
        let unanswered = retransmits(&bytes[HEADER + ANSWER..]).is_some_and(|count| count > 0);
        return Ok((bytes[HEADER + 1] != LISTENS).then_some((unacked, unanswered)));
    }
    // An error: its number, negative.
    let error = io::Error::from_raw_os_error((word(HEADER)? as i32).wrapping_neg());
    if error.kind() == io::ErrorKind::NotFound && kind == Some(2) { Ok(None) } else { Err(error) }
}

/// Finds the count of retransmissions in a row among the attributes: u16 length, header included, u16 type, value, padded to
/// four bytes.
fn retransmits(mut attributes: &[u8]) -> Option<u8> {
    loop {
        let (head, _) = attributes.split_first_chunk::<4>()?;
        let [l0, l1, k0, k1] = *head;
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = attributes.get(4..length)?;
        if u16::from_ne_bytes([k0, k1]) == INFO {
            return value.get(RETRANSMITS).copied();
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    fn unacked(diagnosis: &Diagnosis, local: SocketAddr, peer: SocketAddr) -> Option<u32> {
        diagnosis.look(local, peer).unwrap().map(|(unacked, _)| unacked)
    }

    /// Attributes as the kernel gives them: others before it, and one that is cut short.
    #[test]
    fn the_count_is_found_among_other_attributes() {
        let attribute = |kind: u16, value: &[u8]| {
            let mut bytes = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
            bytes.extend_from_slice(&kind.to_ne_bytes());
            bytes.extend_from_slice(value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes
        };
        let all = [attribute(8, &[1]), attribute(INFO, &[4, 0, 7, 0, 0])].concat();
        assert_eq!(retransmits(&all), Some(7));
        for length in 0..15 {
            assert_eq!(retransmits(&all[..length]), None, "{length}");
        }
        assert_eq!(retransmits(&[0; 64]), None, "a length of nothing is no attribute");
    }

    fn reads_what_is_unacked(address: &str) {
        let listener = TcpListener::bind(address).unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut ours, _) = listener.accept().unwrap();
        let (local, remote) = (ours.local_addr().unwrap(), ours.peer_addr().unwrap());
        let diagnosis = Diagnosis::open().unwrap();
        assert_eq!(unacked(&diagnosis, local, remote), Some(0));
        ours.set_nonblocking(true).unwrap();
        while ours.write(&[0; 65536]).is_ok() {}
        let full = unacked(&diagnosis, local, remote).unwrap();
        assert!(full > 0);
        // What the peer takes is gone from it.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while unacked(&diagnosis, local, remote) == Some(full) {
            peer.read_exact(&mut [0; 65536]).unwrap();
            assert!(std::time::Instant::now() < deadline);
        }
        drop((peer, ours));
        // Gone, or the listener is found in its place, or it lingers: never an error.
        diagnosis.look(local, remote).unwrap();
        drop(listener);
        let nobody = SocketAddr::new(local.ip(), 9);
        assert_eq!(unacked(&diagnosis, nobody, nobody), None);
    }

    #[test]
    fn the_kernel_tells_what_a_peer_has_not_taken() {
        reads_what_is_unacked("127.0.0.1:0");
    }

    #[test]
    fn the_same_over_ipv6() {
        if TcpListener::bind("[::1]:0").is_ok() {
            reads_what_is_unacked("[::1]:0");
        }
    }

    #[test]
    fn an_answer_that_is_cut_short_is_an_error() {
        for length in 0..HEADER {
            assert!(read_answer(&[0; HEADER][..length]).is_err());
        }
        let mut short = [0; HEADER + ANSWER - 1];
        short[4..6].copy_from_slice(&BY_FAMILY.to_ne_bytes());
        assert!(read_answer(&short).is_err());
    }
}
