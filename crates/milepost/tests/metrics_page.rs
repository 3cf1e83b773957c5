//! The page of metrics (`docs/metrics.md`) against the sources: each metric is in it with its type and its labels, and it names none that
//! there is not.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What is known of a metric.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Metric {
    kinds: BTreeSet<String>,
    labels: BTreeSet<String>,
}

type Metrics = BTreeMap<String, Metric>;

const KINDS: [&str; 3] = ["gauge", "counter", "histogram"];

/// Learns from a source: `gauge!("name", "label" => …)`, or `gauge("name", …)` of a function of that name; and each name that stands alone
/// in quotes, whose kind is then given where it is used.
fn read(text: &str, metrics: &mut Metrics) {
    let text = text.split_once("#[cfg(test)]\nmod ").map_or(text, |(before, _)| before);
    for (at, _) in text.match_indices("\"milepost_") {
        let name: String = text[at + 1..].chars().take_while(|letter| letter.is_ascii_alphanumeric() || *letter == '_').collect();
        let behind = &text[at + 1 + name.len()..];
        // A name is all of its literal; a crate's name in a filter, or a part of a text, is none.
        let Some(behind) = behind.strip_prefix('"') else { continue };
        let metric = metrics.entry(name).or_default();
        let before = text[..at].trim_end().trim_end_matches('(').trim_end_matches('!');
        let word: String = before.chars().rev().take_while(|letter| letter.is_ascii_alphanumeric() || *letter == '_').collect();
        let word: String = word.chars().rev().collect();
        let kind = word.strip_prefix("describe_").unwrap_or(&word);
        if text[..at].trim_end().ends_with('(') && KINDS.contains(&kind) {
            metric.kinds.insert(kind.to_owned());
            metric.labels.extend(labels(behind));
        }
    }
    for kind in KINDS {
        for (at, _) in text.match_indices(&format!("{kind}!(name")) {
            // Named by a variable of the lines before: every name among them.
            let before: Vec<_> = text[..at].lines().rev().take(2).collect();
            for line in before {
                for (from, _) in line.match_indices("\"milepost_") {
                    let name: String = line[from + 1..].chars().take_while(|letter| *letter != '"').collect();
                    let metric = metrics.entry(name).or_default();
                    metric.kinds.insert(kind.to_owned());
                    metric.labels.extend(labels(&text[at + kind.len() + 6..]));
                }
            }
        }
    }
}

/// The labels of a call, from behind its name to its end: literals before an arrow.
fn labels(behind: &str) -> BTreeSet<String> {
    let mut depth = 1;
    let end = behind.find(|letter: char| {
        depth += i32::from(letter == '(') - i32::from(letter == ')');
        depth == 0
    });
    let call = &behind[..end.unwrap_or(behind.len())];
    // Behind the last arrow is a value.
    let arrows = call.matches("=>").count();
    call.split("=>").take(arrows).filter_map(|part| Some(part.trim_end().strip_suffix('"')?.rsplit_once('"')?.1.to_owned())).collect()
}

fn walk(folder: &Path, metrics: &mut Metrics) {
    for entry in std::fs::read_dir(folder).expect("a folder of the sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            walk(&path, metrics);
        } else if path.extension().is_some_and(|ending| ending == "rs") && path.file_name().is_some_and(|name| name != "tests.rs") {
            read(&std::fs::read_to_string(&path).expect("a source is text"), metrics);
        }
    }
}

/// What is wrong between the page and the sources.
fn faults(metrics: &Metrics, page: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let mut rows = BTreeSet::new();
    for line in page.lines().filter(|line| line.starts_with("| `milepost_")) {
        let cells: Vec<_> = line.trim().trim_start_matches('|').trim_end_matches('|').split('|').map(str::trim).collect();
        let name = cells[0].trim_matches('`').to_owned();
        if cells.len() != 6 || [1, 3, 4].iter().any(|at| cells[*at].is_empty()) {
            faults.push(format!("{name}: a row has name, type, labels, unit, what it says, and when to alert"));
            continue;
        }
        if !rows.insert(name.clone()) {
            faults.push(format!("{name} has two rows"));
        }
        let Some(metric) = metrics.get(&name) else {
            faults.push(format!("{name} has a row, and no source knows it"));
            continue;
        };
        let labels: BTreeSet<String> =
            cells[2].split(',').map(|label| label.trim().trim_matches('`').to_owned()).filter(|label| !label.is_empty()).collect();
        if metric.kinds != BTreeSet::from([cells[1].to_owned()]) {
            faults.push(format!("{name} is a {:?} in the sources, and a {} on the page", metric.kinds, cells[1]));
        }
        if metric.labels != labels {
            faults.push(format!("{name} has the labels {:?} in the sources, and {labels:?} on the page", metric.labels));
        }
    }
    faults.extend(metrics.keys().filter(|name| !rows.contains(*name)).map(|name| format!("{name} is in no row")));
    faults
}

#[test]
fn every_metric_is_on_the_page_with_its_type_and_its_labels() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut metrics = Metrics::new();
    for part in
        ["gateway", "settlement", "milepost", "prover", "inference", "ledger-db", "validator-net", "checkpoint-db", "finality-gadget"]
    {
        walk(&root.join("crates").join(part).join("src"), &mut metrics);
    }
    // A string that is no metric has no kind anywhere.
    metrics.retain(|_, metric| !metric.kinds.is_empty());
    assert!(metrics.len() > 40, "the sources were read: {metrics:?}");
    let page = std::fs::read_to_string(root.join("docs/metrics.md")).expect("the page");
    let faults = faults(&metrics, &page);
    assert!(faults.is_empty(), "docs/metrics.md:\n{}", faults.join("\n"));
}

/// The check itself: each kind of fault is found.
#[test]
fn a_metric_that_is_missing_or_differs_is_found() {
    const SOURCE: &str = r#"
fn show() {
    metrics::gauge!("milepost_a").set(1.0);
    metrics::counter!("milepost_b_total", "door" => self.door.as_str(), "reason" => why(1)).increment(1);
    let name = if raised { "milepost_c_total" } else { "milepost_d_total" };
    metrics::counter!(name, "purpose" => purpose).increment(1);
    histogram("milepost_e_seconds", seconds);
}
"#;
    const PAGE: &str = "| `milepost_a` | gauge | | 1 | a | |\n| `milepost_b_total` | counter | `door`, `reason` | x | b | |\n\
        | `milepost_c_total` | counter | `purpose` | x | c | |\n| `milepost_d_total` | counter | `purpose` | x | d | |\n\
        | `milepost_e_seconds` | histogram | | seconds | e | often |\n";
    let found = |source: &str, page: &str| {
        let mut metrics = Metrics::new();
        read(source, &mut metrics);
        faults(&metrics, page).join("\n")
    };
    assert_eq!(found(SOURCE, PAGE), "");
    for (source, page, fault) in [
        (SOURCE.to_owned(), PAGE.replace("| `milepost_a`", "|"), "milepost_a is in no row"),
        (SOURCE.to_owned(), format!("{PAGE}| `milepost_f` | gauge | | 1 | f | |\n"), "no source knows it"),
        (SOURCE.to_owned(), format!("{PAGE}{PAGE}"), "two rows"),
        (SOURCE.replace("gauge!", "counter!"), PAGE.to_owned(), "milepost_a is a"),
        (SOURCE.replace("\"reason\" =>", "\"cause\" =>"), PAGE.to_owned(), "milepost_b_total has the labels"),
        (SOURCE.replace("\"purpose\" =>", "\"what\" =>"), PAGE.to_owned(), "milepost_d_total has the labels"),
        (SOURCE.to_owned(), PAGE.replace("| seconds |", "| |"), "a row has name"),
    ] {
        let found = found(&source, &page);
        assert!(found.contains(fault), "{fault}: {found}");
    }
}
