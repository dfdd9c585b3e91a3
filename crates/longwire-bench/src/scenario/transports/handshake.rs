//! `bench handshake`: TLS handshakes per second of server processor time, beside the bare library's.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::library::{self, Spent, Suites};
use super::shaking::{Kind, shake};
use crate::args::{OutputArgs, ServerArgs};
use crate::error::BenchError;
use crate::machine::cpu_ns;
use crate::progress::bar;
use crate::report::{Figures, grouped, words};
use crate::series::{Spread, spread};
use crate::server::Server;
use crate::tls::{Certificate, Version, client_config};

/// The library's turn; it needs no start.
const LIBRARY_TURN: Duration = Duration::from_millis(500);
/// After a turn: the server ends what the clients have left.
const REST: Duration = Duration::from_millis(100);
/// Threads of clients.
const THREADS: usize = 2;

#[derive(Clone, Debug, Args)]
pub(crate) struct HandshakeArgs {
    /// Turns of the library and of the server, each, for each kind of handshake.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=100))]
    turns: u32,
    /// Length of the server's turn, milliseconds.
    #[arg(long, default_value_t = 1_500, value_parser = clap::value_parser!(u64).range(100..=60_000))]
    turn_ms: u64,
    /// Handshakes under way at once.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(2..=4096))]
    clients: u32,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

const KINDS: [(Version, bool, &str); 4] = [
    (Version::Tls13, false, "tls13_full"),
    (Version::Tls12, false, "tls12_full"),
    (Version::Tls13, true, "tls13_resumed"),
    (Version::Tls12, true, "tls12_resumed"),
];

/// One kind over all turns.
#[derive(Debug, Serialize)]
struct Shaken {
    /// Handshakes per second of processor time: of the library as it comes, of the library told the server's suites, of the server.
    own_per_core_s: Option<Spread>,
    library_per_core_s: Option<Spread>,
    server_per_core_s: Option<Spread>,
    /// The server's rate by that of the library as it comes, of the same turn.
    ratio_to_own: Option<Spread>,
    /// The server's rate by that of the library with the same suites.
    ratio: Option<Spread>,
    /// The same without what the server's connection costs outside TLS.
    ratio_without_connection: Option<Spread>,
    /// Handshakes per second of time, by all clients.
    per_s: Option<Spread>,
    handshakes: u64,
    resumed: u64,
    failed: u64,
}

/// Runs the scenario.
pub(crate) fn run(args: &HandshakeArgs) -> Result<(), BenchError> {
    let certificate = Certificate::make()?;
    let mut server_args = args.server.clone();
    if server_args.target.is_none() {
        server_args.serve_arg.extend(certificate.flags());
    }
    let server = Server::obtain(&server_args)?;
    let Some(pid) = server.pid else {
        return Err(BenchError::Options(
            "processor time of a server that runs already needs its --pid".into(),
        ));
    };
    let ours = library::server_config(&certificate, Suites::AsOurs)?;
    let own = library::server_config(&certificate, Suites::AsTheyCome)?;
    let progress = bar("handshakes", u64::from(args.turns) * KINDS.len() as u64);
    let bench = Bench { args, target: server.device, pid };
    // The first turn of everything, uncounted: pages, caches, allocators.
    bench.turn(Kind::Refused)?;
    bench.turn(Kind::Handshake { version: Version::Tls13, tickets: false })?;
    let mut figures = Figures::new("handshake");
    figures.row("certificate", "P-256, both sides; clients verify nothing");
    let mut connection_us = Vec::new();
    let mut failed = 0;
    for (version, tickets, name) in KINDS {
        let client = client_config(version, tickets);
        let mut turns = Vec::new();
        for _ in 0..args.turns {
            let refused = bench.turn(Kind::Refused)?.spent.each_us();
            let own = library::handshakes(&own, &client, LIBRARY_TURN)?;
            let bare = library::handshakes(&ours, &client, LIBRARY_TURN)?;
            let server = bench.turn(Kind::Handshake { version, tickets })?;
            connection_us.push(refused);
            turns.push(Measured { refused, own, bare, server });
            progress.inc(1);
        }
        let result = Shaken::of(&turns);
        failed += result.failed;
        result.row(&mut figures, version, tickets);
        figures.extra(name, result);
    }
    progress.finish_and_clear();
    let connection_us = spread(connection_us);
    figures.row("a refused connection without TLS, CPU us", words(connection_us, 1));
    figures.lost = Some(failed);
    figures.extra("connection_cpu_us", connection_us);
    figures.extra("clients", args.clients);
    figures.print(args.output.json);
    Ok(())
}

/// One turn of everything.
struct Measured {
    /// Microseconds of a refused connection.
    refused: f64,
    /// The library as it comes, and told the server's suites.
    own: Spent,
    bare: Spent,
    server: Turn,
}

/// What one turn of the server did.
#[derive(Clone, Copy, Debug, Default)]
struct Turn {
    spent: Spent,
    failed: u64,
    span_s: f64,
}

struct Bench<'a> {
    args: &'a HandshakeArgs,
    target: SocketAddr,
    pid: u32,
}

impl Bench<'_> {
    /// All clients for the length of a turn.
    fn turn(&self, kind: Kind) -> Result<Turn, BenchError> {
        let stop = AtomicBool::new(false);
        let begin = std::time::Instant::now();
        let before = cpu_ns(self.pid);
        let mut turn = std::thread::scope(|scope| {
            let each = (self.args.clients as usize).div_ceil(THREADS);
            let clients: Vec<_> = (0..THREADS)
                .map(|thread| {
                    let (stop, target) = (&stop, self.target);
                    scope.spawn(move || shake(kind, (thread, each), target, stop))
                })
                .collect();
            std::thread::sleep(Duration::from_millis(self.args.turn_ms));
            stop.store(true, Ordering::Relaxed);
            let mut sum = Turn::default();
            for client in clients {
                let done = client.join().map_err(|_| BenchError::Options("a client failed".into()))?;
                let done = done.map_err(BenchError::system("epoll"))?;
                sum.spent.handshakes += done.spent.handshakes;
                sum.spent.resumed += done.spent.resumed;
                sum.failed += done.failed;
            }
            Ok::<Turn, BenchError>(sum)
        })?;
        turn.span_s = begin.elapsed().as_secs_f64();
        std::thread::sleep(REST);
        turn.spent.cpu_ns = cpu_ns(self.pid).saturating_sub(before);
        if turn.spent.handshakes == 0 {
            return Err(BenchError::Server(format!("no connection of {} went well", turn.failed)));
        }
        Ok(turn)
    }
}

impl Shaken {
    fn of(turns: &[Measured]) -> Shaken {
        let by = |of: &dyn Fn(&Measured) -> f64| spread(turns.iter().map(of));
        let server = |turn: &Measured| turn.server.spent.each_us();
        Shaken {
            own_per_core_s: by(&|turn| 1e6 / turn.own.each_us()),
            library_per_core_s: by(&|turn| 1e6 / turn.bare.each_us()),
            server_per_core_s: by(&|turn| 1e6 / server(turn)),
            ratio_to_own: by(&|turn| turn.own.each_us() / server(turn)),
            ratio: by(&|turn| turn.bare.each_us() / server(turn)),
            ratio_without_connection: by(&|turn| {
                turn.bare.each_us() / (server(turn) - turn.refused).max(1.0)
            }),
            per_s: by(&|turn| turn.server.spent.handshakes as f64 / turn.server.span_s),
            handshakes: turns.iter().map(|turn| turn.server.spent.handshakes).sum(),
            resumed: turns.iter().map(|turn| turn.server.spent.resumed).sum(),
            failed: turns.iter().map(|turn| turn.server.failed).sum(),
        }
    }

    fn row(&self, figures: &mut Figures, version: Version, tickets: bool) {
        let how = if tickets { "with tickets" } else { "full" };
        figures.row(
            format!("TLS {}, {how}", version.name()),
            format!(
                "{} handshakes, {} resumed, {} failed",
                grouped(self.handshakes as f64),
                grouped(self.resumed as f64),
                self.failed
            ),
        );
        figures.row("  library as it comes, handshakes/s per core", words(self.own_per_core_s, 0));
        figures.row("  library with our suites, handshakes/s per core", words(self.library_per_core_s, 0));
        figures.row("  server, handshakes/s per core", words(self.server_per_core_s, 0));
        figures.row("  server by library as it comes", words(self.ratio_to_own, 3));
        figures.row("  server by library with our suites", words(self.ratio, 3));
        figures.row("  the same without the connection", words(self.ratio_without_connection, 3));
        figures.row("  server, handshakes/s", words(self.per_s, 0));
    }
}
