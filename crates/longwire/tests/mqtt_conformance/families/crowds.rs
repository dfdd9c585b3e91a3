//! Many messages under way at once.

use std::fmt::Write;

/// QoS 2 messages that this server holds of one client before PUBREL; LIMITS 7.1.
const HELD: u16 = 32;
/// More than are decided at once.
const MANY: u16 = 100;

pub(super) fn crowds(case: &mut impl FnMut(&str, &str, &str, &str)) {
    // An error that the client may overcome by coming again.
    let mut steps = "> CONNECT clean\n< CONNACK reason=0\n".to_owned();
    for id in 1..=HELD {
        writeln!(steps, "> PUBLISH topic=%t/a qos=2 id={id}\n< PUBREC id={id}").unwrap();
    }
    writeln!(steps, "> PUBLISH topic=%t/a qos=2 id={}\n< refuse 0x93", HELD + 1).unwrap();
    let name = "one unreleased QoS 2 message more than the server holds ends the connection";
    case(name, "both", "311:4.8.0-2 5:4.9.0-1 5:4.13.1-1", &steps);

    // 3.1.1 knows no receive maximum: whoever sends many at once is read as fast as they are decided, here by the store.
    let mut steps = "b> CONNECT id=%cb\nb< CONNACK reason=0\n".to_owned();
    steps += "b> SUBSCRIBE id=1 f=%t/a@1\nb< SUBACK id=1\nb> DISCONNECT\nb< close\n";
    steps += "> CONNECT clean\n< CONNACK reason=0\n";
    for id in 1..=MANY {
        writeln!(steps, "> PUBLISH topic=%t/a qos=1 id={id}").unwrap();
    }
    for id in 1..=MANY {
        writeln!(steps, "< PUBACK id={id}").unwrap();
    }
    steps += "b> CONNECT clean id=%cb\nb< CONNACK reason=0";
    case("many QoS 1 messages at once are all answered", "311", "3.3.4-1 4.3.2-2", &steps);
}
