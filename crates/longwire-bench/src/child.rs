//! A child process of the measurement: this command, run again.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child as Process, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use crate::error::BenchError;
use crate::order::{Order, Report};

/// Reports that may wait unread; a child that says more waits for us.
const REPORTS_MAX: usize = 64;

/// One child. It ends when this is dropped, or when its standard input closes.
#[derive(Debug)]
pub(crate) struct Child {
    role: &'static str,
    process: Process,
    orders: ChildStdin,
    reports: Receiver<Report>,
}

impl Child {
    /// Starts `program bench fleet --role <role>`.
    pub(crate) fn start(program: &Path, role: &'static str) -> Result<Child, BenchError> {
        let mut process = Command::new(program)
            .args(["bench", "fleet", "--role", role])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(BenchError::system(format!("start {} bench fleet", program.display())))?;
        let (Some(orders), Some(output)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(BenchError::Child { role: role.into(), text: "has no pipes".into() });
        };
        let (post, reports) = sync_channel(REPORTS_MAX);
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                let Ok(line) = line else { break };
                let report = serde_json::from_str(&line)
                    .unwrap_or_else(|_| Report::Failed { text: format!("unreadable report: {line}") });
                if post.send(report).is_err() {
                    break;
                }
            }
        });
        Ok(Child { role, process, orders, reports })
    }

    /// Its process id, for `/proc`.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Gives an order.
    pub(crate) fn order(&mut self, order: &Order) -> Result<(), BenchError> {
        let mut line = serde_json::to_vec(order).map_err(|error| self.fault(error.to_string()))?;
        line.push(b'\n');
        self.orders.write_all(&line).and_then(|()| self.orders.flush()).map_err(|error| {
            let role = self.role.to_owned();
            BenchError::Child { role, text: format!("takes no orders: {error}") }
        })
    }

    /// Waits for its next report.
    pub(crate) fn report(&self, within: Duration) -> Result<Report, BenchError> {
        match self.reports.recv_timeout(within) {
            Ok(Report::Failed { text }) => Err(self.fault(text)),
            Ok(report) => Ok(report),
            Err(RecvTimeoutError::Timeout) => Err(BenchError::Late {
                what: format!("a report of the {}", self.role),
                seconds: within.as_secs(),
            }),
            Err(RecvTimeoutError::Disconnected) => Err(self.fault("ended before its work was done")),
        }
    }

    /// An order and the report that answers it.
    pub(crate) fn ask(&mut self, order: &Order, within: Duration) -> Result<Report, BenchError> {
        self.order(order)?;
        self.report(within)
    }

    /// The error for a report that does not fit the order.
    pub(crate) fn fault(&self, text: impl Into<String>) -> BenchError {
        BenchError::Child { role: self.role.into(), text: text.into() }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
