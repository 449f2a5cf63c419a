//! Columns for people: as wide as their widest cell, the last one free.

/// Rows under a head.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with these column names.
    pub fn new(head: &[&str]) -> Self {
        Self { rows: vec![head.iter().map(|name| (*name).to_owned()).collect()] }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells.into_iter().map(|cell| clean(&cell)).collect());
    }

    /// The text; `none` when there is no row.
    pub fn text(&self, none: &str) -> String {
        if self.rows.len() == 1 {
            return format!("{none}\n");
        }
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(&format!("{cell:<width$}  "));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Foreign text must not move the cursor, nor break a line.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A moment as people read it: to the second.
pub fn moment(at: jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// The same, or `-`.
pub fn maybe(at: Option<jiff::Timestamp>) -> String {
    at.map_or_else(|| "-".to_owned(), moment)
}

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn columns_line_up_and_control_characters_are_taken_out() {
        let mut table = Table::new(&["ID", "ERROR"]);
        assert_eq!(table.text("no jobs"), "no jobs\n");
        table.row(vec!["long-id".into(), "a\x1b[31m\nb".into()]);
        assert_eq!(table.text(""), "ID       ERROR\nlong-id  a [31m b\n");
    }
}
