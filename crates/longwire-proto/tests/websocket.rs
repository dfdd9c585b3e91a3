//! WebSocket framing: the examples of RFC 6455 section 5.7, every abuse refused with its code, any cut, random bytes.
#![allow(clippy::unwrap_used, missing_docs)]

use longwire_proto::close::CloseReason;
use longwire_proto::wire::websocket::*;
use proptest::prelude::*;

const CLIENTS: Rules = Rules { peer: Peer::Client, message_bytes_max: 64 * 1024, controls_max: 8 };
const SERVERS: Rules = Rules { peer: Peer::Server, ..CLIENTS };

#[derive(Debug, PartialEq, Eq, Clone)]
enum Seen {
    Bytes(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
}

/// Everything that `pieces` give, neighbouring payload joined.
fn feed(
    decoder: &mut Decoder,
    pieces: impl IntoIterator<Item = Vec<u8>>,
    rules: &Rules,
) -> (Vec<Seen>, Result<(), WebSocketError>) {
    let mut seen = Vec::new();
    for mut piece in pieces {
        let mut input = &mut piece[..];
        loop {
            match decoder.next(&mut input, rules) {
                Ok(None) => break,
                Ok(Some(Event::Payload(bytes))) => match seen.last_mut() {
                    Some(Seen::Bytes(before)) => before.extend_from_slice(bytes),
                    _ => seen.push(Seen::Bytes(bytes.to_vec())),
                },
                Ok(Some(Event::Ping(body))) => seen.push(Seen::Ping(body.bytes().to_vec())),
                Ok(Some(Event::Pong(body))) => seen.push(Seen::Pong(body.bytes().to_vec())),
                Ok(Some(Event::Close { code })) => seen.push(Seen::Close(code)),
                Err(error) => return (seen, Err(error)),
            }
        }
        assert!(input.is_empty(), "a call that asks for more has taken all");
    }
    (seen, Ok(()))
}

fn whole(bytes: &[u8], rules: &Rules) -> (Vec<Seen>, Result<(), WebSocketError>) {
    feed(&mut Decoder::default(), [bytes.to_vec()], rules)
}

fn bytewise(bytes: &[u8], rules: &Rules) -> (Vec<Seen>, Result<(), WebSocketError>) {
    feed(&mut Decoder::default(), bytes.iter().map(|byte| vec![*byte]), rules)
}

/// A frame as a client sends it, whatever its first byte says.
fn client(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut mask = Mask::new([0xa1, 0x02, 0x7f, 0xc4]);
    let mut frame = vec![first];
    match payload.len() {
        short @ 0..=125 => frame.push(0x80 | short as u8),
        middle @ 126..=0xffff => {
            frame.push(0xfe);
            frame.extend((middle as u16).to_be_bytes());
        }
        long => {
            frame.push(0xff);
            frame.extend((long as u64).to_be_bytes());
        }
    }
    frame.extend(mask.key());
    let at = frame.len();
    frame.extend(payload);
    mask.apply(&mut frame[at..]);
    frame
}

#[test]
fn the_examples_of_rfc_6455_decode() {
    // Its text examples are played as binary: opcode 2 in place of 1.
    let hello = vec![Seen::Bytes(b"Hello".to_vec())];
    let masked = [0x82, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    assert_eq!(whole(&masked, &CLIENTS), (hello.clone(), Ok(())));
    assert_eq!(bytewise(&masked, &CLIENTS), (hello.clone(), Ok(())));
    let single = [0x82, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
    assert_eq!(whole(&single, &SERVERS), (hello.clone(), Ok(())));
    let fragments = [0x02, 0x03, 0x48, 0x65, 0x6c, 0x80, 0x02, 0x6c, 0x6f];
    assert_eq!(whole(&fragments, &SERVERS), (hello, Ok(())));
    let ping = [0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
    assert_eq!(whole(&ping, &SERVERS), (vec![Seen::Ping(b"Hello".to_vec())], Ok(())));
    let pong = [0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    assert_eq!(whole(&pong, &CLIENTS), (vec![Seen::Pong(b"Hello".to_vec())], Ok(())));
    assert_eq!(bytewise(&pong, &CLIENTS), (vec![Seen::Pong(b"Hello".to_vec())], Ok(())));
}

#[test]
fn the_heads_of_rfc_6455_encode() {
    assert_eq!(data_head(5, None).bytes(), [0x82, 0x05]);
    assert_eq!(data_head(256, None).bytes(), [0x82, 0x7e, 0x01, 0x00]);
    assert_eq!(data_head(65536, None).bytes(), [0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0]);
    assert_eq!(data_head(125, None).bytes().len(), 2);
    assert_eq!(data_head(126, None).bytes().len(), 4);
    assert_eq!(data_head(65535, None).bytes().len(), 4);
    let mask = Mask::new([0x37, 0xfa, 0x21, 0x3d]);
    assert_eq!(data_head(5, Some(mask)).bytes(), [0x82, 0x85, 0x37, 0xfa, 0x21, 0x3d]);
    assert_eq!(ping(b"Hello", None).bytes(), [0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
    assert_eq!(
        ping(b"Hello", Some(mask)).bytes(),
        [0x89, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]
    );
    assert_eq!(close(Some(1001), "bye", None).bytes(), [0x88, 0x05, 0x03, 0xe9, b'b', b'y', b'e']);
    assert_eq!(close(None, "unsaid", None).bytes(), [0x88, 0x00]);
    let long = close(Some(1008), &"ä".repeat(100), None);
    assert_eq!(long.bytes().len(), 2 + 2 + 122);
    assert!(std::str::from_utf8(&long.bytes()[4..]).is_ok());
}

#[test]
fn a_ping_within_a_message_is_answered_with_its_own_bytes() {
    let bytes = [client(0x02, b"first "), client(0x89, b"are you there"), client(0x80, b"second")].concat();
    let expected = vec![
        Seen::Bytes(b"first ".to_vec()),
        Seen::Ping(b"are you there".to_vec()),
        Seen::Bytes(b"second".to_vec()),
    ];
    assert_eq!(whole(&bytes, &CLIENTS), (expected.clone(), Ok(())));
    assert_eq!(bytewise(&bytes, &CLIENTS), (expected, Ok(())));
    let mut input = client(0x89, &[7; 125]);
    let Ok(Some(Event::Ping(body))) = Decoder::default().next(&mut &mut input[..], &CLIENTS) else {
        panic!()
    };
    assert_eq!(pong(&body, None).bytes(), [&[0x8a, 125][..], &[7; 125]].concat());
}

#[test]
fn every_abuse_is_refused_with_its_code() {
    use WebSocketError::*;
    let limit = CLIENTS.message_bytes_max;
    let beyond = limit + 1;
    let rows: Vec<(&str, Vec<u8>, WebSocketError, u16)> = vec![
        ("unmasked", vec![0x82, 0x01], Unmasked, 1002),
        ("unmasked ping", vec![0x89, 0x00], Unmasked, 1002),
        ("first reserved bit", vec![0xc2], ReservedBits, 1002),
        ("second reserved bit", vec![0xa2], ReservedBits, 1002),
        ("third reserved bit", vec![0x92], ReservedBits, 1002),
        ("text", vec![0x81], NotBinary, 1003),
        ("text in fragments", vec![0x01], NotBinary, 1003),
        ("continuation of nothing", vec![0x80], FragmentOrder, 1002),
        ("message within a message", [client(0x02, b"a"), vec![0x82]].concat(), FragmentOrder, 1002),
        ("text within a message", [client(0x02, b"a"), vec![0x81]].concat(), FragmentOrder, 1002),
        ("continuation after the end", [client(0x82, b"a"), vec![0x00]].concat(), FragmentOrder, 1002),
        ("fragmented ping", vec![0x09], FragmentedControl, 1002),
        ("fragmented pong", vec![0x0a], FragmentedControl, 1002),
        ("fragmented close", vec![0x08], FragmentedControl, 1002),
        ("ping of 126", vec![0x89, 0xfe], LongControl, 1002),
        ("close of 64 bit", vec![0x88, 0xff], LongControl, 1002),
        ("16 bit for 125", vec![0x82, 0xfe, 0, 125], BadLength, 1002),
        ("64 bit for 65535", vec![0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff], BadLength, 1002),
        ("highest bit", vec![0x82, 0xff, 0x80], BadLength, 1002),
        ("2^62 bytes", vec![0x82, 0xff, 0x40], TooLong(limit), 1009),
        ("2^32 bytes", vec![0x82, 0xff, 0, 0, 0, 1], TooLong(limit), 1009),
        ("2^32 - 1 bytes", vec![0x82, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff], TooLong(limit), 1009),
        (
            "one byte beyond the limit",
            [&[0x82, 0xff, 0, 0, 0, 0], &beyond.to_be_bytes()[..]].concat(),
            TooLong(limit),
            1009,
        ),
        (
            "beyond the limit in fragments",
            [client(0x02, &vec![1; limit as usize - 20]), client(0x00, b"1234"), vec![0x80, 0x81]].concat(),
            TooLong(limit),
            1009,
        ),
        ("close of one byte", client(0x88, &[3]), BadClose, 1002),
        ("close text not UTF-8", client(0x88, &[0x03, 0xe8, 0xff]), BadCloseText, 1007),
    ];
    for (name, bytes, error, code) in rows {
        assert_eq!(whole(&bytes, &CLIENTS).1, Err(error), "{name}");
        assert_eq!(bytewise(&bytes, &CLIENTS).1, Err(error), "{name}, byte by byte");
        assert_eq!(error.code(), code, "{name}");
        // The last byte is the one that shows it, except in control frames, which are judged when whole.
        assert_eq!(bytewise(&bytes[..bytes.len() - 1], &CLIENTS).1, Ok(()), "{name}, without its last byte");
    }
    for opcode in (0x3..=0x7).chain(0xb..=0xf) {
        assert_eq!(whole(&[0x80 | opcode], &CLIENTS).1, Err(ReservedOpcode(opcode)));
        assert_eq!(ReservedOpcode(opcode).code(), 1002);
    }
    assert_eq!(whole(&[0x82, 0x81], &SERVERS).1, Err(Masked));
    assert_eq!(TooLong(1).reason(), CloseReason::FrameTooLong);
    assert_eq!(Unmasked.reason(), CloseReason::BadWebSocket);
}

#[test]
fn endless_empty_fragments_meet_the_limit() {
    let rules = Rules { message_bytes_max: 1024, ..CLIENTS };
    let mut decoder = Decoder::default();
    assert_eq!(feed(&mut decoder, [client(0x02, b"")], &rules).1, Ok(()));
    let taken = (0..1000).take_while(|_| feed(&mut decoder, [client(0x00, b"")], &rules).1.is_ok()).count();
    assert_eq!(taken, 1024 / 16);
}

#[test]
fn a_flood_of_pings_ends_at_the_limit_of_an_interval() {
    let mut decoder = Decoder::default();
    for _ in 0..100 {
        let (seen, result) = feed(&mut decoder, [client(0x89, b"?"), client(0x8a, b"!")], &CLIENTS);
        assert_eq!((seen.len(), result), (2, Ok(())));
        decoder.begin_interval();
    }
    let flood = client(0x89, b"").repeat(9);
    let (seen, result) = feed(&mut decoder, [flood], &CLIENTS);
    assert_eq!(seen.len(), 8);
    assert_eq!(result, Err(WebSocketError::TooManyControls(8)));
    assert_eq!(result.unwrap_err().code(), 1008);
}

#[test]
fn the_limit_itself_is_allowed_whole_and_in_fragments() {
    let payload = vec![9; CLIENTS.message_bytes_max as usize];
    let expected = (vec![Seen::Bytes(payload.clone())], Ok(()));
    assert_eq!(whole(&client(0x82, &payload), &CLIENTS), expected);
    let (first, second) = payload.split_at(100);
    let allowed = &second[..second.len() - 16];
    let fragments = [client(0x02, first), client(0x80, allowed)].concat();
    assert_eq!(whole(&fragments, &CLIENTS).1, Ok(()));
    // The next message counts from zero.
    assert_eq!(whole(&client(0x82, &payload).repeat(3), &CLIENTS).1, Ok(()));
}

#[test]
fn short_messages_meet_the_limit_too() {
    let rules = Rules { message_bytes_max: 10, ..CLIENTS };
    let (fits, too_long) = (client(0x82, &[1; 10]), client(0x82, &[1; 11]));
    for feed in [whole, bytewise] {
        assert_eq!(feed(&fits.repeat(2), &rules), (vec![Seen::Bytes(vec![1; 20])], Ok(())));
        assert_eq!(feed(&too_long, &rules), (vec![], Err(WebSocketError::TooLong(10))));
        assert_eq!(feed(&client(0x82, b""), &rules), (vec![], Ok(())));
        assert_eq!(
            feed(&[client(0x02, b"a"), fits.clone()].concat(), &rules).1,
            Err(WebSocketError::FragmentOrder)
        );
    }
}

#[test]
fn close_codes_are_judged_and_what_follows_is_dropped() {
    let good =
        [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999];
    for code in good {
        let bytes = [client(0x88, &u16::to_be_bytes(code)), client(0x82, b"late"), vec![0xff; 9]].concat();
        assert_eq!(whole(&bytes, &CLIENTS), (vec![Seen::Close(Some(code))], Ok(())));
        assert_eq!(bytewise(&bytes, &CLIENTS), (vec![Seen::Close(Some(code))], Ok(())));
    }
    for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
        let bytes = client(0x88, &u16::to_be_bytes(code));
        assert_eq!(whole(&bytes, &CLIENTS).1, Err(WebSocketError::BadClose), "{code}");
    }
    assert_eq!(whole(&client(0x88, b""), &CLIENTS).0, [Seen::Close(None)]);
    let mut decoder = Decoder::default();
    let _ = feed(&mut decoder, [client(0x88, b"")], &CLIENTS);
    assert!(decoder.is_closed() && decoder.at_rest());
}

#[test]
fn every_reason_has_a_code_that_may_be_sent() {
    for reason in CloseReason::ALL {
        let code = close_code(reason);
        let frame = close(Some(code), reason.label(), None);
        assert_eq!(whole(frame.bytes(), &SERVERS).0, [Seen::Close(Some(code))], "{}", reason.label());
    }
}

#[test]
fn a_deadline_runs_only_while_something_is_under_way() {
    let mut decoder = Decoder::default();
    assert!(decoder.at_rest());
    let bytes = [client(0x02, b"ab"), client(0x89, b"now"), client(0x80, b"cd")].concat();
    for byte in &bytes[..bytes.len() - 1] {
        feed(&mut decoder, [vec![*byte]], &CLIENTS).1.unwrap();
        assert!(!decoder.at_rest());
    }
    feed(&mut decoder, [vec![*bytes.last().unwrap()]], &CLIENTS).1.unwrap();
    assert!(decoder.at_rest());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    /// No panic, and the verdict does not depend on the cuts.
    #[test]
    fn random_bytes_are_judged_alike_in_any_cut(
        bytes in prop::collection::vec(prop_oneof![4 => any::<u8>(), 1 => Just(0x82), 1 => Just(0x80), 1 => Just(0x89)], 0..300),
        cut in 1usize..40,
        from_client in any::<bool>(),
    ) {
        let rules = if from_client { CLIENTS } else { SERVERS };
        let at_once = whole(&bytes, &rules);
        let in_pieces = feed(&mut Decoder::default(), bytes.chunks(cut).map(<[u8]>::to_vec), &rules);
        prop_assert_eq!(&at_once, &in_pieces);
        prop_assert_eq!(at_once, bytewise(&bytes, &rules));
    }
}
