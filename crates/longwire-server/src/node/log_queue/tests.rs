#![allow(clippy::unwrap_used)]

use super::*;
use std::sync::mpsc;

/// Takes a line when the test asks for it.
struct Slow(mpsc::SyncSender<Vec<u8>>);

impl Write for Slow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Given up when the test has ended.
        self.0.send(bytes.to_vec()).map_err(io::Error::other)?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A queue whose summaries go through its own writer, as in the server.
fn queue(lines_max: usize) -> (LogQueue, LineWriter, Receiver<Vec<u8>>) {
    let (sender, taken) = sync_channel(0);
    let door: Arc<OnceLock<LineWriter>> = Arc::default();
    let own = door.clone();
    let summarize = move |lines| {
        let mut writer = own.get().unwrap().clone();
        writer.write_all(format!("dropped {lines}\n").as_bytes()).unwrap();
    };
    let queue = LogQueue::start(lines_max, Slow(sender), summarize).unwrap();
    door.set(queue.writer()).unwrap();
    let writer = queue.writer();
    (queue, writer, taken)
}

fn next(taken: &Receiver<Vec<u8>>) -> String {
    String::from_utf8(taken.recv_timeout(Duration::from_secs(20)).unwrap()).unwrap()
}

#[test]
fn lines_come_out_in_their_order() {
    let (queue, mut writer, taken) = queue(100);
    for round in 0..50 {
        writer.write_all(format!("line {round}\n").as_bytes()).unwrap();
        assert_eq!(next(&taken), format!("line {round}\n"), "also after the writer has slept");
    }
    assert_eq!(queue.dropped().count(), 0);
}

#[test]
fn a_stopped_reader_costs_lines_which_are_counted_and_told_when_it_reads_again() {
    let (queue, mut writer, taken) = queue(16);
    writer.write_all(b"0\n").unwrap();
    let end = Instant::now() + Duration::from_secs(20);
    while !queue.shared.lines.is_empty() {
        assert!(Instant::now() < end, "the writer never took the first line");
        std::thread::yield_now();
    }
    for number in 1..1000 {
        writer.write_all(format!("{number}\n").as_bytes()).unwrap();
    }
    let dropped = queue.dropped().count();
    assert_eq!(dropped, 983, "16 wait, one is with the writer");
    assert_eq!(next(&taken), "0\n");
    assert_eq!(next(&taken), format!("dropped {dropped}\n"));
    for number in 1..1000 - dropped {
        assert_eq!(next(&taken), format!("{number}\n"));
    }
    writer.write_all(b"after\n").unwrap();
    assert_eq!(next(&taken), "after\n");
}

#[test]
fn waiting_lines_are_bounded_in_bytes_too() {
    let (queue, mut writer, _taken) = queue(100_000);
    let line = [b'x'; LINE_BYTES_MAX];
    for _ in 0..2 * WAITING_BYTES_MAX / LINE_BYTES_MAX {
        writer.write_all(&line).unwrap();
    }
    let (all, fit) =
        ((2 * WAITING_BYTES_MAX / LINE_BYTES_MAX) as u64, (WAITING_BYTES_MAX / LINE_BYTES_MAX) as u64);
    let dropped = queue.dropped().count();
    assert!((all - fit - 1..=all - fit).contains(&dropped), "{dropped}");
}

#[test]
fn a_line_that_is_too_long_is_cut_between_characters() {
    let (_queue, mut writer, taken) = queue(16);
    writer.write_all(format!("{}\n", "\u{e9}".repeat(LINE_BYTES_MAX)).as_bytes()).unwrap();
    let line = next(&taken);
    assert!(line.len() <= LINE_BYTES_MAX && line.len() > LINE_BYTES_MAX - 16);
    assert!(line.ends_with("\u{e9} [cut]\n"), "{}", &line[line.len() - 20..]);
}

#[test]
fn the_end_writes_what_is_queued_and_waits_for_nobody() {
    let (queue, mut writer, taken) = queue(16);
    (0..5).for_each(|number| writer.write_all(format!("{number}\n").as_bytes()).unwrap());
    let reader = std::thread::spawn(move || taken.iter().count());
    drop(queue);
    drop(writer);
    assert_eq!(reader.join().unwrap(), 5);
    let (queue, mut writer, _taken) = self::queue(16);
    writer.write_all(b"nobody reads this\n").unwrap();
    drop(queue);
}
