use comfy_table::{CellAlignment, Table, presets};

/// A table without frames: a header, a rule, rows; columns of numbers to the right.
pub fn plain(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(header.iter().copied());
    for row in rows {
        table.add_row(row);
    }
    let is_number = |column: usize| rows.iter().all(|row| row[column].parse::<f64>().is_ok());
    for column in (0..header.len()).filter(|&column| is_number(column)) {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}
