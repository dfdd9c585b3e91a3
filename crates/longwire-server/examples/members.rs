//! What an audience costs a shard: conditions over tags and attributes on the bitmaps of 100,000 connections.
//!
//! `cargo run --release -p longwire-server --example members`
#![allow(clippy::print_stdout, reason = "it talks to people")]

use longwire_server::delivery::border::{LabelId, Labelled, Meant, Reach};
use longwire_server::domain::{AppId, ClientId};
use longwire_server::gate::Members;
use std::hint::black_box;
use std::time::{Duration, Instant};

const CONNECTIONS: u32 = 100_000;
const ROUNDS: usize = 1000;
const APP: AppId = AppId(1);
/// Tags, from this label on, of which a connection has each with a chance of one in 2, 4, 8 and so on.
const TAGS: u32 = 10;
/// Labels of versions; each connection has one.
const VERSIONS: std::ops::Range<u32> = 100..400;
/// Labels of countries; each connection has one.
const COUNTRIES: std::ops::Range<u32> = 1000..1200;

fn main() {
    let mut members = Members::default();
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    let mut bits = || {
        random ^= random >> 12;
        random ^= random << 25;
        random ^= random >> 27;
        random.wrapping_mul(0x2545_F491_4F6C_DD1D)
    };
    let mut all = Vec::new();
    for slot in 0..CONNECTIONS {
        let mut labels: Vec<u32> = (0..TAGS).filter(|tag| bits() >> 40 & ((2 << tag) - 1) == 0).collect();
        labels.push(VERSIONS.start + (bits() >> 33) as u32 % (VERSIONS.end - VERSIONS.start));
        labels.push(COUNTRIES.start + (bits() >> 33) as u32 % (COUNTRIES.end - COUNTRIES.start));
        let labels: Box<[LabelId]> = labels.into_iter().map(LabelId).collect();
        all.push(labels.clone());
        members.join(APP, slot, labels);
    }
    let has = |labels: std::ops::Range<u32>| Labelled::has(labels.map(LabelId).collect());
    let not = |inner| Labelled::Not(Box::new(inner));
    let cases = [
        ("everyone", Labelled::Everyone),
        ("one tag of half of them", has(0..1)),
        ("any of ten tags", has(0..10)),
        ("not one tag", not(has(0..1))),
        ("a && (b || c) && !d", Labelled::All([has(0..1), has(1..3), not(has(4..5))].into())),
        ("version below one of 300, 150 fit", has(100..250)),
        (
            "a && version (150 of 300) && !(20 of 200 countries)",
            Labelled::All([has(0..1), has(100..250), not(has(1000..1020))].into()),
        ),
        ("three lists of tags", Labelled::All([has(0..5), has(2..3), not(has(5..10))].into())),
    ];
    println!("{CONNECTIONS} connections in one shard, {ROUNDS} times each; µs: median, least, most");
    for (name, condition) in cases {
        let reach = Reach { condition, labels_known: LabelId(2000), ..Reach::everyone() };
        let mut found = 0;
        let times = measure(|| found = black_box(members.matching(APP, black_box(&reach))).len());
        let began = Instant::now();
        let judged = all.iter().filter(|own| black_box(reach.judge(ClientId(1), own)) == Meant::Yes);
        let judged = judged.count() as u64;
        let each_ns = began.elapsed().as_nanos() / u128::from(CONNECTIONS);
        assert_eq!(found, judged, "bitmaps and connections agree");
        let [median, least, most] = times.map(|time| time.as_nanos() as f64 / 1000.0);
        println!(
            "{name:52} {found:>7} fit  {median:>8.1} {least:>8.1} {most:>8.1}; {each_ns} ns to judge one of them"
        );
    }
}

/// Median, least and most.
fn measure(mut work: impl FnMut()) -> [Duration; 3] {
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let began = Instant::now();
            work();
            began.elapsed()
        })
        .collect();
    times.sort_unstable();
    [times[ROUNDS / 2], times[0], times[ROUNDS - 1]]
}
