//! One line for a text of several, which stands for itself.

/// Lines of a list that are shown.
const ITEMS: usize = 2;
/// Characters that are shown.
const LENGTH: usize = 400;

/// The first line; where it announces others by a colon, with the first of them.
pub(crate) fn one_line(text: &str) -> String {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut line = lines.next().unwrap_or_default().to_owned();
    if line.ends_with(':') {
        let items: Vec<&str> = lines.collect();
        let shown = items.iter().take(ITEMS).copied().collect::<Vec<_>>();
        line = match shown.is_empty() {
            true => line.trim_end_matches(':').to_owned(),
            false => format!("{line} {}", shown.join(", ")),
        };
        let more = items.len().saturating_sub(ITEMS);
        if more > 0 {
            line.push_str(&format!(" and {more} more"));
        }
    }
    let line = line.trim_end_matches([';', ',']);
    match line.char_indices().nth(LENGTH) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stands_for_itself() {
        for (text, line) in [
            ("", ""),
            ("failed", "failed"),
            (
                "failed with exit code 1;\nlast 10 log lines:\n> a",
                "failed with exit code 1",
            ),
            ("refers to:\n  /a", "refers to: /a"),
            ("refers to:\n\n  /a\n  /b\n", "refers to: /a, /b"),
            ("refers to:\n/a\n/b\n/c\n/d", "refers to: /a, /b and 2 more"),
            ("\nlog:\n", "log"),
        ] {
            assert_eq!(one_line(text), line, "{text}");
        }
        let long = "ü".repeat(2 * LENGTH);
        assert_eq!(one_line(&long).chars().count(), LENGTH + 1);
    }
}
