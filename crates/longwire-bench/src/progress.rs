//! Progress on standard error; nothing when that is not a terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar of `total` steps with a title.
pub(crate) fn bar(title: &'static str, total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total);
    if let Ok(style) = ProgressStyle::with_template("{prefix:22} {wide_bar} {pos}/{len} {elapsed}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.with_prefix(title)
}
