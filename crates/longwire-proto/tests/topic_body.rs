//! The payload of a message of kind `topic` comes back as it went, and other bytes are refused without a panic.

use longwire_proto::wire::TopicBody;
use proptest::prelude::*;

#[test]
fn the_layout_is_as_documented() {
    for (for_member, expires, flags) in [(false, false, 6), (true, false, 14), (false, true, 22)] {
        let (topic, content) = ("a/b", b"hello");
        let body =
            TopicBody { topic, qos: 2, retain: true, for_member, expires, properties: &[1, 1], content };
        let mut bytes = Vec::new();
        body.encode(&mut bytes).expect("short");
        assert_eq!(bytes, [b"\x00\x03a/b", &[flags][..], b"\x00\x02\x01\x01hello"].concat());
        assert_eq!(TopicBody::decode(&bytes), Some(body));
    }
}

#[test]
fn other_bytes_are_refused() {
    for bytes in [
        &b""[..],
        b"\x00",
        b"\x00\x00\x00\x00\x00",        // no topic
        b"\x00\x03a/b",                 // no flags
        b"\x00\x03a/b\x03\x00\x00",     // QoS 3
        b"\x00\x03a/b\x20\x00\x00",     // an unknown flag
        b"\x00\x03a/b\x00\x00\x05abcd", // properties longer than what is there
        b"\x00\x01\xFF\x00\x00\x00",    // not UTF-8
    ] {
        assert_eq!(TopicBody::decode(bytes), None, "{bytes:02x?}");
    }
}

proptest! {
    #[test]
    fn it_comes_back_as_it_went(
        topic in "[a-z/$]{1,40}",
        (qos, retain, expires) in (0_u8..3, any::<bool>(), any::<bool>()),
        properties in prop::collection::vec(any::<u8>(), 0..40),
        content in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let body =
            TopicBody { topic: &topic, qos, retain, for_member: !retain, expires, properties: &properties, content: &content };
        let mut bytes = Vec::new();
        prop_assert!(body.encode(&mut bytes).is_some());
        prop_assert_eq!(TopicBody::decode(&bytes), Some(body));
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _any = TopicBody::decode(&bytes);
    }
}
