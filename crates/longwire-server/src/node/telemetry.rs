//! Logs through a lossy, bounded, non-blocking writer: a stopped reader costs lines, counted, and never a wait.

use super::config::LogConfig;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

/// The running log; dropping it writes what is queued, for at most a second.
pub struct Telemetry {
    dropped: ErrorCounter,
    _writer: WorkerGuard,
}

impl Telemetry {
    /// Installs the log of this process.
    ///
    /// # Errors
    /// One is installed already, or the level is not one.
    pub fn start(config: &LogConfig) -> Result<Telemetry, String> {
        let builder = NonBlockingBuilder::default()
            .lossy(true)
            .buffered_lines_limit(config.buffer_lines)
            .thread_name("longwire-log");
        let (writer, guard) =
            if config.stdout { builder.finish(std::io::stdout()) } else { builder.finish(std::io::stderr()) };
        let dropped = writer.error_counter();
        // Libraries below us speak only when something is wrong: their chatter is not the node's life.
        let words = format!("warn,longwire={0},longwire_server={0},longwire_client={0}", config.level);
        let words = if config.level == "error" { config.level.clone() } else { words };
        let filter = EnvFilter::try_new(words).map_err(|fault| fault.to_string())?;
        let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(false);
        let installed =
            if config.json { lines.json().flatten_event(true).try_init() } else { lines.try_init() };
        installed.map_err(|fault| fault.to_string())?;
        Ok(Telemetry { dropped, _writer: guard })
    }

    /// Counts the lines that were dropped.
    #[must_use]
    pub fn dropped(&self) -> ErrorCounter {
        self.dropped.clone()
    }
}
