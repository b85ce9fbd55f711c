//! Figures as a table for people and as JSON for programs.

use std::fmt::Write as _;

use anyhow::{Result, bail};

use super::figure::{Figure, Group, Limit};

/// The tables of all groups.
pub fn table(groups: &[Group]) -> String {
    let mut text = String::new();
    for group in groups {
        let _ = writeln!(
            text,
            "\n{:<52} {:>10} {:>10} {:>6} {:>10}",
            group.title, "Xen", "xen-rs", "ratio", "limit"
        );
        for figure in &group.figures {
            let _ = writeln!(text, "{}", row(figure));
        }
        for note in &group.notes {
            let _ = writeln!(text, "  {note}");
        }
    }
    text
}

fn row(figure: &Figure) -> String {
    let dash = || "-".to_string();
    let xen = figure.xen.map_or_else(dash, |xen| xen.to_string());
    let ratio = figure
        .ratio()
        .map_or_else(dash, |ratio| format!("{ratio:.2}"));
    let limit = match figure.limit {
        None => dash(),
        Some(Limit::Number(limit)) => limit.to_string(),
        Some(Limit::OfXen(limit)) => format!("{limit:.2}"),
    };
    let mark = if figure.exceeds() { " ABOVE" } else { "" };
    let (name, ours) = (&figure.name, figure.ours);
    format!("{name:<52} {xen:>10} {ours:>10} {ratio:>6} {limit:>10}{mark}")
}

/// All figures as a JSON document: an array of groups.
pub fn json(groups: &[Group]) -> String {
    let groups: Vec<_> = groups.iter().map(json_group).collect();
    format!("[{}]\n", groups.join(","))
}

fn json_group(group: &Group) -> String {
    let figures: Vec<_> = group.figures.iter().map(json_figure).collect();
    let notes: Vec<_> = group.notes.iter().map(|note| json_text(note)).collect();
    format!(
        "{{\"group\":{},\"figures\":[{}],\"notes\":[{}]}}",
        json_text(&group.title),
        figures.join(","),
        notes.join(",")
    )
}

fn json_figure(figure: &Figure) -> String {
    let mut text = format!(
        "{{\"name\":{},\"xen-rs\":{}",
        json_text(&figure.name),
        figure.ours
    );
    if let Some(xen) = figure.xen {
        let _ = write!(text, ",\"xen\":{xen}");
    }
    if let Some(ratio) = figure.ratio() {
        let _ = write!(text, ",\"ratio\":{ratio:.4}");
    }
    match figure.limit {
        Some(Limit::Number(limit)) => {
            let _ = write!(text, ",\"limit\":{limit}");
        }
        Some(Limit::OfXen(limit)) => {
            let _ = write!(text, ",\"ratio-limit\":{limit}");
        }
        None => {}
    }
    let _ = write!(text, ",\"above-limit\":{}}}", figure.exceeds());
    text
}

/// A JSON string (RFC 8259, section 7).
fn json_text(text: &str) -> String {
    let mut quoted = String::from('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            control if control < ' ' => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(control));
            }
            other => quoted.push(other),
        }
    }
    quoted + "\""
}

/// An error that names the figures above their limits, if there are any.
pub fn check(groups: &[Group]) -> Result<()> {
    let exceeded: Vec<_> = groups
        .iter()
        .flat_map(|group| &group.figures)
        .filter(|figure| figure.exceeds())
        .map(|figure| figure.name.as_str())
        .collect();
    if !exceeded.is_empty() {
        bail!("above the limit: {}", exceeded.join("; "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups() -> Vec<Group> {
        let figure = |name: &str, ours, xen, limit| Figure {
            name: name.to_string(),
            ours,
            xen,
            limit,
        };
        vec![Group {
            title: "a \"group\"".to_string(),
            figures: vec![
                figure("trap", 150, Some(600), Some(Limit::OfXen(0.6))),
                figure("boot", 30, None, Some(Limit::Number(20))),
                figure("size", 7, None, None),
            ],
            notes: vec!["a note".to_string()],
        }]
    }

    #[test]
    fn a_table_has_the_ratio_and_marks_what_is_above() {
        let table = table(&groups());
        let lines: Vec<Vec<_>> = table
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(lines[2], ["trap", "600", "150", "0.25", "0.60"]);
        assert_eq!(lines[3], ["boot", "-", "30", "-", "20", "ABOVE"]);
        assert_eq!(lines[4], ["size", "-", "7", "-", "-"]);
        assert_eq!(lines[5], ["a", "note"]);
    }

    #[test]
    fn json_has_all_of_it() {
        assert_eq!(
            json(&groups()),
            "[{\"group\":\"a \\\"group\\\"\",\"figures\":[\
             {\"name\":\"trap\",\"xen-rs\":150,\"xen\":600,\"ratio\":0.2500,\"ratio-limit\":0.6,\
             \"above-limit\":false},\
             {\"name\":\"boot\",\"xen-rs\":30,\"limit\":20,\"above-limit\":true},\
             {\"name\":\"size\",\"xen-rs\":7,\"above-limit\":false}],\"notes\":[\"a note\"]}]\n"
        );
        assert_eq!(json_text("a\n"), "\"a\\u000a\"");
    }

    #[test]
    fn what_is_above_its_limit_is_named() {
        let error = check(&groups()).unwrap_err().to_string();
        assert_eq!(error, "above the limit: boot");
        assert!(check(&[]).is_ok());
    }
}
