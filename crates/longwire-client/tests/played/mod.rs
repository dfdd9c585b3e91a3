//! A node played frame by frame: it answers nothing by itself but CONNECT.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::time::Duration;

use longwire_client::{BackOff, ClientId, Device, DeviceBuilder, Incoming, ResultCode};
use longwire_proto::wire::{Assembler, DeviceFrame, SelfService, ServerFrame, UpAck, Welcome};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

pub const DEVICE: ClientId = ClientId(42);
/// No test waits for this long unless it fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Node(TcpListener);

/// What a device said, as far as these tests look at it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Said {
    Upstream {
        id: u64,
        kind: String,
        to: String,
        mode: u8,
        payload: Vec<u8>,
    },
    Subscribe {
        request: u32,
        filter: String,
        kept: bool,
    },
    Unsubscribe {
        request: u32,
        filter: String,
    },
    Publish {
        id: u64,
        at_least_once: bool,
        topic: String,
        payload: Vec<u8>,
    },
    Acks(Vec<u128>),
    Ping,
    Interval(u16),
    Close,
    /// CONNECT, with the mailbox position up to which the device says that it misses nothing.
    Connect(u64),
    Other,
}

impl Said {
    pub fn upstream(&self) -> Option<(u64, String)> {
        match self {
            Said::Upstream { id, payload, .. } => Some((*id, String::from_utf8_lossy(payload).into_owned())),
            _ => None,
        }
    }
}

impl Node {
    pub async fn start() -> Node {
        Node(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub fn address(&self) -> String {
        self.0.local_addr().unwrap().to_string()
    }

    /// A device that comes without delay and knows this node.
    pub fn device(&self) -> DeviceBuilder {
        device(&self.address())
    }

    /// The next connection, logged in.
    pub async fn accept(&self) -> Link {
        let mut link = self.accept_silently().await;
        link.say(&[ServerFrame::Welcome(welcome())]).await;
        link
    }

    /// The next connection, its CONNECT read and not answered.
    pub async fn accept_silently(&self) -> Link {
        let (stream, _) = timeout(PATIENCE, self.0.accept()).await.expect("a device comes").unwrap();
        let mut link = Link { stream, assembler: Assembler::default(), bytes: Vec::new(), resume: 0 };
        match link.next().await {
            Some(Said::Connect(resume)) => link.resume = resume,
            other => panic!("instead of CONNECT {other:?}"),
        }
        link
    }
}

pub fn device(address: &str) -> DeviceBuilder {
    Device::builder()
        .app_key("app-1")
        .token("token")
        .client(DEVICE)
        .entry_node(address)
        .back_off(BackOff { steps_s: vec![0], jitter_ms: 0 })
}

pub fn welcome() -> Welcome {
    Welcome {
        node: "node-a".into(),
        heartbeat_s: 60,
        phase: 0x8000,
        padding_max: 0,
        heartbeat_min_s: 5,
        heartbeat_max_s: 1200,
        window: 32,
        server_time_ms: 0,
        back_off: BackOff { steps_s: vec![0], jitter_ms: 0 },
    }
}

/// A device's connection.
pub struct Link {
    stream: TcpStream,
    assembler: Assembler,
    bytes: Vec<u8>,
    /// What CONNECT said of the mailbox.
    pub resume: u64,
}

impl Link {
    pub async fn say(&mut self, frames: &[ServerFrame<'_>]) {
        let mut bytes = Vec::new();
        frames.iter().for_each(|frame| frame.encode(DEVICE, &mut bytes));
        self.stream.write_all(&bytes).await.unwrap();
    }

    pub async fn answer(&mut self, id: u64, outcome: ResultCode) {
        self.say(&[ServerFrame::UpAck(UpAck { client_message: id, outcome })]).await;
    }

    pub async fn result(&mut self, request: u32, code: ResultCode) {
        self.say(&[ServerFrame::Result { request, code }]).await;
    }

    /// The next frame of the device; `None` at the end of the stream.
    pub async fn next(&mut self) -> Option<Said> {
        loop {
            let mut input = &self.bytes[..];
            let frame = self.assembler.next(&mut input, 65_536).unwrap();
            let said = frame.map(|frame| said(DeviceFrame::decode(&frame.header, frame.body).unwrap()));
            let left = input.len();
            self.bytes.drain(..self.bytes.len() - left);
            if said.is_some() {
                return said;
            }
            let mut buffer = [0; 4096];
            let read =
                timeout(PATIENCE, self.stream.read(&mut buffer)).await.expect("the device says something");
            match read {
                Ok(count) if count > 0 => self.bytes.extend_from_slice(&buffer[..count]),
                _ => return None,
            }
        }
    }

    /// The next `count` messages that come up.
    pub async fn upstream(&mut self, count: usize) -> Vec<(u64, String)> {
        let mut up = Vec::new();
        while up.len() < count {
            up.extend(self.next().await.expect("the device stays").upstream());
        }
        up
    }
}

fn said(frame: DeviceFrame<'_>) -> Said {
    match frame {
        DeviceFrame::Upstream(up) => Said::Upstream {
            id: up.client_message,
            kind: up.kind.into(),
            to: up.to.into(),
            mode: up.mode,
            payload: up.payload.to_vec(),
        },
        DeviceFrame::SelfService { request, what: SelfService::Subscribe(wanted) } => {
            Said::Subscribe { request, filter: wanted.filter.into(), kept: wanted.kept }
        }
        DeviceFrame::SelfService { request, what: SelfService::Unsubscribe(filter) } => {
            Said::Unsubscribe { request, filter: filter.into() }
        }
        DeviceFrame::Publish(publish) => Said::Publish {
            id: publish.client_message,
            at_least_once: publish.at_least_once,
            topic: publish.topic.into(),
            payload: publish.payload.to_vec(),
        },
        DeviceFrame::Ack(ack) => Said::Acks(ack.ids().map(|id| id.0).collect()),
        DeviceFrame::Ping => Said::Ping,
        DeviceFrame::Interval(seconds) => Said::Interval(seconds),
        DeviceFrame::Close(_) => Said::Close,
        DeviceFrame::Connect(connect) => Said::Connect(connect.resume_mailbox.0),
        _ => Said::Other,
    }
}

/// The next thing that is not a change of state.
pub async fn next(device: &mut Device) -> Incoming {
    loop {
        match timeout(PATIENCE, device.next()).await.expect("something comes").expect("the device lives") {
            Incoming::State(_) => {}
            incoming => return incoming,
        }
    }
}
