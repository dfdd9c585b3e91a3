//! What a device may send, under virtual time.
use longwire_proto::limit::INBOUND_PAUSE_MAX_S;
use longwire_proto::session::{InboundLimits, InboundRate, Millis, Pace, Ping};

const LIMITS: InboundLimits =
    InboundLimits { messages_per_s: 50, bytes_per_s: 512 * 1024, burst_s: 4, ping_s: 5, pings_burst: 12 };

/// One read with so many empty messages in it.
fn messages(rate: &mut InboundRate, now: Millis, count: usize) -> Pace {
    rate.bytes(now, 0, &LIMITS);
    (0..count).for_each(|_| rate.message(0, &LIMITS));
    rate.pace(now, &LIMITS)
}

#[test]
fn two_hundred_messages_may_come_at_once_and_one_more_makes_a_pause() {
    let mut rate = InboundRate::new(Millis(0));
    let now = Millis(1_000);
    assert_eq!(messages(&mut rate, now, 200), Pace::Within);
    assert_eq!(messages(&mut rate, now, 1), Pace::Ahead);
    assert_eq!(rate.pace(Millis(1_019), &LIMITS), Pace::Ahead);
    assert_eq!(rate.pace(Millis(1_020), &LIMITS), Pace::Within);
}

#[test]
fn the_allowed_rate_can_be_kept_for_ever() {
    let mut rate = InboundRate::new(Millis(0));
    for ms in (0..3_600_000).step_by(20) {
        assert_eq!(messages(&mut rate, Millis(ms), 1), Pace::Within, "at {ms} ms");
    }
}

#[test]
fn what_no_pause_makes_up_is_far_ahead() {
    let mut rate = InboundRate::new(Millis(0));
    let allowed = 200 + 50 * INBOUND_PAUSE_MAX_S as usize;
    assert_eq!(messages(&mut rate, Millis(0), allowed), Pace::Ahead);
    assert_eq!(messages(&mut rate, Millis(0), 1), Pace::FarAhead);
}

#[test]
fn bytes_count_too_and_a_message_costs_its_place_or_its_bytes() {
    let mut rate = InboundRate::new(Millis(0));
    let two_mib = 2 * 1024 * 1024;
    rate.bytes(Millis(0), two_mib, &LIMITS);
    assert_eq!(rate.pace(Millis(0), &LIMITS), Pace::Within);
    rate.bytes(Millis(0), 6000, &LIMITS);
    assert_eq!(rate.pace(Millis(0), &LIMITS), Pace::Ahead);
    // Large messages: their bytes are paid already, their places cost nothing more.
    let mut rate = InboundRate::new(Millis(0));
    rate.bytes(Millis(0), two_mib, &LIMITS);
    (0..64).for_each(|_| rate.message(two_mib / 64, &LIMITS));
    assert_eq!(rate.pace(Millis(0), &LIMITS), Pace::Within);
}

#[test]
fn a_heartbeat_flood_is_counted_first_and_ended_at_twice_the_burst() {
    let mut rate = InboundRate::new(Millis(0));
    let seen: Vec<Ping> = (0..25).map(|_| rate.ping(Millis(77), &LIMITS)).collect();
    assert!(seen[..12].iter().all(|ping| *ping == Ping::Due), "{seen:?}");
    assert!(seen[12..24].iter().all(|ping| *ping == Ping::Early), "{seen:?}");
    assert_eq!(seen[24], Ping::Flood);
}

#[test]
fn a_heartbeat_every_five_seconds_is_due_for_ever_and_every_four_is_not() {
    let last = |every_s: u64| {
        let mut rate = InboundRate::new(Millis(0));
        (0..1000).map(|n| rate.ping(Millis(n * every_s * 1000), &LIMITS)).last()
    };
    assert_eq!(last(5), Some(Ping::Due));
    assert_eq!(last(4), Some(Ping::Flood));
}

#[test]
fn the_wrap_of_the_ticks_is_not_seen() {
    // Ticks of 100 µs in 32 bits wrap after 429,496.7296 s.
    let wrap_ms = (1_u64 << 32) / 10;
    for start in [wrap_ms - 100, wrap_ms - 1, wrap_ms, 7 * wrap_ms] {
        let mut rate = InboundRate::new(Millis(start));
        assert_eq!(messages(&mut rate, Millis(start), 201), Pace::Ahead);
        assert_eq!(messages(&mut rate, Millis(start + 20), 0), Pace::Within);
        assert_eq!(messages(&mut rate, Millis(start + 40), 2), Pace::Ahead);
    }
    // A connection owes nothing, whenever it begins.
    for day in 0..10 {
        let now = Millis(day * 86_400_000 + 1);
        let mut rate = InboundRate::new(now);
        assert_eq!(
            (messages(&mut rate, now, 200), rate.ping(now, &LIMITS)),
            (Pace::Within, Ping::Due),
            "{day}"
        );
    }
    // Silent for a day, over the wrap: the old moment has passed.
    let mut rate = InboundRate::new(Millis(wrap_ms - 2));
    rate.bytes(Millis(wrap_ms - 1), 0, &LIMITS);
    assert_eq!(messages(&mut rate, Millis(wrap_ms + 86_400_000), 200), Pace::Within);
}

#[test]
fn heartbeats_of_a_busy_device_stay_due_over_days_without_one() {
    let mut rate = InboundRate::new(Millis(0));
    (0..12).for_each(|_| assert_eq!(rate.ping(Millis(0), &LIMITS), Ping::Due));
    let hours = 24 * 20;
    for hour in 0..hours {
        rate.bytes(Millis(hour * 3_600_000), 100, &LIMITS);
    }
    assert_eq!(rate.ping(Millis(hours * 3_600_000), &LIMITS), Ping::Due);
}

#[test]
fn nought_is_no_limit() {
    let limits = InboundLimits { messages_per_s: 0, bytes_per_s: 0, ping_s: 0, ..LIMITS };
    let mut rate = InboundRate::new(Millis(0));
    for _ in 0..100_000 {
        rate.bytes(Millis(5), 64 * 1024, &limits);
        rate.message(10, &limits);
        assert_eq!(rate.ping(Millis(5), &limits), Ping::Due);
    }
    assert_eq!(rate.pace(Millis(5), &limits), Pace::Within);
}

#[test]
fn a_connection_pays_eight_bytes() {
    assert_eq!(size_of::<InboundRate>(), 8);
}
