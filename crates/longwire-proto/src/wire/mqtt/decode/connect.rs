//! CONNECT (3.1): flags, then what the flags announce, in the order of MQTT-3.1.3-1.

use super::read::Reader;
use crate::wire::mqtt::{
    Connect, Fault, Kind, Limits, Place, Properties, PropertyKey, QoS, Version, Will, topic,
};

const RESERVED: u8 = 0b0000_0001;
const CLEAN: u8 = 0b0000_0010;
const WILL: u8 = 0b0000_0100;
const WILL_QOS_SHIFT: u32 = 3;
const WILL_RETAIN: u8 = 0b0010_0000;
const PASSWORD: u8 = 0b0100_0000;
const USER_NAME: u8 = 0b1000_0000;

pub(super) fn connect<'a>(body: &'a [u8], limits: &Limits) -> Result<Connect<'a>, Fault> {
    let mut reader = Reader::new(body, Kind::Connect);
    if reader.binary()? != b"MQTT" {
        return Err(Fault::ProtocolName);
    }
    let version = match reader.u8()? {
        4 => Version::V311,
        5 => Version::V5,
        other => return Err(Fault::ProtocolLevel(other)),
    };
    let flags = reader.u8()?;
    judge_flags(flags, version)?;
    let keep_alive_s = reader.u16()?;
    let properties = match version {
        Version::V311 => Properties::default(),
        Version::V5 => Properties::read(&mut reader, Place::In(Kind::Connect), false, limits)?,
    };
    if properties.has(PropertyKey::AuthData) && !properties.has(PropertyKey::AuthMethod) {
        return Err(Fault::NoAuthMethod);
    }
    let client_id = reader.name()?;
    let clean_start = flags & CLEAN != 0;
    // 3.1.1 MQTT-3.1.3-7: an empty client id is allowed only with a clean session; 5.0 lets the server choose.
    let nameless = client_id.is_empty() && version == Version::V311 && !clean_start;
    if nameless || client_id.len() > usize::from(limits.client_id_bytes_max) {
        return Err(Fault::ClientId);
    }
    let will = if flags & WILL != 0 { Some(will(flags, version, &mut reader, limits)?) } else { None };
    let user_name = if flags & USER_NAME != 0 { Some(reader.name()?) } else { None };
    let password = if flags & PASSWORD != 0 { Some(reader.binary()?) } else { None };
    if user_name.is_some_and(|name| name.len() > usize::from(limits.user_name_bytes_max))
        || password.is_some_and(|password| password.len() > usize::from(limits.password_bytes_max))
    {
        return Err(Fault::Credentials);
    }
    reader.end()?;
    Ok(Connect { version, clean_start, keep_alive_s, client_id, will, user_name, password, properties })
}

fn judge_flags(flags: u8, version: Version) -> Result<(), Fault> {
    if flags & RESERVED != 0 {
        return Err(Fault::ConnectFlags);
    }
    let qos = flags >> WILL_QOS_SHIFT & 0b11;
    // MQTT-3.1.2-11, -12, -13.
    if qos == 3 || (flags & WILL == 0 && (qos != 0 || flags & WILL_RETAIN != 0)) {
        return Err(Fault::WillFlags);
    }
    // 5.0 allows it, 3.1.1 does not (3.1.1 MQTT-3.1.2-22).
    if version == Version::V311 && flags & PASSWORD != 0 && flags & USER_NAME == 0 {
        return Err(Fault::PasswordAlone);
    }
    Ok(())
}

fn will<'a>(
    flags: u8,
    version: Version,
    reader: &mut Reader<'a>,
    limits: &Limits,
) -> Result<Will<'a>, Fault> {
    let properties = match version {
        Version::V311 => Properties::default(),
        Version::V5 => Properties::read(reader, Place::Will, false, limits)?,
    };
    let topic = topic::name(reader.binary()?, limits)?;
    let payload = reader.binary()?;
    if payload.len() > usize::from(limits.will_bytes_max) {
        return Err(Fault::WillTooLarge);
    }
    let qos = QoS::from_bits(flags >> WILL_QOS_SHIFT & 0b11).ok_or(Fault::WillFlags)?;
    Ok(Will { qos, retain: flags & WILL_RETAIN != 0, topic, payload, properties })
}
