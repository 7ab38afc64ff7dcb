//! Rows as CSV (RFC 4180, lines end with LF), for spreadsheets.
//!
//! Invariant: every line has as many cells as the header; what a row lacks, and null, is an empty cell.

use ostler_service_sdk::JsonObject;
use serde_json::Value;

use super::table::columns;
use super::Rows;
use crate::exit::Result;
use crate::output::Out;

/// Writes a header and a line per row. Objects and arrays are JSON text in their cell.
pub fn print(rows: &Rows, out: &Out) -> Result {
    let columns = columns(rows);
    let mut text = String::new();
    line(columns.iter().copied(), &mut text);
    for row in &rows.objects {
        let cells: Vec<String> = columns.iter().map(|column| cell(row, column)).collect();
        line(cells.iter().map(String::as_str), &mut text);
        if text.len() > 1 << 16 {
            out.raw(&std::mem::take(&mut text))?;
        }
    }
    out.raw(&text)
}

fn cell(row: &JsonObject, column: &str) -> String {
    match row.get(column) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    }
}

fn line<'a>(cells: impl Iterator<Item = &'a str>, out: &mut String) {
    for (i, cell) in cells.enumerate() {
        if i > 0 {
            out.push(',');
        }
        if cell.contains(['"', ',', '\n', '\r']) {
            out.push('"');
            out.push_str(&cell.replace('"', "\"\""));
            out.push('"');
        } else {
            out.push_str(cell);
        }
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_where_they_must_be() {
        let mut out = String::new();
        line(["a", "", "b,c", "d\"e", "f\ng"].into_iter(), &mut out);
        assert_eq!(out, "a,,\"b,c\",\"d\"\"e\",\"f\ng\"\n");
    }
}
