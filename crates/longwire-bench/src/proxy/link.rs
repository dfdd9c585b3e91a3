//! One direction of one connection: bytes are read, held as long as the toxics say, and written in the same order.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::dice::Dice;
use super::toxic::{Effects, Stream, Toxic};

/// Bytes held per direction. At the limit nothing more is read, so that latency also bounds the rate: 64 KiB per
/// delay.
pub(super) const HELD_BYTES_MAX: usize = 64 * 1024;
/// Bytes read at once.
const READ_BYTES: usize = 16 * 1024;
/// A bandwidth toxic passes as many bytes at once as it allows in so many milliseconds.
const PORTION_MS: u64 = 100;

/// Why a connection ends before both directions came to their end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Both sides get the end of the stream.
    Cut,
    /// Both sides get a RST.
    Reset,
}

/// The toxics of a proxy, changed while connections live.
pub(super) type Toxics = Arc<Vec<Toxic>>;

/// One direction.
pub(super) struct Link<'c> {
    reader: ReadHalf<'c>,
    writer: WriteHalf<'c>,
    toxics: watch::Receiver<Toxics>,
    stream: Stream,
    draw: u64,
    dice: Dice,
    /// Directions of this connection whose end was read and hidden.
    hidden: &'c AtomicU8,
    effects: Effects,
    /// Since when a timeout or reset_peer counts.
    cut_since: Option<Instant>,
    held: VecDeque<(Instant, Vec<u8>)>,
    held_bytes: usize,
    /// Nothing is written before this: bandwidth and slices.
    pace: Instant,
    /// Bytes written since there is a limit_data.
    passed: u64,
    dropped: bool,
    ended: Option<Instant>,
}

/// What may happen next.
#[derive(Debug, Default)]
struct Step {
    read: bool,
    /// Bytes of the first piece that may be written now.
    write: usize,
    wake: Option<Instant>,
    finished: bool,
}

impl<'c> Link<'c> {
    pub(super) fn new(
        (reader, writer): (ReadHalf<'c>, WriteHalf<'c>),
        toxics: watch::Receiver<Toxics>,
        stream: Stream,
        draw: u64,
        hidden: &'c AtomicU8,
    ) -> Link<'c> {
        let now = Instant::now();
        let dice = Dice::new(draw ^ u64::from(stream == Stream::Upstream));
        let mut link = Link {
            reader,
            writer,
            toxics,
            stream,
            draw,
            dice,
            hidden,
            effects: Effects::default(),
            cut_since: None,
            held: VecDeque::new(),
            held_bytes: 0,
            pace: now,
            passed: 0,
            dropped: false,
            ended: None,
        };
        link.adopt();
        link
    }

    /// Carries bytes until the end of the stream has been passed on.
    pub(super) async fn carry(mut self) -> Result<(), End> {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let step = self.step(Instant::now())?;
            if step.finished {
                // A side that is gone already cannot be told.
                let _ = self.writer.shutdown().await;
                return Ok(());
            }
            let piece = self.held.front().map_or(&[][..], |(_, bytes)| &bytes[..step.write]);
            let wake = step.wake.unwrap_or(self.pace);
            // Each branch may be dropped at its await: `changed`, `sleep_until`, `read` and `write` lose nothing then.
            tokio::select! {
                changed = self.toxics.changed() => {
                    changed.map_err(|_| End::Cut)?;
                    self.heal()?;
                }
                () = sleep_until(wake), if step.wake.is_some() => {}
                read = self.reader.read(&mut buffer), if step.read => {
                    self.take(read.map(|count| &buffer[..count]))?;
                }
                written = self.writer.write(piece), if step.write > 0 => self.wrote(written)?,
            }
        }
    }

    /// Takes over the toxics as they are now.
    fn adopt(&mut self) {
        self.effects = Effects::of(&self.toxics.borrow_and_update(), self.stream, self.draw);
        let cuts = self.effects.close_after_ms.is_some() || self.effects.reset_after_ms.is_some();
        self.cut_since = cuts.then(|| self.cut_since.unwrap_or_else(Instant::now));
        if self.effects.limit_bytes.is_none() {
            self.passed = 0;
        }
    }

    /// Toxics changed. A stream that has lost bytes cannot go on: both sides would read on over a hole.
    fn heal(&mut self) -> Result<(), End> {
        self.adopt();
        if self.dropped && !self.effects.drops { Err(End::Reset) } else { Ok(()) }
    }

    fn step(&mut self, now: Instant) -> Result<Step, End> {
        let mut step = Step::default();
        if let Some(since) = self.cut_since {
            let after = |ms: Option<u64>| ms.map(|ms| since + Duration::from_millis(ms));
            let (reset, close) = (after(self.effects.reset_after_ms), after(self.effects.close_after_ms));
            if reset.is_some_and(|at| now >= at) {
                return Err(End::Reset);
            }
            if close.is_some_and(|at| now >= at) {
                return Err(End::Cut);
            }
            step.wake = [reset, close].into_iter().flatten().min();
        }
        if self.effects.drops {
            self.dropped |= !self.held.is_empty();
            self.held.clear();
            self.held_bytes = 0;
            step.read = self.ended.is_none();
            step.finished = self.ended.is_some() && !self.effects.hides_end;
            return Ok(step);
        }
        if self.effects.rate_kb == Some(0) {
            return Ok(step);
        }
        step.read = self.ended.is_none() && self.held_bytes + READ_BYTES <= HELD_BYTES_MAX;
        match (self.held.front(), self.ended) {
            (Some((due, bytes)), _) => {
                let due = (*due).max(self.pace);
                if now < due {
                    step.wake = Some(due);
                } else {
                    let count = bytes.len();
                    step.write = self.portion(count)?;
                }
            }
            (None, Some(ended)) => {
                let due = ended + Duration::from_millis(self.effects.slow_close_ms);
                step.finished = now >= due;
                step.wake = Some(due);
            }
            (None, None) => {}
        }
        Ok(step)
    }

    /// How many of `count` bytes may be written at once.
    fn portion(&mut self, count: usize) -> Result<usize, End> {
        let mut portion = count as u64;
        if let Some(rate) = self.effects.rate_kb {
            portion = portion.min(rate.saturating_mul(PORTION_MS));
        }
        if let Some(slices) = self.effects.slices {
            portion = portion.min(self.dice.around(slices.average, slices.variation).max(1));
        }
        if let Some(limit) = self.effects.limit_bytes {
            portion = portion.min(limit.saturating_sub(self.passed));
        }
        if portion == 0 { Err(End::Cut) } else { Ok(portion as usize) }
    }

    fn take(&mut self, read: io::Result<&[u8]>) -> Result<(), End> {
        let now = Instant::now();
        let delay = self.dice.around(self.effects.latency_ms, self.effects.jitter_ms);
        let due = now + Duration::from_millis(delay);
        // Never before what was read earlier, whatever the jitter says.
        let due = self.held.back().map_or(due, |(before, _)| due.max(*before));
        match read {
            Ok(bytes) if !bytes.is_empty() && self.effects.drops => self.dropped = true,
            Ok(bytes) if !bytes.is_empty() => {
                self.held_bytes += bytes.len();
                self.held.push_back((due, bytes.to_vec()));
            }
            Ok(_) => self.end(due)?,
            Err(_) if self.effects.hides_end => self.end(due)?,
            Err(_) => return Err(End::Reset),
        }
        Ok(())
    }

    fn end(&mut self, due: Instant) -> Result<(), End> {
        self.ended = Some(due);
        // Both sides are gone and nobody will see what is hidden from them.
        if self.effects.hides_end && self.hidden.fetch_add(1, Ordering::Relaxed) == 1 {
            return Err(End::Reset);
        }
        Ok(())
    }

    fn wrote(&mut self, written: io::Result<usize>) -> Result<(), End> {
        let Ok(count @ 1..) = written else { return Err(End::Reset) };
        if let Some((_, bytes)) = self.held.front_mut() {
            if count == bytes.len() {
                self.held.pop_front();
            } else {
                bytes.drain(..count);
            }
        }
        self.held_bytes -= count;
        if self.effects.limit_bytes.is_some() {
            self.passed += count as u64;
        }
        let mut pause_us = self.effects.slices.map_or(0, |slices| slices.delay_us);
        if let Some(rate) = self.effects.rate_kb {
            pause_us += count as u64 * 1000 / rate.max(1);
        }
        self.pace = self.pace.max(Instant::now()) + Duration::from_micros(pause_us);
        if self.effects.limit_bytes.is_some_and(|limit| self.passed >= limit) {
            return Err(End::Cut);
        }
        Ok(())
    }
}
