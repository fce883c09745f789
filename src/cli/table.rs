//! Rows for people and for pipes.
//!
//! On a terminal: aligned columns under a heading. Into a pipe: the same cells, tab-separated,
//! without the heading, as `cut` and `awk` like it. No cell can break a line or steer a terminal.

use std::io::{self, Write};

use comfy_table::{CellAlignment, ContentArrangement, presets};

/// How a column stands on a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

pub(super) struct Table<'a> {
    columns: &'a [(&'a str, Align)],
    rows: Vec<Vec<String>>,
}

/// Where output goes, and whether a person reads it there.
pub struct Output<'a> {
    pub writer: &'a mut dyn Write,
    pub terminal: bool,
}

impl<'a> Table<'a> {
    pub(super) fn new(columns: &'a [(&'a str, Align)]) -> Self {
        Self {
            columns,
            rows: Vec::new(),
        }
    }

    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows
            .push(cells.into_iter().map(|cell| printable(&cell)).collect());
    }

    pub(super) fn write(&self, out: &mut Output<'_>) -> io::Result<()> {
        if out.terminal {
            self.write_aligned(out.writer)
        } else {
            self.write_tabs(out.writer)
        }
    }

    fn write_aligned(&self, writer: &mut dyn Write) -> io::Result<()> {
        let mut table = comfy_table::Table::new();
        table
            .load_style(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Disabled)
            .set_header(self.columns.iter().map(|(name, _)| *name))
            .add_rows(&self.rows);
        for (column, (_, align)) in table.column_iter_mut().zip(self.columns) {
            column.set_padding((0, 2));
            if *align == Align::Right {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        for line in table.lines() {
            writeln!(writer, "{}", line.trim_end())?;
        }
        if self.rows.is_empty() {
            writeln!(writer, "(none)")?;
        }
        Ok(())
    }

    fn write_tabs(&self, writer: &mut dyn Write) -> io::Result<()> {
        for row in &self.rows {
            writeln!(writer, "{}", row.join("\t"))?;
        }
        Ok(())
    }
}

/// `text` without what would end the line, steer the terminal or turn the direction of what follows.
pub(super) fn printable(text: &str) -> String {
    let steers = |c: char| {
        let turns = matches!(
            c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}'
        );
        let isolates = matches!(c, '\u{2066}'..='\u{2069}');
        c.is_control() || turns || isolates || matches!(c, '\u{2028}' | '\u{2029}')
    };
    text.chars()
        .map(|c| if steers(c) { '?' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(terminal: bool, expected: &str) {
        let mut table = Table::new(&[("AGENT", Align::Left), ("CALLS", Align::Right)]);
        table.row(["planner".to_owned(), "1,234".to_owned()]);
        table.row(["a\tb\u{1b}[2J".to_owned(), "5".to_owned()]);
        let mut written = Vec::new();
        table
            .write(&mut Output {
                writer: &mut written,
                terminal,
            })
            .unwrap();
        assert_eq!(String::from_utf8(written).unwrap(), expected);
    }

    #[test]
    fn a_terminal_gets_aligned_columns_under_a_heading() {
        check(true, "AGENT    CALLS\nplanner  1,234\na?b?[2J      5\n");
    }

    #[test]
    fn nothing_is_said_to_be_nothing_on_a_terminal_alone() {
        for (terminal, expected) in [(true, "AGENT\n(none)\n"), (false, "")] {
            let mut written = Vec::new();
            let mut out = Output {
                writer: &mut written,
                terminal,
            };
            let columns = [("AGENT", Align::Left)];
            Table::new(&columns).write(&mut out).unwrap();
            assert_eq!(String::from_utf8(written).unwrap(), expected);
        }
    }

    #[test]
    fn a_pipe_gets_the_cells_alone_tab_separated() {
        check(false, "planner\t1,234\na?b?[2J\t5\n");
    }
}
