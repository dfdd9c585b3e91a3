//! Business words: what a text from outside must be to become one.
#![allow(clippy::unwrap_used, missing_docs)]

use longwire_proto::limit::{APP_KEY_BYTES_MAX, DEVICE_NAME_BYTES_MAX, LABEL_BYTES_MAX};
use longwire_server::domain::{Alias, AppKey, AppSecret, Counts, DeviceName, DropReason, Dropped, Tag};

#[test]
fn names_of_allowed_characters_and_length_are_taken_as_they_are() {
    for text in ["a", "phone-1", "Müller", "a b", "$dollar", "\u{1f600}"] {
        assert_eq!(DeviceName::parse("f", text).unwrap().as_str(), text);
        assert_eq!(Alias::parse("f", text).unwrap().as_str(), text);
        assert_eq!(Tag::parse("f", text).unwrap().as_str(), text);
    }
    assert!(DeviceName::parse("f", &"x".repeat(DEVICE_NAME_BYTES_MAX)).is_ok());
    assert!(Tag::parse("f", &"x".repeat(LABEL_BYTES_MAX)).is_ok());
}

#[test]
fn bad_names_are_refused_with_the_callers_word_for_the_field() {
    for text in ["", "a+b", "a#", "/", "tab\there", "nul\0", "line\n", "\u{feff}bom", "\u{85}"] {
        let field = "audience.registration_id[3]";
        let name = DeviceName::parse(field, text);
        // A client of MQTT may have named itself so; the API registers no such name.
        assert_eq!(name.is_ok(), text.contains(['+', '#', '/']), "{text:?}");
        let fault = name.and_then(|name| name.is_level(field)).unwrap_err();
        assert_eq!(fault.field, "audience.registration_id[3]", "{text:?}");
        assert!(Tag::parse("tag", text).is_err() && Alias::parse("alias", text).is_err(), "{text:?}");
    }
    assert!(DeviceName::parse("f", &"x".repeat(DEVICE_NAME_BYTES_MAX + 1)).is_err());
    // Bytes count, not characters.
    assert!(Tag::parse("f", &"é".repeat(LABEL_BYTES_MAX / 2 + 1)).is_err());
}

#[test]
fn an_app_key_is_plain_ascii() {
    assert!(AppKey::parse(&"k".repeat(APP_KEY_BYTES_MAX)).is_ok());
    assert!(AppKey::parse("A-z_0.9").is_ok());
    for text in ["", "a b", "a/b", "ä", &"k".repeat(APP_KEY_BYTES_MAX + 1)] {
        assert!(AppKey::parse(text).is_err(), "{text:?}");
    }
}

#[test]
fn a_secret_shows_itself_once_and_never_in_a_log() {
    let secret = AppSecret::from_random([0xAB; 32]);
    assert_eq!(secret.reveal(), "ab".repeat(32));
    assert!(!format!("{secret:?}").contains("ab"));
    assert!(secret.hash().matches(&AppSecret::presented(&"ab".repeat(32))));
    assert!(!secret.hash().matches(&AppSecret::presented(&"ac".repeat(32))));
}

#[test]
fn what_has_no_end_is_pending() {
    let dropped = Dropped::of(DropReason::TooLarge, 1);
    let counts = Counts { created: 10, delivered: 4, expired: 2, collapsed: 1, dropped, ..Counts::default() };
    assert_eq!(counts.pending(), 2);
    assert_eq!(Counts::default().pending(), 0);
}
