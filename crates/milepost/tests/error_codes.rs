//! The table of error codes (`docs/errors.md`) against the sources: each code is in it, with the words that the program says, and
//! none means two things.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A code where it is given to an error, and the variants it is given to.
#[derive(Debug)]
struct Definition {
    file: PathBuf,
    variants: Vec<String>,
}

/// What the sources say.
#[derive(Debug, Default)]
struct Sources {
    /// Where each code is mentioned.
    mentions: BTreeMap<String, BTreeSet<PathBuf>>,
    definitions: BTreeMap<String, Vec<Definition>>,
    /// What is said under each code, and where.
    words: Vec<(String, String, PathBuf)>,
    /// Faults that show while reading.
    faults: Vec<String>,
}

/// The codes in a text, with the byte behind each.
fn codes(text: &str) -> Vec<(String, usize)> {
    text.match_indices("MP-").filter_map(|(at, _)| code_at(text, at)).collect()
}

fn code_at(text: &str, at: usize) -> Option<(String, usize)> {
    let letters = text[at + 3..].bytes().take_while(u8::is_ascii_uppercase).count();
    let digits = at + 3 + letters + 1;
    let is_code = (1..=3).contains(&letters)
        && text.as_bytes().get(digits - 1) == Some(&b'-')
        && text.as_bytes().get(digits..digits + 3)?.iter().all(u8::is_ascii_digit);
    is_code.then(|| (text[at..digits + 3].to_owned(), digits + 3))
}

/// A message with `…` for what differs: placeholders as `format!` knows them.
fn normal(message: &str) -> String {
    let mut normal = String::new();
    let mut rest = message;
    while let Some((before, after)) = rest.split_once('{') {
        normal.push_str(before);
        normal.push('…');
        rest = after.split_once('}').map_or("", |(_, rest)| rest);
    }
    normal + rest
}

/// A string literal's text up to its closing quote. Messages with quotes in them are no error's here.
fn literal(text: &str) -> &str {
    text.split_once('"').map_or(text, |(literal, _)| literal)
}

impl Sources {
    fn read(&mut self, file: &Path, text: &str) {
        // What tests expect is no definition.
        let text = text.split_once("#[cfg(test)]\nmod ").map_or(text, |(before, _)| before);
        for (code, end) in codes(text) {
            self.mentions.entry(code.clone()).or_default().insert(file.to_owned());
            if let Some(said) = text[end..].strip_prefix("] ") {
                let words = normal(literal(said));
                // A prefix alone says nothing; what follows it stands elsewhere.
                if !words.is_empty() {
                    self.words.push((code.clone(), words, file.to_owned()));
                }
            }
            let line = text[..end].rsplit('\n').next().unwrap_or_default();
            if let Some((pattern, _)) = line.split_once("=> \"").filter(|_| text[end..].starts_with('"')) {
                let variants = pattern.split("Self::").skip(1).map(word).collect();
                self.definitions.entry(code).or_default().push(Definition { file: file.to_owned(), variants });
            }
        }
        self.attributes(file, text);
    }

    /// `#[error("…")] Variant`: the words of a variant belong to its code, and a code in them is its own.
    fn attributes(&mut self, file: &Path, text: &str) {
        for (at, opening) in text.match_indices("#[error(") {
            let inside = text[at + opening.len()..].trim_start();
            let Some(message) = inside.strip_prefix('"') else { continue };
            let message = literal(message);
            let Some((_, behind)) = inside.split_once(")]\n") else { continue };
            let variant = word(behind.trim_start());
            let own = self.definitions.iter().find(|(_, definitions)| {
                let here = |definition: &&Definition| definition.file == file && definition.variants.contains(&variant);
                definitions.iter().any(|definition| here(&definition))
            });
            let Some((own, _)) = own else { continue };
            match codes(message).first() {
                Some((code, _)) if code != own => {
                    self.faults.push(format!("{}: {variant} has code {own} and says {code}", file.display()));
                }
                Some(_) => {}
                None => self.words.push((own.clone(), normal(message), file.to_owned())),
            }
        }
    }
}

/// The identifier that a text begins with.
fn word(text: &str) -> String {
    text.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
}

fn walk(folder: &Path, sources: &mut Sources) {
    for entry in std::fs::read_dir(folder).expect("a folder of the sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            walk(&path, sources);
        } else if path.extension().is_some_and(|ending| ending == "rs") && path.file_name().is_some_and(|name| name != "tests.rs") {
            sources.read(&path, &std::fs::read_to_string(&path).expect("a source is text"));
        }
    }
}

/// What is wrong between the table and the sources.
fn faults(sources: &Sources, table: &str) -> Vec<String> {
    let mut faults = sources.faults.clone();
    let mut rows: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for line in table.lines().filter(|line| line.starts_with("| `MP-")) {
        let cells: Vec<_> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let code = cells[0].trim_matches('`').to_owned();
        if cells.len() != 4 || cells.iter().any(|cell| cell.is_empty()) {
            faults.push(format!("{code}: a row has code, words, what was wrong and what to do"));
        }
        if rows.insert(code.clone(), cells).is_some() {
            faults.push(format!("{code} has two rows"));
        }
    }
    for (code, files) in &sources.mentions {
        if !rows.contains_key(code) {
            faults.push(format!("{code} is in no row ({files:?})"));
        }
    }
    for code in rows.keys().filter(|code| !sources.mentions.contains_key(*code)) {
        faults.push(format!("{code} has a row, and no source knows it"));
    }
    for (code, words, file) in &sources.words {
        if rows.get(code).is_some_and(|cells| !cells[1].split("<br>").any(|said| said == words)) {
            faults.push(format!("{code} says {words:?} in {}, which its row does not: is it another thing?", file.display()));
        }
    }
    let mut homes: BTreeMap<&str, BTreeSet<PathBuf>> = BTreeMap::new();
    for (code, definitions) in &sources.definitions {
        if definitions.len() > 1 {
            faults.push(format!("{code} is defined {} times: {definitions:?}", definitions.len()));
        }
        let home = homes.entry(&code[..code.len() - 4]).or_default();
        home.extend(definitions.iter().map(|definition| definition.file.clone()));
    }
    for (family, files) in homes.iter().filter(|(_, files)| files.len() > 1) {
        faults.push(format!("codes {family}-… are defined in {files:?}: one file keeps them apart"));
    }
    faults
}

#[test]
fn every_error_code_is_in_the_table_with_its_words_and_means_one_thing() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut sources = Sources::default();
    for entry in std::fs::read_dir(root.join("crates")).expect("the crates") {
        let folder = entry.expect("an entry").path().join("src");
        if folder.is_dir() {
            walk(&folder, &mut sources);
        }
    }
    assert!(sources.definitions.len() > 50 && sources.words.len() > 50, "the sources were read: {}", sources.definitions.len());
    let table = std::fs::read_to_string(root.join("docs/errors.md")).expect("the table");
    let faults = faults(&sources, &table);
    assert!(faults.is_empty(), "docs/errors.md:\n{}", faults.join("\n"));
}

/// The check itself: each kind of fault is found.
#[test]
fn a_code_that_is_missing_or_given_twice_is_found() {
    const SOURCE: &str = r#"
enum Error {
    #[error("[MP-X-001] {what} is wrong")]
    Wrong,
    #[error("nothing was {found:?} there")]
    Nothing,
}
fn code(&self) -> &'static str {
    match self {
        Self::Wrong => "MP-X-001",
        Self::Nothing { .. } => "MP-X-002",
    }
}
"#;
    const TABLE: &str = "| `MP-X-001` | … is wrong | it was | mend it |\n| `MP-X-002` | nothing was … there | none | look |\n";
    let found = |source: &str, table: &str| {
        let mut sources = Sources::default();
        sources.read(Path::new("a.rs"), source);
        faults(&sources, table).join("\n")
    };
    assert_eq!(found(SOURCE, TABLE), "");
    let extended = |more: &str| SOURCE.replace("fn code", &format!("{more}\nfn code"));
    for (source, table, fault) in [
        (SOURCE.to_owned(), TABLE.replace("| `MP-X-002`", "|"), "MP-X-002 is in no row"),
        (SOURCE.to_owned(), format!("{TABLE}| `MP-X-003` | a | b | c |\n"), "no source knows it"),
        (SOURCE.to_owned(), TABLE.replace(" | look", ""), "a row has code, words"),
        (SOURCE.to_owned(), format!("{TABLE}{TABLE}"), "two rows"),
        (extended("warn!(\"[MP-X-001] something else\");"), TABLE.to_owned(), "is it another thing?"),
        (SOURCE.replace("nothing was", "something was"), TABLE.to_owned(), "is it another thing?"),
        (SOURCE.replace("Self::Wrong =>", "Self::Wrong => \"MP-X-002\",\nSelf::Other =>"), TABLE.to_owned(), "defined 2 times"),
        (SOURCE.replace("\"[MP-X-001] {what}", "\"[MP-X-002] {what}"), TABLE.to_owned(), "has code MP-X-001 and says MP-X-002"),
    ] {
        let found = found(&source, &table);
        assert!(found.contains(fault), "{fault}: {found}");
    }
    // Two files with one family.
    let mut sources = Sources::default();
    sources.read(Path::new("a.rs"), SOURCE);
    sources.read(Path::new("b.rs"), "Self::Third => \"MP-X-003\",");
    assert!(faults(&sources, TABLE).iter().any(|fault| fault.contains("one file keeps them apart")));
}
