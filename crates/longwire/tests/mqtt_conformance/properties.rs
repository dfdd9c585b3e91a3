//! MQTT 5 properties (2.2.2.2): identifier, name, form, and in which packets of which side they are at home.

/// How a property's value is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Form {
    Byte,
    Two,
    Four,
    Var,
    Text,
    Binary,
    Pair,
}

/// A property.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) id: u8,
    pub(crate) name: &'static str,
    pub(crate) form: Form,
    /// Packets that may hold it; `WILL` are a will's own.
    pub(crate) places: &'static [&'static str],
    /// A valid value.
    pub(crate) sample: &'static str,
}

impl Known {
    /// It may come more than once.
    pub(crate) fn repeats(&self, place: &str) -> bool {
        self.name == "user" || (self.name == "sub_id" && place == "PUBLISH")
    }
}

const EVERYWHERE: &[&str] = &[
    "CONNECT",
    "CONNACK",
    "PUBLISH",
    "WILL",
    "PUBACK",
    "PUBREC",
    "PUBREL",
    "PUBCOMP",
    "SUBSCRIBE",
    "SUBACK",
    "UNSUBSCRIBE",
    "UNSUBACK",
    "DISCONNECT",
    "AUTH",
];
const ANSWERS: &[&str] =
    &["CONNACK", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP", "SUBACK", "UNSUBACK", "DISCONNECT", "AUTH"];
const MESSAGES: &[&str] = &["PUBLISH", "WILL"];
const BOTH_LOGINS: &[&str] = &["CONNECT", "CONNACK"];
const AUTHS: &[&str] = &["CONNECT", "CONNACK", "AUTH"];

const fn known(
    id: u8,
    name: &'static str,
    form: Form,
    places: &'static [&'static str],
    sample: &'static str,
) -> Known {
    Known { id, name, form, places, sample }
}

/// Table 2-4.
pub(crate) const ALL: &[Known] = &[
    known(1, "format", Form::Byte, MESSAGES, "0"),
    known(2, "expiry", Form::Four, MESSAGES, "60"),
    known(3, "content_type", Form::Text, MESSAGES, "text/plain"),
    known(8, "response_topic", Form::Text, MESSAGES, "answers"),
    known(9, "correlation", Form::Binary, MESSAGES, "c1"),
    known(11, "sub_id", Form::Var, &["PUBLISH", "SUBSCRIBE"], "7"),
    known(17, "session_expiry", Form::Four, &["CONNECT", "CONNACK", "DISCONNECT"], "60"),
    known(18, "assigned", Form::Text, &["CONNACK"], "name"),
    known(19, "server_keep", Form::Two, &["CONNACK"], "60"),
    known(21, "auth_method", Form::Text, AUTHS, "none"),
    known(22, "auth_data", Form::Binary, AUTHS, "x"),
    known(23, "problem_info", Form::Byte, &["CONNECT"], "1"),
    known(24, "delay", Form::Four, &["WILL"], "5"),
    known(25, "want_response_info", Form::Byte, &["CONNECT"], "0"),
    known(26, "response_info", Form::Text, &["CONNACK"], "x"),
    known(28, "server_reference", Form::Text, &["CONNACK", "DISCONNECT"], "x"),
    known(31, "reason_string", Form::Text, ANSWERS, "why"),
    known(33, "receive_max", Form::Two, BOTH_LOGINS, "10"),
    known(34, "alias_max", Form::Two, BOTH_LOGINS, "5"),
    known(35, "alias", Form::Two, &["PUBLISH"], "1"),
    known(36, "qos_max", Form::Byte, &["CONNACK"], "1"),
    known(37, "retain_available", Form::Byte, &["CONNACK"], "1"),
    known(38, "user", Form::Pair, EVERYWHERE, "name:value"),
    known(39, "packet_max", Form::Four, BOTH_LOGINS, "10000"),
    known(40, "wildcards", Form::Byte, &["CONNACK"], "1"),
    known(41, "sub_ids", Form::Byte, &["CONNACK"], "1"),
    known(42, "shared", Form::Byte, &["CONNACK"], "1"),
];

/// By name.
pub(crate) fn named(name: &str) -> &'static Known {
    ALL.iter().find(|known| known.name == name).unwrap_or_else(|| panic!("no property {name}"))
}
