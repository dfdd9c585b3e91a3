//! Bodies into frames. A body is taken whole or refused: no trailing bytes, no unknown value, no text beyond its limit.

use super::WireError;
use super::frame::{
    Ack, AckKind, BackOff, Class, Connect, DeviceFrame, Gap, GapReason, Network, Push, Refusal, ResultCode,
    SelfService, ServerFrame, UpAck, Upstream, VERSION, Welcome,
};
use super::header::{Command, Header};
use super::push::PushShared;
use super::read::Reader;
use super::topics::{Publish, Subscribe};
use crate::close::CloseReason;
use crate::id::{MessageId, Position, Source};
use crate::limit::{
    ACK_IDS_MAX, ADDRESS_BYTES_MAX, APP_KEY_BYTES_MAX, ATTRIBUTE_NAME_BYTES_MAX, BACK_OFF_STEPS_MAX,
    DEVICE_NAME_BYTES_MAX, LABEL_BYTES_MAX, NODE_NAME_BYTES_MAX, TOKEN_BYTES_MAX, TOPIC_FILTER_BYTES_MAX,
};

impl<'a> DeviceFrame<'a> {
    /// Reads a body of a frame that a device sent.
    ///
    /// A CONNECT of another protocol version is not looked into behind the version: its other fields are empty.
    ///
    /// # Errors
    /// [`WireError::BadCommand`] for a command that only servers send, [`WireError::BadBody`] otherwise.
    pub fn decode(header: &Header, body: &'a [u8]) -> Result<DeviceFrame<'a>, WireError> {
        let command = header.command;
        if !command.from_device() {
            return Err(WireError::BadCommand(command as u8));
        }
        device_frame(command, Reader::new(body)).ok_or(WireError::BadBody(command as u8))
    }
}

impl<'a> ServerFrame<'a> {
    /// Reads a body of a frame that a server sent.
    ///
    /// # Errors
    /// [`WireError::BadCommand`] for a command that only devices send, [`WireError::BadBody`] otherwise.
    pub fn decode(header: &Header, body: &'a [u8]) -> Result<ServerFrame<'a>, WireError> {
        let command = header.command;
        if command.from_device() && command != Command::Close {
            return Err(WireError::BadCommand(command as u8));
        }
        server_frame(command, Reader::new(body)).ok_or(WireError::BadBody(command as u8))
    }
}

fn device_frame(command: Command, mut body: Reader<'_>) -> Option<DeviceFrame<'_>> {
    let frame = match command {
        Command::Ping => return Some(DeviceFrame::Ping),
        Command::Connect => return connect(body).map(DeviceFrame::Connect),
        Command::Interval => DeviceFrame::Interval(body.u16()?),
        Command::Close => DeviceFrame::Close(CloseReason::from_code(body.u8()?)?),
        Command::Ack => DeviceFrame::Ack(ack(&mut body)?),
        Command::Upstream => DeviceFrame::Upstream(upstream(&mut body)?),
        Command::Publish => DeviceFrame::Publish(Publish::decode(&mut body)?),
        _ => DeviceFrame::SelfService { request: body.u32()?, what: self_service(command, &mut body)? },
    };
    body.end()?;
    Some(frame)
}

fn connect(mut body: Reader<'_>) -> Option<Connect<'_>> {
    let version = body.u8()?;
    if version != VERSION {
        let (network, class) = (Network::Unknown, Class::Iot);
        let (resume_mailbox, resume_log) = (Position::START, Position::START);
        let (app_key, token) = ("", &[][..]);
        let heartbeat_s = 0;
        return Some(Connect {
            version,
            network,
            class,
            heartbeat_s,
            resume_mailbox,
            resume_log,
            app_key,
            token,
        });
    }
    let connect = Connect {
        version,
        network: network(body.u8()?)?,
        class: class(body.u8()?)?,
        heartbeat_s: body.u16()?,
        resume_mailbox: Position(body.u64()?),
        resume_log: Position(body.u64()?),
        app_key: body.word(APP_KEY_BYTES_MAX).filter(|key| !key.is_empty())?,
        token: token(&mut body)?,
    };
    body.tail()?;
    Some(connect)
}

fn token<'a>(body: &mut Reader<'a>) -> Option<&'a [u8]> {
    let length = usize::from(body.u16()?);
    if length > TOKEN_BYTES_MAX { None } else { body.bytes(length) }
}

fn ack<'a>(body: &mut Reader<'a>) -> Option<Ack<'a>> {
    let kind = ack_kind(body.u8()?)?;
    let count = usize::from(body.u8()?);
    if !(1..=ACK_IDS_MAX).contains(&count) {
        return None;
    }
    Some(Ack { kind, ids: body.bytes(count * 16)? })
}

fn upstream<'a>(body: &mut Reader<'a>) -> Option<Upstream<'a>> {
    Some(Upstream {
        client_message: body.u64()?,
        mode: body.u8().filter(|mode| *mode <= 1)?,
        kind: body.word(LABEL_BYTES_MAX).filter(|kind| !kind.is_empty())?,
        to: body.word(DEVICE_NAME_BYTES_MAX)?,
        payload: body.rest(),
    })
}

fn attribute<'a>(body: &mut Reader<'a>) -> Option<SelfService<'a>> {
    let action = body.u8()?;
    let name = body.word(ATTRIBUTE_NAME_BYTES_MAX).filter(|name| !name.is_empty())?;
    match action {
        1 => {
            let value = body.word(LABEL_BYTES_MAX).filter(|value| !value.is_empty())?;
            Some(SelfService::AttributeSet { name, value })
        }
        2 => Some(SelfService::AttributeRemove(name)),
        _ => None,
    }
}

fn self_service<'a>(command: Command, body: &mut Reader<'a>) -> Option<SelfService<'a>> {
    let tag: fn(&'a str) -> SelfService<'a> = match command {
        Command::Bind => SelfService::Bind,
        Command::Unbind => SelfService::Unbind,
        Command::Subscribe => return Subscribe::decode(body).map(SelfService::Subscribe),
        Command::Unsubscribe => SelfService::Unsubscribe,
        Command::Attribute => return attribute(body),
        Command::Tag => match body.u8()? {
            1 => SelfService::TagAdd,
            2 => SelfService::TagRemove,
            _ => return None,
        },
        _ => return None,
    };
    let bytes_max = match command {
        Command::Unsubscribe => TOPIC_FILTER_BYTES_MAX,
        _ => LABEL_BYTES_MAX,
    };
    body.word(bytes_max).filter(|name| !name.is_empty()).map(tag)
}

fn server_frame(command: Command, mut body: Reader<'_>) -> Option<ServerFrame<'_>> {
    let frame = match command {
        Command::ConnAck => return conn_ack(body),
        Command::Pong => ServerFrame::Pong,
        Command::Redirect => ServerFrame::Redirect(body.word(ADDRESS_BYTES_MAX).filter(|to| !to.is_empty())?),
        Command::GoAway => ServerFrame::GoAway { after_ms: body.u32()?, to: body.word(ADDRESS_BYTES_MAX)? },
        Command::Close => {
            let reason = CloseReason::from_code(body.u8()?)?;
            ServerFrame::Close(Refusal { reason, retry_after_s: body.u16()? })
        }
        Command::Push => ServerFrame::Push(push(&mut body)?),
        Command::Gap => ServerFrame::Gap(gap(&mut body)?),
        Command::UpAck => {
            ServerFrame::UpAck(UpAck { client_message: body.u64()?, outcome: result_code(body.u8()?)? })
        }
        Command::Result => ServerFrame::Result { request: body.u32()?, code: result_code(body.u8()?)? },
        _ => return None,
    };
    body.end()?;
    Some(frame)
}

fn conn_ack(mut body: Reader<'_>) -> Option<ServerFrame<'_>> {
    let code = body.u8()?;
    let frame = if code == 0 {
        ServerFrame::Welcome(welcome(&mut body)?)
    } else {
        let reason = CloseReason::from_code(code)?;
        ServerFrame::Refusal(Refusal { reason, retry_after_s: body.u16()? })
    };
    body.tail()?;
    Some(frame)
}

fn welcome(body: &mut Reader<'_>) -> Option<Welcome> {
    Some(Welcome {
        node: body.word(NODE_NAME_BYTES_MAX)?.to_owned(),
        heartbeat_s: body.u16()?,
        phase: body.u16()?,
        padding_max: body.u8()?,
        heartbeat_min_s: body.u16()?,
        heartbeat_max_s: body.u16()?,
        window: body.u16()?,
        server_time_ms: body.u64()?,
        back_off: back_off(body)?,
    })
}

fn back_off(body: &mut Reader<'_>) -> Option<BackOff> {
    let count = usize::from(body.u8()?);
    if !(1..=BACK_OFF_STEPS_MAX).contains(&count) {
        return None;
    }
    let steps = body.bytes(count * 2)?.chunks_exact(2);
    let steps_s = steps.map(|step| u16::from_be_bytes([step[0], step[1]])).collect();
    Some(BackOff { steps_s, jitter_ms: body.u16()? })
}

fn push<'a>(body: &mut Reader<'a>) -> Option<Push<'a>> {
    let (position, previous) = (Position(body.u64()?), Position(body.u64()?));
    let ttl_s = body.u32()?;
    let source = match body.u8()? {
        0 => None,
        code => Some(Source::from_code(code)?),
    };
    let flags = body.u8()?;
    let PushShared { message, kind, trace, replaces, collapse_key, payload } = PushShared::read(body)?;
    Some(Push {
        source,
        position,
        previous,
        ttl_s,
        flags,
        message,
        kind,
        trace,
        replaces,
        collapse_key,
        payload,
    })
}

fn gap(body: &mut Reader<'_>) -> Option<Gap> {
    Some(Gap {
        source: Source::from_code(body.u8()?)?,
        position: Position(body.u64()?),
        previous: Position(body.u64()?),
        reason: gap_reason(body.u8()?)?,
        message: MessageId(body.u128()?),
        count: body.u32()?,
    })
}

fn network(code: u8) -> Option<Network> {
    use Network::{G2, G3, G4, G5, Unknown, Wifi, Wired};
    [Unknown, Wired, Wifi, G2, G3, G4, G5].get(usize::from(code)).copied()
}

fn class(code: u8) -> Option<Class> {
    [Class::Phone, Class::Pc, Class::Web, Class::Iot].into_iter().find(|class| *class as u8 == code)
}

fn ack_kind(code: u8) -> Option<AckKind> {
    use AckKind::{Clicked, Dismissed, Displayed, Received};
    [Received, Displayed, Clicked, Dismissed].into_iter().find(|kind| *kind as u8 == code)
}

fn gap_reason(code: u8) -> Option<GapReason> {
    use GapReason::{Collapsed, Corrupt, Dropped, Expired, Recalled, Retention};
    let all = [Expired, Recalled, Collapsed, Dropped, Corrupt, Retention];
    all.into_iter().find(|reason| *reason as u8 == code)
}

fn result_code(code: u8) -> Option<ResultCode> {
    use ResultCode::{Busy, Done, NotAllowed, Quota, Unsupported};
    [Done, Unsupported, NotAllowed, Quota, Busy].into_iter().find(|result| *result as u8 == code)
}
