//! Any packets and any calls of the server, as one MQTT conversation: no panic, bounds hold, and every answer is a packet
//! that a server may send.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longwire_proto::close::CloseReason;
use longwire_proto::id::{ClientId, MessageId, Position, Source};
use longwire_proto::session::mqtt::{Awaiting, FromClient, Granted, PacketAssembler, Session, Terms};
use longwire_proto::session::{FeedStart, Offer};
use longwire_proto::wire::mqtt::{Decoder, Limits, QoS, Reason, Side, Version};

/// Takes bytes of the input one by one; zeros when it is used up.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn one(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }
}

/// Every packet that was said is one of a server.
fn judge(out: &mut Vec<u8>, version: Version) {
    let limits = Limits::SPECIFICATION;
    let decoder = Decoder::new(version, Side::Server, &limits);
    let mut said = out.as_slice();
    while !said.is_empty() {
        decoder.next(&mut said).expect("a packet of a server").expect("a whole one");
    }
    out.clear();
}

/// What the server does beside answering.
fn act(session: &mut Session, choices: &mut Choices<'_>, next: &mut u64, out: &mut Vec<u8>) {
    let id = u16::from(choices.one() % 8);
    match choices.one() % 10 {
        0 => session.published(id, Reason::Success, out),
        1 => session.published(id, Reason::NotAuthorized, out),
        2 => session.released(id, out),
        3 => session.subscribed(id.max(1), &[Reason::Success], out),
        4 => {
            session.send_unstored(QoS::AtLeastOnce, *next);
        }
        5 => {
            session.send_unstored(QoS::ExactlyOnce, *next);
        }
        6 => {
            *next += 1;
            let message = MessageId(u128::from(*next));
            let offer = session.deliveries().offer(Source::Mailbox, Position::new(1, *next), message, 10);
            if matches!(offer, Offer::Send { .. }) && id.is_multiple_of(2) {
                session.sends_twice(message);
            }
        }
        7 => session.recorded(Source::Mailbox, Position::new(1, u64::from(id)), out),
        8 => session.releases_again(Source::Mailbox, Position::new(1, u64::from(id)), out),
        _ => {
            session.deliveries().pull();
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&length, bytes)) = bytes.split_first() else { return };
    let Some((login, rest)) = bytes.split_at_checked(usize::from(length)) else { return };
    let limits = Limits::default();
    let (mut awaiting, mut input, mut out) = (Awaiting::default(), login, Vec::new());
    let terms = match awaiting.receive(&mut input, &limits) {
        Ok(Some(connect)) => Terms::of(&connect),
        Ok(None) => return,
        Err(ending) => {
            awaiting.refuse(ending.reason, &mut out);
            // In which version it was said, only the bytes know: 3.1.1's refusal has two bytes of body.
            let version = if out.get(1) == Some(&2) { Version::V311 } else { Version::V5 };
            return judge(&mut out, version);
        }
    };
    let version = terms.version;
    let deciding = awaiting.decide(terms, input);
    let granted = Granted {
        session_present: length & 1 == 0,
        assigned: None,
        expiry_s: None,
        keep_alive_s: None,
        packet_bytes_max: limits.packet_bytes_max,
        response: None,
    };
    let start = FeedStart { last: Position::new(1, 0), waiting: false };
    let (mut session, behind) = deciding.accept(ClientId(1), start, start, &granted, &mut out);
    judge(&mut out, version);
    let mut assembler = PacketAssembler::default();
    let mut next = 0;
    for piece in [&*behind, rest] {
        let mut choices = Choices(piece);
        let mut input = piece;
        loop {
            let before = input.len();
            let decoder = session.decoder(&limits);
            let Ok(Some(packet)) = assembler.next(&mut input, &decoder, false) else { return };
            let Ok(from) = session.receive(packet, &mut out) else {
                session.close(CloseReason::BadBody, &mut out);
                return judge(&mut out, version);
            };
            let publish = match from {
                FromClient::Publish(incoming) => {
                    (incoming.qos != QoS::AtMostOnce).then_some(incoming.packet_id)
                }
                _ => None,
            };
            if let Some(packet_id) = publish {
                session.published(packet_id, Reason::Success, &mut out);
            }
            act(&mut session, &mut choices, &mut next, &mut out);
            judge(&mut out, version);
            assert!(session.unstored().count() <= 32 && session.deliveries().unacked().count() <= 32);
            assert!(input.len() < before || before == 0);
        }
    }
});
