//! Frames into bytes. Texts are within their limits already; one that is not is cut at its limit, so that a frame
//! is whole in any case.

use super::frame::{AckKind, Connect, DeviceFrame, Gap, Push, Refusal, SelfService, ServerFrame, Welcome};
use super::header::{Command, Header};
use super::push::{PushHead, PushShared};
use crate::id::{ClientId, MessageId};
use crate::limit::{
    ACK_IDS_MAX, ADDRESS_BYTES_MAX, APP_KEY_BYTES_MAX, ATTRIBUTE_NAME_BYTES_MAX, BACK_OFF_STEPS_MAX,
    DEVICE_NAME_BYTES_MAX, HEADER_BYTES, LABEL_BYTES_MAX, NODE_NAME_BYTES_MAX, TOKEN_BYTES_MAX,
    TOPIC_FILTER_BYTES_MAX,
};

impl DeviceFrame<'_> {
    /// Appends the whole frame, header included.
    pub fn encode(&self, client: ClientId, out: &mut Vec<u8>) {
        frame(self.command(), client, out, |out| match self {
            DeviceFrame::Ping => {}
            DeviceFrame::Interval(seconds) => put(out, seconds.to_be_bytes()),
            DeviceFrame::Connect(connect) => put_connect(out, connect),
            DeviceFrame::Close(reason) => out.push(reason.code()),
            DeviceFrame::Ack(ack) => {
                put(out, [ack.kind as u8, (ack.ids.len() / 16) as u8]);
                out.extend_from_slice(ack.ids);
            }
            DeviceFrame::Upstream(upstream) => {
                put(out, upstream.client_message.to_be_bytes());
                out.push(upstream.mode);
                put_text(out, upstream.kind, LABEL_BYTES_MAX);
                put_text(out, upstream.to, DEVICE_NAME_BYTES_MAX);
                out.extend_from_slice(upstream.payload);
            }
            DeviceFrame::Publish(publish) => publish.encode(out),
            DeviceFrame::SelfService { request, what } => {
                put(out, request.to_be_bytes());
                put_self_service(out, what);
            }
        });
    }

    /// The command byte of this frame.
    #[must_use]
    pub fn command(&self) -> Command {
        match self {
            DeviceFrame::Ping => Command::Ping,
            DeviceFrame::Interval(_) => Command::Interval,
            DeviceFrame::Connect(_) => Command::Connect,
            DeviceFrame::Close(_) => Command::Close,
            DeviceFrame::Ack(_) => Command::Ack,
            DeviceFrame::Upstream(_) => Command::Upstream,
            DeviceFrame::Publish(_) => Command::Publish,
            DeviceFrame::SelfService { what, .. } => match what {
                SelfService::Bind(_) => Command::Bind,
                SelfService::Unbind(_) => Command::Unbind,
                SelfService::TagAdd(_) | SelfService::TagRemove(_) => Command::Tag,
                SelfService::AttributeSet { .. } | SelfService::AttributeRemove(_) => Command::Attribute,
                SelfService::Subscribe(_) => Command::Subscribe,
                SelfService::Unsubscribe(_) => Command::Unsubscribe,
            },
        }
    }
}

impl ServerFrame<'_> {
    /// Appends the whole frame, header included. A PUSH that many devices get is made by
    /// [`push_frame`](super::push_frame) instead.
    pub fn encode(&self, client: ClientId, out: &mut Vec<u8>) {
        frame(self.command(), client, out, |out| match self {
            ServerFrame::Pong => {}
            ServerFrame::Welcome(welcome) => put_welcome(out, welcome),
            ServerFrame::Refusal(refusal) | ServerFrame::Close(refusal) => put_refusal(out, refusal),
            ServerFrame::Redirect(to) => put_text(out, to, ADDRESS_BYTES_MAX),
            ServerFrame::GoAway { after_ms, to } => {
                put(out, after_ms.to_be_bytes());
                put_text(out, to, ADDRESS_BYTES_MAX);
            }
            ServerFrame::Push(push) => put_push(out, push),
            ServerFrame::Gap(gap) => put_gap(out, gap),
            ServerFrame::UpAck(answer) => {
                put(out, answer.client_message.to_be_bytes());
                out.push(answer.outcome as u8);
            }
            ServerFrame::Result { request, code } => {
                put(out, request.to_be_bytes());
                out.push(*code as u8);
            }
        });
    }

    /// The command byte of this frame.
    #[must_use]
    pub fn command(&self) -> Command {
        match self {
            ServerFrame::Pong => Command::Pong,
            ServerFrame::Welcome(_) | ServerFrame::Refusal(_) => Command::ConnAck,
            ServerFrame::Redirect(_) => Command::Redirect,
            ServerFrame::GoAway { .. } => Command::GoAway,
            ServerFrame::Close(_) => Command::Close,
            ServerFrame::Push(_) => Command::Push,
            ServerFrame::Gap(_) => Command::Gap,
            ServerFrame::UpAck(_) => Command::UpAck,
            ServerFrame::Result { .. } => Command::Result,
        }
    }
}

/// Appends as many ACK frames as the messages need, [`ACK_IDS_MAX`] ids in each; none for no messages.
pub fn encode_acks(kind: AckKind, messages: &[MessageId], client: ClientId, out: &mut Vec<u8>) {
    for chunk in messages.chunks(ACK_IDS_MAX) {
        frame(Command::Ack, client, out, |out| {
            put(out, [kind as u8, chunk.len() as u8]);
            for message in chunk {
                put(out, message.0.to_be_bytes());
            }
        });
    }
}

/// Writes the header when the length of the body is known.
fn frame(command: Command, client: ClientId, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    put(out, [0; HEADER_BYTES]);
    body(out);
    let body_bytes = out.len() - start - HEADER_BYTES;
    let header = Header { command, body_bytes, client }.encode();
    out[start..start + HEADER_BYTES].copy_from_slice(&header);
}

fn put<const N: usize>(out: &mut Vec<u8>, bytes: [u8; N]) {
    out.extend_from_slice(&bytes);
}

/// A text behind a one-byte length, cut at a character's edge if it is longer than allowed.
pub(super) fn put_text(out: &mut Vec<u8>, text: &str, bytes_max: usize) {
    let text = &text[..text.floor_char_boundary(bytes_max.min(255))];
    out.push(text.len() as u8);
    out.extend_from_slice(text.as_bytes());
}

fn put_connect(out: &mut Vec<u8>, connect: &Connect<'_>) {
    put(out, [connect.version, connect.network as u8, connect.class as u8]);
    put(out, connect.heartbeat_s.to_be_bytes());
    put(out, connect.resume_mailbox.0.to_be_bytes());
    put(out, connect.resume_log.0.to_be_bytes());
    put_text(out, connect.app_key, APP_KEY_BYTES_MAX);
    let token = &connect.token[..connect.token.len().min(TOKEN_BYTES_MAX)];
    put(out, (token.len() as u16).to_be_bytes());
    out.extend_from_slice(token);
}

fn put_self_service(out: &mut Vec<u8>, what: &SelfService<'_>) {
    match what {
        SelfService::Bind(name) | SelfService::Unbind(name) => put_text(out, name, LABEL_BYTES_MAX),
        SelfService::TagAdd(name) => {
            out.push(1);
            put_text(out, name, LABEL_BYTES_MAX);
        }
        SelfService::TagRemove(name) => {
            out.push(2);
            put_text(out, name, LABEL_BYTES_MAX);
        }
        SelfService::AttributeSet { name, value } => {
            out.push(1);
            put_text(out, name, ATTRIBUTE_NAME_BYTES_MAX);
            put_text(out, value, LABEL_BYTES_MAX);
        }
        SelfService::AttributeRemove(name) => {
            out.push(2);
            put_text(out, name, ATTRIBUTE_NAME_BYTES_MAX);
        }
        SelfService::Subscribe(subscribe) => subscribe.encode(out),
        SelfService::Unsubscribe(filter) => put_text(out, filter, TOPIC_FILTER_BYTES_MAX),
    }
}

fn put_welcome(out: &mut Vec<u8>, welcome: &Welcome) {
    out.push(0);
    put_text(out, &welcome.node, NODE_NAME_BYTES_MAX);
    put(out, welcome.heartbeat_s.to_be_bytes());
    put(out, welcome.phase.to_be_bytes());
    out.push(welcome.padding_max);
    put(out, welcome.heartbeat_min_s.to_be_bytes());
    put(out, welcome.heartbeat_max_s.to_be_bytes());
    put(out, welcome.window.to_be_bytes());
    put(out, welcome.server_time_ms.to_be_bytes());
    let steps = &welcome.back_off.steps_s[..welcome.back_off.steps_s.len().min(BACK_OFF_STEPS_MAX)];
    out.push(steps.len() as u8);
    for step in steps {
        put(out, step.to_be_bytes());
    }
    put(out, welcome.back_off.jitter_ms.to_be_bytes());
}

fn put_refusal(out: &mut Vec<u8>, refusal: &Refusal) {
    out.push(refusal.reason.code());
    put(out, refusal.retry_after_s.to_be_bytes());
}

fn put_push(out: &mut Vec<u8>, push: &Push<'_>) {
    let Push { source, position, previous, ttl_s, flags, .. } = *push;
    let head = PushHead { source, position, previous, ttl_s, flags };
    out.extend_from_slice(&head.encode(0)[HEADER_BYTES..]);
    let Push { message, kind, trace, replaces, collapse_key, payload, .. } = *push;
    PushShared { message, kind, trace, replaces, collapse_key, payload }.encode(out);
}

fn put_gap(out: &mut Vec<u8>, gap: &Gap) {
    out.push(gap.source as u8);
    put(out, gap.position.0.to_be_bytes());
    put(out, gap.previous.0.to_be_bytes());
    out.push(gap.reason as u8);
    put(out, gap.message.0.to_be_bytes());
    put(out, gap.count.to_be_bytes());
}
