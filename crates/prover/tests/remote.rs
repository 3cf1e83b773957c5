//! Proving on another machine: who is let in, who is believed, and what becomes of those who are slow, loud or gone.
#![cfg(feature = "stark")]

#[macro_use]
mod fake;
mod raw;

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use fake::hello;
use milepost_prover::protocol::{FromWorker, PROTOCOL, VERSION, write_frame};
use milepost_prover::{
    Error, IMAGE_ID, Key, Options, Patience, Prover, Remote, RemoteOptions, Server, ServerOptions, VerifyError, enough_mb, sample_request,
};
use milepost_statement::Digest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Many times what anything here takes on a busy machine.
const LONG: Duration = Duration::from_mins(1);

/// The node's key, in the server's folder.
const NODE_KEY: &str = "node.pem";

/// A server on this machine whose worker is a script.
struct There {
    folder: tempfile::TempDir,
    address: String,
    key: Key,
    node: Key,
    running: JoinHandle<()>,
}

impl Drop for There {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl There {
    /// In the script, `say NAME` writes the frame put down under that name; it runs in a folder of its own.
    async fn new(script: &str, frames: &[(&str, FromWorker, &[u8])]) -> Self {
        Self::with(script, frames, |_| ()).await
    }

    async fn with(script: &str, frames: &[(&str, FromWorker, &[u8])], change: impl FnOnce(&mut ServerOptions)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path().display();
        let greeting = hello(PROTOCOL, VERSION, IMAGE_ID);
        for (name, message, body) in frames.iter().chain(&[("hello", greeting, &b""[..]), ("beat", FromWorker::Heartbeat {}, b"")]) {
            let mut frame = Vec::new();
            write_frame(&mut frame, message, body).unwrap();
            std::fs::write(folder.path().join(name), frame).unwrap();
        }
        let draft = folder.path().join("draft");
        std::fs::write(&draft, format!("#!/bin/sh\nsay() {{ cat \"{here}/$1\"; }}\ncd \"{here}\"\n{script}\n")).unwrap();
        let program = folder.path().join("milepost-prover");
        // By way of another process: a file that is open for writing anywhere in this one cannot be executed.
        assert!(Command::new("install").args(["-m", "755"]).arg(draft).arg(&program).status().unwrap().success());
        let (key, node) = (Key::generate().unwrap(), Key::at(&folder.path().join(NODE_KEY)).unwrap());
        let mut options = ServerOptions::new(Options::new(program), vec![node.pin()]);
        change(&mut options);
        let server = Server::new(options, &key).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let running = tokio::spawn(async move { server.run(listener).await });
        Self { folder, address, key, node, running }
    }

    async fn raw(&self) -> raw::Node {
        raw::Node::connect(&self.address, &self.folder.path().join(NODE_KEY)).await
    }

    fn options(&self) -> RemoteOptions {
        RemoteOptions::new(&self.address, self.key.pin())
    }

    fn prover(&self) -> Remote {
        Remote::new(self.options(), &self.node).unwrap()
    }

    async fn error(&self) -> Error {
        self.prover().prove(sample_request()).await.expect_err("there is no proof here")
    }

    /// What the script wrote, once it has.
    async fn written(&self, name: &str) -> String {
        let path = self.folder.path().join(name);
        let deadline = Instant::now() + LONG;
        while Instant::now() < deadline {
            match std::fs::read_to_string(&path) {
                Ok(text) if text.ends_with('\n') => return text.trim().to_owned(),
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
        panic!("{name} was never written");
    }

    fn exists(&self, name: &str) -> bool {
        self.folder.path().join(name).exists()
    }
}

async fn gone(pid: &str) {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let deadline = Instant::now() + LONG;
    while process.exists() {
        assert!(Instant::now() < deadline, "the worker outlived its connection");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_node_that_is_admitted_is_greeted() {
    let there = There::new("say hello; exec sleep 60", &[]).await;
    let known = there.prover().fingerprint().await.unwrap().unwrap();
    assert!(known.contains(&there.address) && known.contains(&IMAGE_ID.to_string()), "{known}");
    assert!(!there.exists("asked"), "no worker is started for a greeting");
}

#[tokio::test]
async fn a_prover_that_is_not_there_is_named() {
    let vacant = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let key = Key::generate().unwrap();
    let prover = Remote::new(RemoteOptions::new(&vacant, key.pin()), &key).unwrap();
    assert_error!(prover.prove(sample_request()).await.unwrap_err(), Error::Unreachable { address, .. } if *address == vacant);
}

#[tokio::test]
async fn a_stranger_is_not_served_and_told_so() {
    let there = There::new("touch asked; say hello; exec sleep 60", &[]).await;
    let stranger = Key::generate().unwrap();
    let prover = Remote::new(there.options(), &stranger).unwrap();
    assert_error!(prover.fingerprint().await.expect_err("a stranger was greeted"), Error::NotAdmitted { .. });
    assert_error!(
        prover.prove(sample_request()).await.unwrap_err(),
        Error::NotAdmitted { ours, .. } if *ours == stranger.pin().to_string()
    );
    assert!(!there.exists("asked"), "no process is started for a stranger");
}

#[tokio::test]
async fn a_server_with_another_identity_is_told_nothing() {
    let there = There::new("touch asked; say hello; exec sleep 60", &[]).await;
    let meant = Key::generate().unwrap().pin();
    let prover = Remote::new(RemoteOptions::new(&there.address, meant), &there.node).unwrap();
    assert_error!(
        prover.prove(sample_request()).await.unwrap_err(),
        Error::WrongIdentity { expected, found, .. } if *expected == meant.to_string() && *found == there.key.pin().to_string()
    );
    assert!(!there.exists("asked"));
}

#[tokio::test]
async fn a_server_whose_own_worker_is_of_another_release_says_so() {
    for (greeting, code) in [
        (hello(PROTOCOL + 1, VERSION, IMAGE_ID), "MP-P-004"),
        (hello(PROTOCOL, "0.0.1", IMAGE_ID), "MP-P-004"),
        (hello(PROTOCOL, VERSION, Digest([9; 32])), "MP-P-005"),
    ] {
        let there = There::new("say other; exec sleep 60", &[("other", greeting, b"")]).await;
        assert_error!(there.error().await, Error::RemoteFailed { why, .. } if why.contains(code));
    }
}

#[tokio::test]
async fn a_lying_server_is_not_believed() {
    let done = FromWorker::Done { id: 1, cycles: 1, po2: vec![14], seconds: 0.1 };
    for (body, expected) in [
        (&b"whatever"[..], VerifyError::Format("it does not begin as one".into())),
        (b"MILEPOST TEST PROOF\n and a journal", VerifyError::Mock),
        (b"MILEPOST RECEIPT 1\n\x03\x00", VerifyError::Fake),
    ] {
        let there = There::new("say hello; head -c 100 > /dev/null; say done; exec sleep 60", &[("done", done.clone(), body)]).await;
        assert_error!(there.error().await, Error::Invalid(why) if *why == expected);
    }
}

#[tokio::test]
async fn a_worker_that_dies_there_is_reported_here_and_asked_again_after_a_pause() {
    let there = There::new("say hello; echo no such library >&2; exit 127", &[]).await;
    let prover = there.prover();
    let mut took = Vec::new();
    for _ in 0..3 {
        let started = Instant::now();
        let error = prover.prove(sample_request()).await.unwrap_err();
        assert_error!(&error, Error::RemoteFailed { why, .. } if why.contains("MP-P-006") && why.contains("no such library"));
        assert!(error.is_transient());
        took.push(started.elapsed());
    }
    assert!(took[1] >= Duration::from_millis(250) && took[2] >= Duration::from_millis(500), "{took:?}");
}

#[tokio::test]
async fn memory_that_runs_out_there_is_told_with_the_ceiling_of_the_server() {
    let executed = FromWorker::Executed { id: 1, cycles: 1, po2: vec![15] };
    let script = "say hello; head -c 200 > request; say executed; echo memory allocation of 9 bytes failed >&2; kill -6 $$";
    let there = There::with(script, &[("executed", executed, b"")], |it| it.worker.memory_mb = 300).await;
    assert_error!(there.error().await, Error::OutOfMemory { ceiling_mb: 300, enough_mb: enough } if *enough == enough_mb(&[15]));
    let asked = std::fs::read(there.folder.path().join("request")).unwrap();
    assert!(String::from_utf8_lossy(&asked).contains("\"memory_mb\":300,"), "the lower of the two ceilings counts");
}

#[tokio::test]
async fn a_refusal_there_is_a_refusal_here() {
    let refusal = FromWorker::Failed { id: Some(1), code: "guest".into(), message: "no checkpoints".into() };
    let there = There::new("say hello; say failed; exec sleep 60", &[("failed", refusal, b"")]).await;
    assert_error!(there.error().await, Error::Refused { code, .. } if code == "guest");
}

#[tokio::test]
async fn hanging_up_kills_the_worker() {
    let there = There::new("echo $$ > pid; say hello; while say beat; do sleep 0.05; done", &[]).await;
    let prover = std::sync::Arc::new(there.prover());
    let proof = tokio::spawn(async move { prover.prove(sample_request()).await });
    let pid = there.written("pid").await;
    proof.abort();
    gone(&pid).await;
}

#[tokio::test]
async fn the_end_of_a_server_ends_its_workers_and_is_noticed() {
    let there = There::new("echo $$ > pid; say hello; while say beat; do sleep 0.05; done", &[]).await;
    let prover = there.prover();
    let (error, pid) = tokio::join!(prover.prove(sample_request()), async {
        let pid = there.written("pid").await;
        there.running.abort();
        pid
    });
    assert_error!(error.unwrap_err(), Error::RemoteFailed { why, .. } if why.contains("closed"));
    gone(&pid).await;
}

#[tokio::test]
async fn a_server_that_falls_silent_is_given_up() {
    // The server's own patience is the usual one; the node's is shorter, and the connection's end kills the worker there.
    let there = There::new("echo $$ > pid; say hello; exec sleep 600", &[]).await;
    let patience = Patience { silence: Duration::from_secs(3), ..Patience::default() };
    let prover = Remote::new(RemoteOptions { patience, ..there.options() }, &there.node).unwrap();
    assert_error!(prover.prove(sample_request()).await.unwrap_err(), Error::Hung { what: "no sign of life", .. });
    gone(&there.written("pid").await).await;
}

#[tokio::test]
async fn one_proof_is_made_at_a_time_and_those_who_wait_too_long_are_told() {
    let there = There::with("echo $$ >> started; say hello; while say beat; do sleep 0.05; done", &[], |it| {
        it.queue = Duration::from_millis(300);
    })
    .await;
    let first = there.prover();
    let first = tokio::spawn(async move { first.prove(sample_request()).await });
    there.written("started").await;
    assert_error!(there.error().await, Error::RemoteFailed { why, .. } if why.contains("come again"));
    let started = std::fs::read_to_string(there.folder.path().join("started")).unwrap();
    assert_eq!(started.lines().count(), 1, "no second worker beside the first");
    first.abort();
}

#[tokio::test]
async fn strangers_who_dawdle_keep_nobody_out() {
    let there = There::with("say hello; exec sleep 60", &[], |it| it.handshake = Duration::from_secs(5)).await;
    // More than there may be handshakes, each of one byte and then nothing.
    let mut dawdling = Vec::new();
    for _ in 0..40 {
        let mut socket = TcpStream::connect(&there.address).await.unwrap();
        socket.write_all(&[0x16]).await.unwrap();
        dawdling.push(socket);
    }
    assert!(there.prover().fingerprint().await.is_ok(), "a node is served meanwhile");
    for mut socket in dawdling {
        let ended = tokio::time::timeout(LONG, socket.read_to_end(&mut Vec::new())).await;
        assert!(ended.is_ok(), "a stranger's connection stood");
    }
}

#[tokio::test]
async fn a_server_of_another_version_or_with_another_guest_is_refused() {
    let greeted = async |greeting| {
        let folder = tempfile::tempdir().unwrap();
        let (address, key) = raw::server_that_says(greeting, folder.path()).await;
        let node = Key::generate().unwrap();
        Remote::new(RemoteOptions::new(address, key.pin()), &node).unwrap().prove(sample_request()).await.unwrap_err()
    };
    assert_error!(greeted(hello(PROTOCOL + 1, VERSION, IMAGE_ID)).await, Error::WrongVersion { .. });
    assert_error!(greeted(hello(PROTOCOL, "0.0.1", IMAGE_ID)).await, Error::WrongVersion { theirs, .. } if theirs.starts_with("0.0.1"));
    assert_error!(greeted(hello(PROTOCOL, VERSION, Digest([9; 32]))).await, Error::WrongImage { theirs: Digest(bytes), .. } if *bytes == [9; 32]);
    assert_error!(greeted(FromWorker::Heartbeat {}).await, Error::RemoteFailed { .. });
}

#[tokio::test]
async fn a_node_that_never_finishes_its_request_is_let_go() {
    let there = There::with("touch asked; say hello; exec sleep 60", &[], |it| it.request = Duration::from_millis(300)).await;
    let mut slow = there.raw().await;
    // A frame that promises 40 MB, and brings one byte of them.
    slow.write(&[20, 0, 0, 0, 0, 0, 0x80, 2, b'{']).await;
    slow.assert_let_go().await;
    assert!(!there.exists("asked"), "no worker is started for half a request");
}

#[tokio::test]
async fn a_frame_beyond_any_claim_is_refused_before_it_is_read() {
    let there = There::with("touch asked; say hello; exec sleep 60", &[], |it| it.request = LONG * 10).await;
    // A header too long; none; a body of 64 MiB, which a receipt may have and no request; and a frame that is no request.
    let mut stop = vec![19, 0, 0, 0, 0, 0, 0, 0];
    stop.extend(br#"{"type":"shutdown"}"#);
    for bytes in [&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0][..], &[0; 8], &[20, 0, 0, 0, 0, 0, 0, 4], &stop] {
        let mut loud = there.raw().await;
        loud.write(bytes).await;
        loud.assert_let_go().await;
    }
    assert!(!there.exists("asked"));
}

#[tokio::test]
async fn another_service_is_not_taken_for_a_prover() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let web = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    });
    let key = Key::generate().unwrap();
    let prover = Remote::new(RemoteOptions::new(address, key.pin()), &key).unwrap();
    assert_error!(prover.fingerprint().await.unwrap_err(), Error::RemoteFailed { .. });
    web.await.unwrap();
}
