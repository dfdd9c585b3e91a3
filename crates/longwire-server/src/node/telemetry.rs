//! Logs through a lossy, bounded, non-blocking writer: a stopped reader costs lines, counted and told, and never a wait.

use super::config::LogConfig;
pub use super::log_queue::DroppedLines;
use super::log_queue::LogQueue;
use tracing_subscriber::EnvFilter;

/// What the log says of itself is let through at every level.
const OWN_TARGET: &str = "longwire_log";

/// The running log; dropping it writes what is queued, for at most a second.
pub struct Telemetry {
    queue: LogQueue,
}

impl Telemetry {
    /// Installs the log of this process.
    ///
    /// # Errors
    /// One is installed already, the level is not one, or there is no thread for the writer.
    pub fn start(config: &LogConfig) -> Result<Telemetry, String> {
        let lines = config.buffer_lines;
        let queue = if config.stdout {
            LogQueue::start(lines, std::io::stdout(), say_dropped)
        } else {
            LogQueue::start(lines, std::io::stderr(), say_dropped)
        };
        let queue = queue.map_err(|fault| fault.to_string())?;
        // Libraries below us speak only when something is wrong: their chatter is not the node's life.
        let words = format!("warn,longwire={0},longwire_server={0},longwire_client={0}", config.level);
        let words = if config.level == "error" { config.level.clone() } else { words };
        let filter =
            EnvFilter::try_new(format!("{words},{OWN_TARGET}=warn")).map_err(|fault| fault.to_string())?;
        let writer = queue.writer();
        let lines = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(move || writer.clone())
            .with_ansi(false);
        let installed =
            if config.json { lines.json().flatten_event(true).try_init() } else { lines.try_init() };
        installed.map_err(|fault| fault.to_string())?;
        Ok(Telemetry { queue })
    }

    /// Counts the lines that were dropped.
    #[must_use]
    pub fn dropped(&self) -> DroppedLines {
        self.queue.dropped()
    }
}

/// The summary: it goes the way of every line, so that it has the format of the others.
fn say_dropped(lines: u64) {
    tracing::warn!(target: OWN_TARGET, lines, "log lines were dropped: the reader of the log was too slow");
}
