//! A program that plays a prover.
#![allow(dead_code, unreachable_pub, reason = "shared by test programs that use different parts")]

use std::path::PathBuf;
use std::process::Command;

use milepost_prover::protocol::{FromWorker, PROTOCOL, VERSION, write_frame};
use milepost_prover::{Error, IMAGE_ID, Options, Process, Prover, sample_request};
use milepost_statement::{Digest, ProofKind};

/// The error, and that code and advice come with it.
macro_rules! assert_error {
    ($error:expr, $pattern:pat $(if $guard:expr)?) => {{
        let error = $error;
        assert!(matches!(&error, $pattern $(if $guard)?), "{error:?}");
        assert!(error.code().starts_with("MP-P-") && !error.advice().is_empty());
    }};
}

/// A folder with the program, and the frames that it says.
pub struct Fake {
    pub folder: tempfile::TempDir,
}

impl Fake {
    /// A shell script; in it, `say NAME` writes the frame that was put down under that name.
    pub fn new(script: &str) -> Self {
        let fake = Self { folder: tempfile::tempdir().unwrap() };
        let folder = fake.folder.path().display();
        fake.install(format!("#!/bin/sh\nsay() {{ cat \"{folder}/$1\"; }}\n{script}\n").as_bytes());
        fake.with("hello", &hello(PROTOCOL, VERSION, IMAGE_ID), b"").with("beat", &FromWorker::Heartbeat {}, b"")
    }

    pub fn with(self, name: &str, message: &FromWorker, body: &[u8]) -> Self {
        let mut frame = Vec::new();
        write_frame(&mut frame, message, body).unwrap();
        std::fs::write(self.folder.path().join(name), frame).unwrap();
        self
    }

    /// Puts the program down, by way of another process: a file that is open for writing anywhere in this one, if only in a
    /// child that is just being started, cannot be executed.
    pub fn install(&self, content: &[u8]) {
        let draft = self.folder.path().join("draft");
        std::fs::write(&draft, content).unwrap();
        assert!(Command::new("install").args(["-m", "755"]).arg(draft).arg(self.path()).status().unwrap().success());
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("milepost-prover")
    }

    pub fn prover(&self) -> Process {
        Process::new(Options::new(self.path()))
    }

    pub async fn error(&self) -> Error {
        self.prover().prove(sample_request()).await.expect_err("a receipt that does not hold was returned as a proof")
    }
}

pub fn hello(protocol: u32, version: &str, image_id: Digest) -> FromWorker {
    FromWorker::Hello { protocol, version: version.into(), image_id, kinds: vec![ProofKind::Composite] }
}
