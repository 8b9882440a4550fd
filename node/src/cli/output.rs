//! What verbs print: aligned text for people, or one JSON object.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

/// How one process answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) const fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether the answer is wanted as JSON.
    pub(crate) const fn is_json(self) -> bool {
        self.json
    }

    /// The answer: `text` for people, or `value`.
    pub(crate) fn show(self, text: &str, value: &Value) {
        if self.json { self.json(value) } else { print(text) }
    }

    /// A JSON object on a line of its own.
    pub(crate) fn json(self, value: &Value) {
        print(&value.to_string());
    }

    /// Something beside the answer, for people only.
    pub(crate) fn note(self, text: &str) {
        if !self.json {
            eprintln!("{text}");
        }
    }

    /// A progress bar over `length` steps; invisible when nobody is at the terminal.
    pub(crate) fn progress(self, length: u64, what: &'static str) -> ProgressBar {
        let template = "{msg} {bar:30} {pos}/{len}  {elapsed}";
        self.bar(ProgressBar::new(length), what, template)
    }

    /// A spinner for work whose length is unknown.
    pub(crate) fn spinner(self, what: &'static str) -> ProgressBar {
        let spinner = self.bar(ProgressBar::new_spinner(), what, "{spinner} {msg}  {elapsed}");
        spinner.enable_steady_tick(Duration::from_millis(100));
        spinner
    }

    fn bar(self, bar: ProgressBar, what: &'static str, template: &str) -> ProgressBar {
        if self.json || !std::io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.with_style(style).with_message(what)
    }
}

/// A reader that went away (`cairn ... | head`) is no error.
fn print(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{}", text.trim_end_matches('\n')).and_then(|()| stdout.flush());
}

/// Rows of `name  value`, the values aligned.
pub(crate) fn pairs<'a>(rows: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let rows: Vec<(&str, String)> = rows.into_iter().collect();
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    rows.iter().fold(String::new(), |mut text, (name, value)| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name:<width$}  {value}");
        text
    })
}

/// A table without lines, columns aligned.
pub(crate) fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::NOTHING).set_header(header.to_vec());
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let text = table.to_string();
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// `1 block`, `2 blocks`.
pub(crate) fn count(number: u64, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

/// Bytes for people: `812 B`, `9.9 kB`, `1.2 MB`.
pub(crate) fn bytes(number: u64) -> String {
    let scaled = number as f64;
    match number {
        0..1_000 => format!("{number} B"),
        1_000..1_000_000 => format!("{:.1} kB", scaled / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", scaled / 1e6),
        _ => format!("{:.1} GB", scaled / 1e9),
    }
}

/// Unix milliseconds as RFC 3339 in UTC, with milliseconds.
pub(crate) fn time(unix_ms: u64) -> String {
    i64::try_from(unix_ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .map_or_else(|| format!("{unix_ms} ms"), |time| format!("{time:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_aligned() {
        let text = pairs([("a", "1".to_owned()), ("longer", "2".to_owned())]);
        assert_eq!(text, "a       1\nlonger  2\n");
    }

    #[test]
    fn tables_have_no_trailing_space() {
        let text = table(&["file", "scheme"], vec![vec!["a.json".into(), "x".into()]]);
        assert_eq!(text, "file    scheme\na.json  x");
    }

    #[test]
    fn figures_read_well() {
        assert_eq!(bytes(812), "812 B");
        assert_eq!(bytes(9_934), "9.9 kB");
        assert_eq!(count(1, "block"), "1 block");
        assert_eq!(count(0, "block"), "0 blocks");
        assert_eq!(time(1_700_000_000_123), "2023-11-14T22:13:20.123Z");
    }
}
