//! Lines of the log on their way to a file descriptor that may take nothing for a while (000-31, 003-28).
//!
//! Whoever logs puts a line into a bounded queue, without waiting and without a system call unless the writer sleeps; one thread
//! writes. What does not fit is dropped and counted, and the log itself says so, once a second at most, when it is read again.
//! Own code instead of `tracing-appender`: that has no bound in bytes or per line, and does not say in the log what it dropped.

use crossbeam_queue::ArrayQueue;
use parking_lot::Mutex;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Thread, ThreadId};
use std::time::{Duration, Instant};

/// A longer line is cut.
pub(super) const LINE_BYTES_MAX: usize = 8 * 1024;
/// What all waiting lines together may take; beyond it lines are dropped.
pub(super) const WAITING_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Between two lines that say how many were dropped.
const SUMMARY_EVERY: Duration = Duration::from_secs(1);
/// How long the end of the process waits for a reader to take what is queued.
const FLUSH_MAX: Duration = Duration::from_secs(1);
/// The end of a line that was cut.
const CUT: &[u8] = b" [cut]\n";

/// What the loggers and the writer share.
#[derive(Debug)]
struct Shared {
    lines: ArrayQueue<Box<[u8]>>,
    bytes: AtomicUsize,
    dropped: AtomicU64,
    /// The writer looks at the queue before it sleeps, and sleeps only while this is true.
    sleeping: AtomicBool,
    stopping: AtomicBool,
    writer: OnceLock<Thread>,
    /// The line that the writer logs itself; it would not fit into a full queue.
    own: Mutex<Vec<u8>>,
}

/// Puts lines into the queue; one `write` is one line.
#[derive(Clone, Debug)]
pub(super) struct LineWriter(Arc<Shared>);

/// Counts the lines that were dropped.
#[derive(Clone, Debug)]
pub struct DroppedLines(Arc<Shared>);

impl DroppedLines {
    /// So many since the start.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.dropped.load(Relaxed)
    }
}

/// The running writer. Dropping it writes what is queued, for at most a second.
#[derive(Debug)]
pub(super) struct LogQueue {
    shared: Arc<Shared>,
    ended: Receiver<()>,
}

impl LogQueue {
    /// Starts the thread that writes to `out`. `summarize` is called in it, with a number of lines that were dropped, and logs
    /// that.
    ///
    /// # Errors
    /// The system's, for want of a thread.
    pub(super) fn start(
        lines_max: usize,
        out: impl Write + Send + 'static,
        summarize: impl Fn(u64) + Send + 'static,
    ) -> io::Result<LogQueue> {
        let shared = Arc::new(Shared {
            lines: ArrayQueue::new(lines_max.max(1)),
            bytes: AtomicUsize::new(0),
            dropped: AtomicU64::new(0),
            sleeping: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            writer: OnceLock::new(),
            own: Mutex::new(Vec::new()),
        });
        let (end, ended) = sync_channel(1);
        let pen = Pen { shared: shared.clone(), out, summarize, summed: 0, last: None };
        let thread = std::thread::Builder::new().name("longwire-log".into()).spawn(move || pen.run(&end))?;
        let _ = shared.writer.set(thread.thread().clone());
        Ok(LogQueue { shared, ended })
    }

    pub(super) fn writer(&self) -> LineWriter {
        LineWriter(self.shared.clone())
    }

    pub(super) fn dropped(&self) -> DroppedLines {
        DroppedLines(self.shared.clone())
    }
}

impl Drop for LogQueue {
    fn drop(&mut self) {
        self.shared.stopping.store(true, SeqCst);
        if let Some(writer) = self.shared.writer.get() {
            writer.unpark();
        }
        let _ = self.ended.recv_timeout(FLUSH_MAX);
    }
}

impl Shared {
    /// Takes a line in, or counts it as dropped.
    fn put(&self, line: &[u8]) {
        let line: Box<[u8]> = if line.len() > LINE_BYTES_MAX {
            [&line[..whole_characters(line, LINE_BYTES_MAX - CUT.len())], CUT].concat().into()
        } else {
            line.into()
        };
        let bytes = line.len();
        let fits = self.bytes.fetch_add(bytes, SeqCst) + bytes <= WAITING_BYTES_MAX;
        if !fits || self.lines.push(line).is_err() {
            self.bytes.fetch_sub(bytes, SeqCst);
            self.dropped.fetch_add(1, SeqCst);
        }
        if self.sleeping.swap(false, SeqCst)
            && let Some(writer) = self.writer.get()
        {
            writer.unpark();
        }
    }

    fn is_writer(&self, thread: ThreadId) -> bool {
        self.writer.get().is_some_and(|writer| writer.id() == thread)
    }
}

/// The longest part of at most `bytes` that does not end within a character.
fn whole_characters(line: &[u8], bytes: usize) -> usize {
    (0..=bytes).rev().find(|end| line.get(*end).is_none_or(|byte| byte & 0xC0 != 0x80)).unwrap_or(0)
}

impl Write for LineWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.0.is_writer(std::thread::current().id()) {
            self.0.own.lock().extend_from_slice(&line[..line.len().min(LINE_BYTES_MAX)]);
        } else {
            self.0.put(line);
        }
        Ok(line.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the writing thread has.
struct Pen<W, S> {
    shared: Arc<Shared>,
    out: W,
    summarize: S,
    /// How many of the dropped lines the log has told of, and when.
    summed: u64,
    last: Option<Instant>,
}

impl<W: Write, S: Fn(u64)> Pen<W, S> {
    fn run(mut self, end: &SyncSender<()>) {
        loop {
            // Before the queue is looked at: what came before the order to stop is written.
            let stopping = self.shared.stopping.load(SeqCst);
            while let Some(line) = self.shared.lines.pop() {
                self.shared.bytes.fetch_sub(line.len(), SeqCst);
                // A reader that has gone is no reason to end, nor one to keep lines.
                let _ = self.out.write_all(&line);
                self.sum_up(false);
            }
            self.sum_up(stopping);
            let _ = self.out.flush();
            if stopping {
                let _ = end.try_send(());
                return;
            }
            self.sleep();
        }
    }

    fn sleep(&self) {
        self.shared.sleeping.store(true, SeqCst);
        if !self.shared.lines.is_empty() || self.shared.stopping.load(SeqCst) {
            self.shared.sleeping.store(false, SeqCst);
            return;
        }
        if self.shared.dropped.load(SeqCst) > self.summed {
            std::thread::park_timeout(SUMMARY_EVERY);
        } else {
            std::thread::park();
        }
    }

    fn sum_up(&mut self, at_once: bool) {
        let dropped = self.shared.dropped.load(SeqCst);
        let due = at_once || self.last.is_none_or(|last| last.elapsed() >= SUMMARY_EVERY);
        if dropped == self.summed || !due {
            return;
        }
        (self.summarize)(dropped - self.summed);
        let line = std::mem::take(&mut *self.shared.own.lock());
        let _ = self.out.write_all(&line);
        (self.summed, self.last) = (dropped, Some(Instant::now()));
    }
}

#[cfg(test)]
mod tests;
