//! What a command prints on standard output: a table for people on a terminal, JSON for programs on a pipe.

use std::io::{IsTerminal, Write};

use comfy_table::{Cell, Table, presets};
use serde::Serialize;

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// For people.
    Table,
    /// One JSON document on one line.
    Json,
}

impl Output {
    /// As the flags say, else by what standard output is.
    pub(crate) fn choose(json: bool, table: bool) -> Self {
        if !json && (table || std::io::stdout().is_terminal()) { Self::Table } else { Self::Json }
    }

    /// Prints one of both forms.
    pub(crate) fn show<J: Serialize>(self, json: impl FnOnce() -> J, text: impl FnOnce() -> String) -> Result<(), String> {
        let text = match self {
            Self::Json => serde_json::to_string(&json()).map_err(|error| error.to_string())?,
            Self::Table => text(),
        };
        let text = crate::redact::clean(&text);
        let mut out = std::io::stdout().lock();
        match out.write_all(text.trim_end().as_bytes()).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()) {
            // `milepost jobs | head` ends before we do: nothing is wrong.
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(format!("standard output: {error}")),
            _ => Ok(()),
        }
    }
}

/// A table of these columns.
pub(crate) fn table<const N: usize>(columns: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(columns.map(Cell::new));
    for row in rows {
        table.add_row(row.map(Cell::new));
    }
    table.to_string()
}

/// An amount in a token's smallest unit, with its decimal point where the token's decimals are known.
#[cfg(feature = "host")]
pub(crate) fn money(amount: u128, decimals: Option<u8>) -> String {
    match decimals {
        Some(decimals) => milepost_client::Amount(amount).display(decimals),
        None => amount.to_string(),
    }
}

/// Seconds as people say them.
#[cfg(feature = "host")]
pub(crate) fn span(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(feature = "host")]
    fn amounts_and_spans_read_well() {
        assert_eq!(money(360_000, Some(6)), "0.360000");
        assert_eq!(money(5, None), "5");
        assert_eq!([span(5), span(130), span(7_300), span(200_000)], ["5 s", "2 min", "2 h", "2 d"]);
    }

    #[test]
    fn flags_decide_over_the_terminal() {
        assert_eq!(Output::choose(true, true), Output::Json);
        assert_eq!(Output::choose(false, true), Output::Table);
    }
}
