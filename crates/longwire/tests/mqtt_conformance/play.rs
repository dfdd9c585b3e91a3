//! One case against one broker.

use super::answer::{Answer, decode, matches, packet_bytes};
use super::case::{Act, Case, Version};
use super::packet::encode;
use super::text::{Names, try_number, words};
use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// What every answer must have come within.
const PATIENCE: Duration = Duration::from_secs(12);

/// A broker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Broker {
    pub(crate) address: SocketAddr,
    /// It must give the reason where MQTT 5 only recommends that.
    pub(crate) gives_reasons: bool,
}

struct Connection {
    stream: TcpStream,
    held: Vec<u8>,
    is_5: bool,
    logged_in: bool,
    /// CONNECT of another level than the two: its refusal may have the form of either.
    odd_level: bool,
}

enum Next {
    Packet(Answer),
    End,
}

impl Connection {
    fn open(broker: Broker, version: Version) -> Result<Connection, String> {
        let stream = TcpStream::connect(broker.address).map_err(|error| format!("connect: {error}"))?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let is_5 = version == Version::V5;
        Ok(Connection { stream, held: Vec::new(), is_5, logged_in: false, odd_level: false })
    }

    fn send(&mut self, line: &str, names: &Names) {
        if line.starts_with("CONNECT") {
            let level = words(line).iter().find_map(|word| try_number(word.strip_prefix("level=")?));
            self.is_5 = level.map_or(self.is_5, |level| level == 5);
            self.odd_level = level.is_some_and(|level| level != 4 && level != 5);
        }
        // A server that has closed is seen when the answer is read.
        self.stream.write_all(&encode(line, self.is_5, names)).ok();
    }

    fn next(&mut self) -> Result<Next, String> {
        loop {
            if let Some(count) = packet_bytes(&self.held)? {
                let packet: Vec<u8> = self.held.drain(..count).collect();
                let answer = decode(&packet, self.is_5 || self.odd_level)?;
                if answer.kind == "CONNACK" && std::mem::replace(&mut self.logged_in, true) {
                    return Err("a second CONNACK".into());
                }
                if !self.logged_in {
                    return Err(format!("{} before CONNACK", answer.kind));
                }
                return Ok(Next::Packet(answer));
            }
            let mut bytes = [0; 16_384];
            match self.stream.read(&mut bytes) {
                Ok(0) if !self.held.is_empty() => return Err("the end within a packet".into()),
                Ok(0) => return Ok(Next::End),
                Ok(count) => self.held.extend_from_slice(&bytes[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Err("no answer".into());
                }
                Err(_) => return Ok(Next::End),
            }
        }
    }

    fn refuses(&mut self, reasons: &[u32], broker: Broker) -> Result<(), String> {
        let was_in = self.logged_in;
        match self.next()? {
            Next::End if broker.gives_reasons && self.is_5 && !reasons.is_empty() => {
                return Err("closed without a reason".into());
            }
            Next::End => return Ok(()),
            Next::Packet(answer) => {
                let right = if was_in { "DISCONNECT" } else { "CONNACK" };
                let reason = answer.fields.iter().find(|(name, _)| name == "reason");
                let reason = reason.and_then(|(_, value)| try_number(value)).unwrap_or(0);
                let fits = reasons.is_empty() || reasons.contains(&reason);
                // A return code of 3.1.1 is judged by cases that name it.
                let fits = fits || (!self.is_5 && !was_in);
                if answer.kind != right || reason == 0 || !fits {
                    return Err(format!(
                        "{} {:?} instead of a refusal with {reasons:x?}",
                        answer.kind, answer.fields
                    ));
                }
            }
        }
        self.ends()
    }

    fn ends(&mut self) -> Result<(), String> {
        match self.next()? {
            Next::End => Ok(()),
            Next::Packet(answer) => Err(format!("{} {:?} instead of the end", answer.kind, answer.fields)),
        }
    }

    fn packet(&mut self, awaited: &str) -> Result<Answer, String> {
        match self.next()? {
            Next::Packet(answer) => Ok(answer),
            Next::End => Err(format!("the end instead of {awaited}")),
        }
    }

    /// Each pattern by one of so many packets, in any order.
    fn set(&mut self, mut patterns: Vec<&str>, names: &mut Names) -> Result<(), String> {
        while !patterns.is_empty() {
            let answer = self.packet(&patterns.join(" or "))?;
            let mut tried = names.clone();
            let at = patterns.iter().position(|pattern| {
                tried = names.clone();
                matches(&answer, pattern, &mut tried).is_ok()
            });
            let Some(at) = at else {
                return Err(format!("{} {:?} is none of {patterns:?}", answer.kind, answer.fields));
            };
            patterns.remove(at);
            *names = tried;
        }
        Ok(())
    }
}

/// Plays a case. `Err` says which line failed and how.
pub(crate) fn play(case: &Case, names: Names, broker: Broker) -> Result<(), String> {
    let mut names = names;
    let mut connections: HashMap<&str, Connection> = HashMap::new();
    let mut at = 0;
    while at < case.steps.len() {
        let step = &case.steps[at];
        let who = step.connection.as_str();
        let line = at + 1;
        let failed = |what: String| format!("line {line} ({who} {:?}): {what}", step.act);
        at += 1;
        match &step.act {
            Act::Wait(seconds) => std::thread::sleep(Duration::from_secs(*seconds)),
            Act::Drop => drop(connections.remove(who)),
            Act::Send(line) => {
                if !connections.contains_key(who) {
                    connections.insert(who, Connection::open(broker, case.version).map_err(failed)?);
                }
                let connection = connections.get_mut(who).ok_or_else(|| failed("not open".into()))?;
                connection.send(line, &names);
            }
            act => {
                let connection = connections.get_mut(who).ok_or_else(|| failed("not open".into()))?;
                match act {
                    Act::Expect(pattern) => {
                        let answer = connection.packet(pattern).map_err(failed)?;
                        matches(&answer, pattern, &mut names).map_err(failed)?;
                    }
                    Act::ExpectInAnyOrder(first) => {
                        let mut patterns = vec![first.as_str()];
                        let more = case.steps[at..].iter().map_while(|next| match &next.act {
                            Act::ExpectInAnyOrder(pattern) if next.connection == who => {
                                Some(pattern.as_str())
                            }
                            _ => None,
                        });
                        patterns.extend(more);
                        at += patterns.len() - 1;
                        connection.set(patterns, &mut names).map_err(failed)?;
                    }
                    Act::Refuse(reasons) => {
                        connection.refuses(reasons, broker).map_err(failed)?;
                        connections.remove(who);
                    }
                    _ => {
                        connection.ends().map_err(failed)?;
                        connections.remove(who);
                    }
                }
            }
        }
    }
    Ok(())
}
