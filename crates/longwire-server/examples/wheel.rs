//! The articles' failure was a million timer objects (000-14). This puts a million idle sessions into the timing wheel, without
//! sockets, lets them beat ten million times, and prints what the timers cost.
//!
//! `cargo run --release -p longwire-server --example wheel`
#![allow(clippy::print_stdout, reason = "it talks to people")]

use longwire_server::gate::{Link, Links, Wheel};
use std::time::{Duration, Instant};

const SESSIONS: u32 = 1_000_000;
const HEARTBEATS: u64 = 10_000_000;
/// A heartbeat of 180 s for phones: closed after 3 x 180 + 20 s of silence.
const HEARTBEAT_S: u32 = 180;
const IDLE_LIMIT_S: u32 = 3 * HEARTBEAT_S + 20;

/// What a session needs for its timer: its link, and the second of its last read.
struct Sessions {
    links: Vec<Link>,
    read_s: Vec<u32>,
}

impl Links for Sessions {
    fn link(&mut self, slot: u32) -> Option<&mut Link> {
        self.links.get_mut(slot as usize)
    }
}

fn main() {
    let before = resident_bytes();
    let mut sessions = Sessions {
        links: vec![Link::default(); SESSIONS as usize],
        read_s: (0..SESSIONS).map(|slot| slot % HEARTBEAT_S).collect(),
    };
    let mut wheel = Wheel::new();
    let began = Instant::now();
    for slot in 0..SESSIONS {
        let due_s = sessions.read_s[slot as usize] + IDLE_LIMIT_S;
        wheel.insert(&mut sessions, slot, due_s);
    }
    let inserted = began.elapsed();
    let full = resident_bytes();

    let (mut beats, mut second, mut looks, mut closed) = (0_u64, HEARTBEAT_S, 0_u64, 0_u64);
    let (mut due, mut ticks, mut beating) = (Vec::new(), Vec::new(), Duration::ZERO);
    while beats < HEARTBEATS {
        let began = Instant::now();
        for slot in (second % HEARTBEAT_S..SESSIONS).step_by(HEARTBEAT_S as usize) {
            sessions.read_s[slot as usize] = second;
            beats += 1;
        }
        beating += began.elapsed();
        let began = Instant::now();
        wheel.advance(&mut sessions, second, &mut due);
        looks += due.len() as u64;
        for slot in due.drain(..) {
            let due_s = sessions.read_s[slot as usize] + IDLE_LIMIT_S;
            closed += u64::from(due_s <= second);
            wheel.insert(&mut sessions, slot, due_s);
        }
        ticks.push(began.elapsed());
        second += 1;
    }
    ticks.sort_unstable();
    let after = resident_bytes();
    println!(
        "sessions                  {SESSIONS}, heartbeat {HEARTBEAT_S} s, {beats} heartbeats, {closed} closed"
    );
    println!("timer memory per session  {} bytes of links, and 4 of the last read", size_of::<Link>());
    println!("resident                  {before} bytes before, {full} full, {after} after the heartbeats");
    println!("insert                    {} ns each", inserted.as_nanos() / u128::from(SESSIONS));
    println!("heartbeat                 {:.1} ns each", beating.as_nanos() as f64 / beats as f64);
    println!("looks of the wheel        {looks}, {:.2} a heartbeat", looks as f64 / beats as f64);
    println!(
        "tick                      median {:?}, worst {:?} of {}",
        ticks[ticks.len() / 2],
        ticks[ticks.len() - 1],
        ticks.len()
    );
}

/// What of this process is in memory.
fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = text.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * 4096
}
