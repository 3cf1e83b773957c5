//! The node killed and started again: it goes on where it stood, contradicts nothing it sent, and says what the guide promises.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

/// What the guide promises to be in the log of a node that has run for a while.
const PROMISED: [&str; 7] = [
    "opening checkpoint database",
    "restored from storage",
    "stored signature",
    "stored certificate",
    "finality advanced",
    "flushed",
    "pruned",
];

struct Node {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Node {
    fn start(database: &Path, arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_embed"))
            .arg(database)
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the node starts");
        let lines = BufReader::new(child.stdout.take().expect("its output is piped")).lines();
        Self { child, lines }
    }

    /// The next line; the node must not end before it comes.
    fn line(&mut self) -> String {
        self.lines.next().expect("the node ended").expect("its output is text")
    }

    fn kill(mut self) {
        self.child.kill().expect("the node is killed");
        self.child.wait().expect("the node has ended");
    }
}

fn number_after(line: &str, words: &str) -> Option<u64> {
    let rest = line.split_once(words)?.1;
    rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok()
}

#[test]
fn a_killed_node_goes_on_where_it_stood_and_never_contradicts_itself() {
    let directory = tempfile::tempdir().expect("a directory");
    let database = directory.path().join("finality");
    let mut votes: BTreeMap<u64, String> = BTreeMap::new();
    let mut told_final = 0;
    for life in 0..4u64 {
        let arguments: &[&str] = if life == 0 { &["--new-key"] } else { &[] };
        let mut node = Node::start(&database, arguments);
        let (mut missing, mut advanced, mut began) = (PROMISED.to_vec(), 0, None);
        // A kill meets the node at another place in each life: some checkpoints after everything promised was seen.
        while !missing.is_empty() || advanced < 7 * life + 3 {
            let line = node.line();
            missing.retain(|promised| !line.contains(promised));
            assert!(!line.contains("recovered:"), "a kill was taken for damage: {line}");
            if let Some(target) = number_after(&line, "vote left: target ") {
                let left = line.split_once("digest").expect("a digest").1.to_owned();
                let before = votes.entry(target).or_insert_with(|| left.clone());
                assert_eq!(*before, left, "the node contradicted what it sent for {target}");
            }
            if let Some(number) = number_after(&line, "final: ") {
                began.get_or_insert(number);
                assert!(number > told_final, "finality went back from {told_final} to {number}");
                told_final = number;
                advanced += u64::from(missing.is_empty());
            }
        }
        println!("life {life}: first final {began:?}, last {told_final}");
        node.kill();
    }
    assert!(votes.len() as u64 >= told_final, "every final checkpoint was voted for");

    let until = (told_final + 5).to_string();
    let mut last = Node::start(&database, &["--until", &until]);
    while last.lines.next().is_some() {}
    assert!(last.child.wait().expect("the node ends").success());
}

#[test]
fn without_a_declaration_a_new_key_does_not_sign() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut node = Node::start(&directory.path().join("finality"), &[]);
    let mut flushes = 0;
    // Maintenance flushes every second; in one second a node that signs has signed many times.
    while flushes < 2 {
        let line = node.line();
        assert!(!line.contains("vote left"), "an undeclared key signed: {line}");
        flushes += u32::from(line.contains("flushed"));
    }
    node.kill();
}
