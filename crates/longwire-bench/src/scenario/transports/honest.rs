//! Devices that mean it: full TLS logins at a steady rate, each on a connection of its own, while something else goes on.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use longwire_proto::id::ClientId;
use longwire_proto::session::{ClientSession, Credentials, FromServer, Memory, Millis};
use longwire_proto::wire::{Class, Network};
use rustls::StreamOwned;

use crate::clock;
use crate::devices::Device;
use crate::error::BenchError;
use crate::latency::Latencies;
use crate::source::{connect_from, first_of, source_of};
use crate::tls::{Version, client};

/// Logins under way at once.
const THREADS: u32 = 16;
/// A login that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(10);
const HEARTBEAT_S: u16 = 600;

/// How logins went since this was last asked.
#[derive(Debug, Default)]
pub(super) struct Logins {
    /// From the beginning of the connection to the welcome.
    pub(super) latencies: Latencies,
    pub(super) welcomed: u64,
    /// Logins without a welcome, by what was seen instead.
    pub(super) failed: BTreeMap<String, u64>,
}

/// Logins under way in threads of their own, until this is dropped.
#[derive(Debug)]
pub(super) struct Honest {
    seen: Arc<Seen>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// What threads count together.
#[derive(Debug, Default)]
struct Seen(Mutex<Logins>);

impl Honest {
    /// Begins `per_s` logins a second; each thread uses some of the devices in turn.
    pub(super) fn begin(target: SocketAddr, app_key: &str, devices: &[Device], per_s: u32) -> Honest {
        let (seen, stop) = (Arc::new(Seen::default()), Arc::new(AtomicBool::new(false)));
        let numbers = Arc::new(AtomicU64::new(0));
        let share = devices.len().div_ceil(THREADS as usize).max(1);
        let begin = Instant::now();
        let threads = devices
            .chunks(share)
            .map(|devices| {
                let (seen, stop, numbers) = (seen.clone(), stop.clone(), numbers.clone());
                let (app_key, devices) = (app_key.to_owned(), devices.to_vec());
                std::thread::spawn(move || {
                    for device in devices.iter().cycle() {
                        let number = numbers.fetch_add(1, Ordering::Relaxed);
                        let due = begin + Duration::from_secs_f64(number as f64 / f64::from(per_s));
                        std::thread::sleep(due.saturating_duration_since(Instant::now()));
                        if stop.load(Ordering::Relaxed) {
                            return;
                        }
                        let source = source_of(first_of(2, 0), number as usize);
                        seen.add(login(source, target, &app_key, device));
                    }
                })
            })
            .collect();
        Honest { seen, stop, threads }
    }

    /// How they went since this was last asked.
    pub(super) fn logins(&self) -> Result<Logins, BenchError> {
        let mut seen = self.seen.0.lock().map_err(|_| BenchError::Options("a device failed".into()))?;
        Ok(std::mem::take(&mut *seen))
    }
}

impl Seen {
    fn add(&self, outcome: Result<u64, String>) {
        // A thread that failed while it counted is told by `logins`.
        let Ok(mut seen) = self.0.lock() else { return };
        match outcome {
            Ok(took_ns) => {
                seen.welcomed += 1;
                seen.latencies.record_ns(took_ns);
            }
            Err(why) => *seen.failed.entry(why).or_default() += 1,
        }
    }
}

impl Drop for Honest {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Connects, shakes hands, logs in; nanoseconds until the welcome.
fn login(source: Ipv4Addr, target: SocketAddr, app_key: &str, device: &Device) -> Result<u64, String> {
    let begin_ns = clock::now_ns();
    let said = |error: std::io::Error| format!("{:?}", error.kind());
    let tls = client(Version::Tls13).map_err(|error| error.to_string())?;
    let socket = connect_from(source, target, PATIENCE).map_err(said)?;
    let mut stream = StreamOwned::new(tls, socket);
    let credentials = Credentials {
        app_key: app_key.to_owned(),
        token: device.login.token.clone(),
        client: ClientId(device.login.client),
        network: Network::Wired,
        class: Class::Iot,
        heartbeat_s: HEARTBEAT_S,
    };
    let mut bytes = Vec::new();
    let mut session = ClientSession::begin(&credentials, Memory::default(), Millis(0), &mut bytes);
    stream.write_all(&bytes).and_then(|()| stream.flush()).map_err(said)?;
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer).map_err(said)?;
        if count == 0 {
            return Err("closed".into());
        }
        let (mut input, mut answers) = (&buffer[..count], Vec::new());
        match session.receive(&mut input, Millis(0), &mut answers) {
            Ok(Some(FromServer::Welcome(_))) => return Ok(clock::now_ns() - begin_ns),
            Ok(Some(FromServer::Refused(refusal))) => return Err(refusal.reason.label().into()),
            Ok(_) => {}
            Err(reason) => return Err(reason.label().into()),
        }
    }
}
