//! Tables.

use comfy_table::{CellAlignment, Table, presets};

use super::print;
use crate::failure::Failure;

/// A table without lines; columns from the second on are aligned to the right if they are numbers.
pub fn table(header: &[&str], numbers: &[usize]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(header.to_vec());
    for column in numbers {
        if let Some(column) = table.column_mut(*column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Prints it.
pub fn print_table(table: &Table) -> Result<(), Failure> {
    let text: String = table
        .lines()
        .map(|line| format!("{}\n", line.trim()))
        .collect();
    print(&text)
}
