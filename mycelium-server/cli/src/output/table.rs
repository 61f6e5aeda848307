//! Tables for people.

use comfy_table::CellAlignment;

use super::format;

/// A table: headed columns, a line each, and as wide as its cells, so that it can be piped and searched.
#[derive(Debug)]
pub(crate) struct Table {
    table: comfy_table::Table,
    numbers: Vec<usize>,
}

impl Table {
    /// A table with these columns.
    pub(crate) fn new<const N: usize>(columns: [&str; N]) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::NOTHING).set_header(columns);
        Self { table, numbers: Vec::new() }
    }

    /// Says which columns hold numbers, which stand on the right.
    pub(crate) fn numbers<const N: usize>(mut self, columns: [usize; N]) -> Self {
        self.numbers = columns.to_vec();
        self
    }

    /// Adds a line. Cells may hold text of any origin.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.table.add_row(cells.map(|cell| format::one_line(&cell)));
    }

    /// Adds a line for each entry.
    pub(crate) fn rows<T, const N: usize>(
        mut self,
        entries: impl IntoIterator<Item = T>,
        cells: impl Fn(T) -> [String; N],
    ) -> Self {
        entries.into_iter().for_each(|entry| self.row(cells(entry)));
        self
    }

    /// Whether it has no lines.
    pub(crate) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Its text: no space at the end of lines, a line break at the end of each.
    pub(crate) fn text(mut self) -> String {
        for (index, column) in self.table.column_iter_mut().enumerate() {
            let left = u16::from(index > 0);
            column.set_padding((left, 1));
            if self.numbers.contains(&index) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let mut text = self.table.trim_fmt();
        text.push('\n');
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_end_with_text() {
        let mut table = Table::new(["NAME", "JOBS"]).numbers([1]);
        assert!(table.is_empty());
        table.row(["scale".to_owned(), "7".to_owned()]);
        table.row(["the report\nprinter".to_owned(), "12".to_owned()]);
        assert!(!table.is_empty());
        assert_eq!(
            table.text(),
            "NAME                JOBS\nscale                  7\nthe report printer    12\n"
        );
    }
}
