//! `milepost-prover serve --listen` as a process, asked over the network for a real proof.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use milepost_prover::{Error, IMAGE_ID, Key, Pin, Prover, Remote, RemoteOptions, sample_request, verify};

const PROVER: &str = env!("CARGO_BIN_EXE_milepost-prover");

/// A server that ends with its test.
struct Serving {
    process: Child,
    address: String,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.process.kill().expect("it still ran");
        self.process.wait().expect("it ended");
    }
}

fn identity(key: &Path) -> Pin {
    let out = Command::new(PROVER).args(["identity", "--key"]).arg(key).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).trim().parse().unwrap()
}

fn serve(key: &Path, admitted: Pin, memory_mb: &str) -> Serving {
    let mut server = Command::new(PROVER);
    server.args(["serve", "--listen", "127.0.0.1:0", "--memory-mb", memory_mb, "--admit", &admitted.to_string(), "--key"]).arg(key);
    let mut process = server.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(process.stdout.take().unwrap()).lines().map(|line| line.expect("a line"));
    let listening = said.find_map(|line| line.strip_prefix("listening on ").map(str::to_owned));
    let address = listening.expect("it says where it listens");
    Serving { process, address }
}

#[tokio::test]
async fn a_real_proof_comes_from_another_machine_and_is_verified_here() {
    let folder = tempfile::tempdir().unwrap();
    let (server_key, node_key) = (folder.path().join("server.pem"), folder.path().join("node.pem"));
    let (server, node) = (identity(&server_key), identity(&node_key));
    let there = serve(&server_key, node, "1024");
    let ours = Key::at(&node_key).unwrap();
    let prover = Remote::new(RemoteOptions::new(&there.address, server), &ours).unwrap();
    let proof = prover.prove(sample_request()).await.expect("a proof");
    let verified = verify(&proof.receipt, IMAGE_ID, &sample_request().statement).unwrap();
    assert_eq!(verified.statement, sample_request().statement);
    println!("10 tokens over the network: {:.1} s, {} bytes", proof.seconds, proof.receipt.len());

    let stranger = Remote::new(RemoteOptions::new(&there.address, server), &Key::generate().unwrap()).unwrap();
    let refused = stranger.prove(sample_request()).await.expect_err("a stranger");
    assert!(matches!(refused, Error::NotAdmitted { .. }), "{refused:?}");
}

#[tokio::test]
async fn a_server_keeps_its_own_memory_ceiling_whatever_it_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let (server_key, node_key) = (folder.path().join("server.pem"), folder.path().join("node.pem"));
    let (server, node) = (identity(&server_key), identity(&node_key));
    let there = serve(&server_key, node, "64");
    let options = RemoteOptions { memory_mb: 4_096, ..RemoteOptions::new(&there.address, server) };
    let prover = Remote::new(options, &Key::at(&node_key).unwrap()).unwrap();
    let error = prover.prove(sample_request()).await.expect_err("there is no proof in 64 MB");
    assert!(matches!(error, Error::OutOfMemory { ceiling_mb: 64, .. }), "{error:?}");
}

#[test]
fn a_server_without_nodes_or_with_an_open_key_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("server.pem");
    let pin = identity(&key).to_string();
    let key_file = key.display().to_string();
    let start = |arguments: &[&str]| Command::new(PROVER).arg("serve").args(arguments).stdin(Stdio::null()).output().unwrap();
    let nobody = start(&["--listen", "127.0.0.1:0", "--key", &key_file]);
    assert_eq!(nobody.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("nobody is admitted"));
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let open = start(&["--listen", "127.0.0.1:0", "--key", &key_file, "--admit", &pin]);
    assert_eq!(open.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&open.stderr).contains("chmod 600"));
}
