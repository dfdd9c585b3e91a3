#![allow(clippy::unwrap_used)]
use super::*;
use crate::domain::message::{Spread, TTL_S_DEFAULT, TTL_S_MAX};
use axum::http::StatusCode;

const NOW: WallMs = WallMs(1_800_000_000_000);

fn push(json: &str) -> Result<Push, Fault> {
    let request = serde_json::from_str::<PushRequest>(json).map_err(|e| Fault::invalid(e.to_string()))?;
    request.into_push(TraceId(7), NOW)
}

fn message(message: &str) -> Result<Content, Fault> {
    push(&format!(r#"{{"audience":"all","message":{message}}}"#)).map(|push| push.content)
}

#[test]
fn every_audience_becomes_the_domains() {
    let of = |audience: &str| {
        push(&format!(r#"{{"audience":{audience},"notification":{{"title":"t"}}}}"#))
            .map(|push| push.audience)
    };
    assert_eq!(of(r#""all""#).unwrap(), Audience::all());
    let names = of(r#"{"registration_id":["b","a","b"]}"#).unwrap();
    let name = |text| DeviceName::parse("", text).unwrap();
    assert_eq!(names, Audience::devices(vec![name("b"), name("a")]));
    let tag = |text| Tag::parse("", text).unwrap();
    assert_eq!(
        of(r#"{"tag":["z","a","z"]}"#).unwrap(),
        Audience::of(Condition::any_tag([tag("a"), tag("z")]))
    );
    assert_eq!(of(r#"{"alias":["x"]}"#).unwrap(), Audience::aliases(vec![Alias::parse("", "x").unwrap()]));
    let bad = [
        r#""some""#,
        "{}",
        "[]",
        "3",
        "null",
        r#"{"tag":[]}"#,
        r#"{"tag":["a"],"topic":"b"}"#,
        r#"{"topic":"b","online_only":true}"#,
        r#"{"online_only":false}"#,
        r#"{"tag_not":[]}"#,
        r#"{"sample_percent":0}"#,
        r#"{"sample_percent":-1}"#,
        r#"{"sample_percent":100.1}"#,
        r#"{"sample_percent":"1"}"#,
        r#"{"condition":""}"#,
        r#"{"condition":"beta"}"#,
        r#"{"tag":["a/b"]}"#,
        r#"{"tag":"a"}"#,
        r#"{"tags":["a"]}"#,
    ];
    for audience in bad {
        assert_eq!(of(audience).unwrap_err().status(), StatusCode::BAD_REQUEST, "{audience}");
    }
    let many = format!(r#"{{"registration_id":[{}"a"]}}"#, r#""a","#.repeat(ADDRESSES_MAX));
    assert_eq!(of(&many).unwrap_err().status(), StatusCode::PAYLOAD_TOO_LARGE);
}

#[test]
fn the_kinds_of_an_audience_are_anded() {
    let of = |audience: &str| {
        push(&format!(r#"{{"audience":{audience},"notification":{{"title":"t"}}}}"#))
            .map(|push| push.audience)
    };
    let tag = |text: &str| Condition::Tag(Tag::parse("", text).unwrap());
    let parsed = |text: &str| Condition::parse("", text).unwrap();
    let all =
        of(r#"{"registration_id":["d"],"alias":["x"],"tag":["b","a"],"tag_and":["c"],"tag_not":["m","l"],
            "condition":"v < '3' && 'e' in tags","online_only":true,"sample_percent":12.5}"#)
        .unwrap();
    assert!(all.names.is_some() && all.aliases.is_some() && all.online_only && all.topic.is_none());
    let condition = parsed(
        "('a' in tags || 'b' in tags) && 'c' in tags && !('l' in tags || 'm' in tags) && v < '3' && 'e' in tags",
    );
    assert_eq!(all.filter, Filter { sample: 8192, ..Filter::of(condition) });
    assert_eq!(of(r#"{"tag_and":["a"]}"#).unwrap(), Audience::of(tag("a")));
    assert_eq!(of(r#"{"condition":"'a' in tags"}"#).unwrap(), Audience::of(tag("a")));
    assert_eq!(of(r#"{"sample_percent":0.0001}"#).unwrap().filter.sample, 1);
    assert_eq!(of(r#"{"sample_percent":100}"#).unwrap(), Audience::all());
    assert_eq!(of(r#"{"online_only":true}"#).unwrap(), Audience { online_only: true, ..Audience::all() });
    let lists = |count| {
        let tags: Vec<String> = (0..count).map(|tag| format!("\"t{tag}\"")).collect();
        format!(r#""tag":[{0}],"tag_and":[{0}],"tag_not":[{0}]"#, tags.join(","))
    };
    let versions = |count: usize| format!("v in ({})", vec!["'1'"; count].join(","));
    assert!(of(&format!("{{{}}}", lists(20))).is_ok());
    assert!(of(&format!(r#"{{{},"condition":"{}"}}"#, lists(20), versions(62))).is_ok());
    for large in [lists(21), format!(r#"{},"condition":"{}"#, lists(20), versions(64)) + "\""] {
        let refused = of(&format!("{{{large}}}")).unwrap_err();
        assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE, "{large}");
    }
}

#[test]
fn contents_reach_the_device_as_they_were_written() {
    let text = message(r#"{"msg_content":"h\u00e9"}"#).unwrap();
    assert_eq!((text.kind, &text.payload[..]), (Kind::Text, "hé".as_bytes()));
    let json =
        message(r#"{"content_type":"json","msg_content":{"n":1.10,"big":123456789012345678901}}"#).unwrap();
    assert_eq!(
        (json.kind, &json.payload[..]),
        (Kind::Text, &br#"{"n":1.10,"big":123456789012345678901}"#[..])
    );
    let binary = message(r#"{"content_type":"binary","msg_content":"AAH/"}"#).unwrap();
    assert_eq!((binary.kind, &binary.payload[..]), (Kind::Custom, &[0, 1, 255][..]));
    let extras = message(r#"{"msg_content":"t","extras":{"a":1}}"#).unwrap();
    assert_eq!(&extras.payload[..], br#"{"msg_content":"t","extras":{"a":1}}"#);
    let shown =
        push(r#"{"audience":"all","notification":{"body":"b","title":"t","extras":{"k":[1]}}}"#).unwrap();
    assert_eq!(shown.content.kind, Kind::Notification);
    assert_eq!(&shown.content.payload[..], br#"{"title":"t","body":"b","extras":{"k":[1]}}"#);
}

#[test]
fn contents_of_another_shape_are_refused() {
    let bad = [
        "{}",
        r#"{"msg_content":3}"#,
        r#"{"content_type":"xml","msg_content":"a"}"#,
        r#"{"content_type":"binary","msg_content":"?"}"#,
        r#"{"content_type":"binary","msg_content":"AAH/","extras":{}}"#,
        r#"{"msg_content":"a","extras":[]}"#,
        r#"{"msg_content":"a","colour":"red"}"#,
    ];
    for text in bad {
        assert_eq!(message(text).unwrap_err().status(), StatusCode::BAD_REQUEST, "{text}");
    }
    for json in [
        r#"{"audience":"all"}"#,
        r#"{"audience":"all","notification":{}}"#,
        r#"{"audience":"all","notification":{"title":"t"},"message":{"msg_content":"m"}}"#,
        r#"{"audience":"all","notification":{"title":"t"},"cid":3}"#,
        r#"{"audience":"all","notification":{"title":"t","badge":-1}}"#,
        r#"{"notification":{"title":"t"}}"#,
    ] {
        assert_eq!(push(json).unwrap_err().status(), StatusCode::BAD_REQUEST, "{json}");
    }
}

#[test]
fn sizes_end_exactly_at_their_limits() {
    let text = |bytes| message(&format!(r#"{{"msg_content":"{}"}}"#, "x".repeat(bytes)));
    assert!(text(MESSAGE_BYTES_MAX).is_ok());
    assert_eq!(text(MESSAGE_BYTES_MAX + 1).unwrap_err().status(), StatusCode::PAYLOAD_TOO_LARGE);
    let frame = r#"{"title":""}"#.len();
    let shown = |bytes: usize| {
        push(&format!(r#"{{"audience":"all","notification":{{"title":"{}"}}}}"#, "x".repeat(bytes - frame)))
    };
    assert!(shown(NOTIFICATION_BYTES_MAX).is_ok());
    assert_eq!(shown(NOTIFICATION_BYTES_MAX + 1).unwrap_err().status(), StatusCode::PAYLOAD_TOO_LARGE);
}

#[test]
fn options_have_defaults_and_limits() {
    let with = |options: &str| {
        push(&format!(r#"{{"audience":"all","notification":{{"title":"t"}},"options":{options}}}"#))
    };
    assert_eq!(with("null").unwrap().ttl_s, TTL_S_DEFAULT);
    assert_eq!(with(r#"{"time_to_live":0}"#).unwrap().ttl_s, 0);
    assert_eq!(with(r#"{"time_to_live":99999999999}"#).unwrap().ttl_s, TTL_S_MAX);
    assert!(with(r#"{"validate_only":true}"#).is_ok());
    assert_eq!(with(r#"{"collapse_key":"k","priority":"high"}"#).unwrap().collapse_key, "k");
    let long = format!(r#"{{"collapse_key":"{}"}}"#, "k".repeat(65));
    for options in
        [r#"{"time_to_live":-1}"#, r#"{"time_to_live":"1"}"#, r#"{"priority":"urgent"}"#, &long, r#"{"x":1}"#]
    {
        assert_eq!(with(options).unwrap_err().status(), StatusCode::BAD_REQUEST, "{options}");
    }
}

#[test]
fn urgency_is_priority_in_other_words() {
    let with = |options: &str| {
        push(&format!(r#"{{"audience":"all","notification":{{"title":"t"}},"options":{options}}}"#))
            .map(|push| push.priority)
    };
    for (options, priority) in [
        ("{}", Priority::Normal),
        (r#"{"priority":"normal"}"#, Priority::Normal),
        (r#"{"priority":"high"}"#, Priority::High),
        (r#"{"urgency":"high"}"#, Priority::High),
        (r#"{"urgency":"very-low"}"#, Priority::Normal),
        (r#"{"urgency":"low"}"#, Priority::Normal),
        (r#"{"urgency":"high","priority":"high"}"#, Priority::High),
    ] {
        assert_eq!(with(options).unwrap(), priority, "{options}");
    }
    for options in
        [r#"{"urgency":"high","priority":"normal"}"#, r#"{"urgency":"very_low"}"#, r#"{"urgency":1}"#]
    {
        assert_eq!(with(options).unwrap_err().status(), StatusCode::BAD_REQUEST, "{options}");
    }
}

#[test]
fn a_time_of_expiry_is_a_ttl_in_whole_seconds() {
    let with = |options: &str| {
        push(&format!(r#"{{"audience":"all","message":{{"msg_content":"x"}},"options":{options}}}"#))
    };
    // NOW is 2027-01-15T08:00:00Z.
    for (text, ttl_s) in [
        ("2027-01-15T08:00:00.001Z", 1),
        ("2027-01-15T08:01:00Z", 60),
        ("2027-01-15T16:01:00+08:00", 60),
        ("2027-01-15T08:01:00.001Z", 61),
        ("2027-02-14T08:00:00Z", TTL_S_MAX),
    ] {
        assert_eq!(with(&format!(r#"{{"expire_at":"{text}"}}"#)).unwrap().ttl_s, ttl_s, "{text}");
    }
    for bad in [
        r#"{"expire_at":"2027-01-15T08:00:00Z"}"#,
        r#"{"expire_at":"2027-02-14T08:00:00.001Z"}"#,
        r#"{"expire_at":"soon"}"#,
        r#"{"expire_at":"2027-01-15T08:01:00"}"#,
        r#"{"expire_at":1800000060}"#,
        r#"{"expire_at":"2027-01-15T08:01:00Z","time_to_live":60}"#,
    ] {
        assert_eq!(with(bad).unwrap_err().status(), StatusCode::BAD_REQUEST, "{bad}");
    }
}

#[test]
fn only_what_goes_to_the_log_is_spread() {
    let with = |audience: &str, options: &str| {
        push(&format!(r#"{{"audience":{audience},"message":{{"msg_content":"x"}},"options":{options}}}"#))
    };
    let all = r#""all""#;
    assert_eq!(with(all, r#"{"speed":7}"#).unwrap().spread, Some(Spread::Speed(7)));
    assert_eq!(with(all, r#"{"big_push_duration":2}"#).unwrap().spread, Some(Spread::Duration(120)));
    assert_eq!(
        with(r#"{"tag":["a"]}"#, r#"{"speed":1000000}"#).unwrap().spread,
        Some(Spread::Speed(1_000_000))
    );
    for (audience, options) in [
        (all, r#"{"speed":0}"#),
        (all, r#"{"speed":1000001}"#),
        (all, r#"{"speed":-1}"#),
        (all, r#"{"big_push_duration":0}"#),
        (all, r#"{"big_push_duration":1441}"#),
        (all, r#"{"speed":7,"big_push_duration":2}"#),
        (all, r#"{"speed":7,"time_to_live":0}"#),
        (r#"{"registration_id":["a"]}"#, r#"{"speed":7}"#),
        (r#"{"alias":["a"]}"#, r#"{"speed":7}"#),
        (r#"{"topic":"a"}"#, r#"{"big_push_duration":7}"#),
    ] {
        let refused = with(audience, options).unwrap_err();
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST, "{audience} {options}");
    }
}
