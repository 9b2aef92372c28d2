//! Tables on a terminal and in Markdown.

/// Columns of equal width; numbers stand as they are given.
pub fn text(head: &[&str], rows: &[Vec<String>]) -> String {
    let widths = widths(head, rows);
    let line = |cells: Vec<&str>| {
        let cells: Vec<String> = cells
            .iter()
            .zip(&widths)
            .map(|(cell, &w)| format!("{cell:w$}"))
            .collect();
        format!("  {}\n", cells.join("  ").trim_end())
    };
    let mut out = line(head.to_vec());
    out.push_str(&format!(
        "  {}\n",
        widths
            .iter()
            .map(|&w| "─".repeat(w))
            .collect::<Vec<_>>()
            .join("  ")
    ));
    rows.iter()
        .for_each(|row| out.push_str(&line(row.iter().map(String::as_str).collect())));
    out
}

/// The same for a Markdown file.
pub fn markdown(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut out = format!("| {} |\n|{}\n", head.join(" | "), " --- |".repeat(head.len()));
    rows.iter()
        .for_each(|row| out.push_str(&format!("| {} |\n", row.join(" | "))));
    out
}

fn widths(head: &[&str], rows: &[Vec<String>]) -> Vec<usize> {
    let width = |i: usize| {
        rows.iter()
            .filter_map(|row| row.get(i))
            .map(|cell| cell.chars().count())
            .max()
    };
    head.iter()
        .enumerate()
        .map(|(i, name)| width(i).unwrap_or(0).max(name.chars().count()))
        .collect()
}
