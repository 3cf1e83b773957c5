//! Provers that are absent, broken, wrong or wedged: each has its own error, and none is waited for for long.
#![cfg(feature = "stark")]

#[macro_use]
mod fake;

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use fake::{Fake, hello};
use milepost_prover::protocol::{FromWorker, PROTOCOL, VERSION};
use milepost_prover::{
    Cache, Error, IMAGE_ID, Mock, Options, Patience, Process, Prover, Status, VerifyError, enough_mb, sample_request, self_test,
};
use milepost_statement::{ChainId, Digest, ProofKind};

#[tokio::test]
async fn an_absent_prover_is_named() {
    let error = Process::new(Options::new("/nowhere/milepost-prover")).prove(sample_request()).await.unwrap_err();
    assert_eq!(error.to_string(), "there is no prover at /nowhere/milepost-prover");
    assert_error!(error, Error::Absent { .. });
}

#[tokio::test]
async fn a_file_that_cannot_be_executed_is_told_from_an_absent_one() {
    let fake = Fake::new("say hello");
    std::fs::set_permissions(fake.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_error!(fake.error().await, Error::NotExecutable { .. });
    // Executable, but of no known format; and a script whose interpreter is missing.
    for content in [&b"\x7fELF but not really"[..], b"#!/nowhere/sh\n"] {
        fake.install(content);
        assert_error!(fake.error().await, Error::NotExecutable { .. });
    }
}

#[tokio::test]
async fn another_program_is_not_taken_for_a_prover() {
    assert_error!(Fake::new("echo I am something else entirely").error().await, Error::NotAProver { .. });
    assert_error!(Fake::new("exit 0").error().await, Error::NotAProver { .. });
    assert_error!(Fake::new("say beat; exec sleep 60").error().await, Error::NotAProver { .. });
}

#[tokio::test]
async fn a_prover_of_another_version_is_refused() {
    let fake = Fake::new("say old; exec sleep 60").with("old", &hello(PROTOCOL, "0.0.1", IMAGE_ID), b"");
    assert_error!(fake.error().await, Error::WrongVersion { theirs, .. } if theirs.starts_with("0.0.1"));
    let fake = Fake::new("say new; exec sleep 60").with("new", &hello(PROTOCOL + 1, VERSION, IMAGE_ID), b"");
    assert_error!(fake.error().await, Error::WrongVersion { .. });
}

#[tokio::test]
async fn a_prover_with_another_guest_is_refused() {
    let fake = Fake::new("say other; exec sleep 60").with("other", &hello(PROTOCOL, VERSION, Digest([9; 32])), b"");
    assert_error!(fake.error().await, Error::WrongImage { theirs: Digest(bytes), .. } if *bytes == [9; 32]);
}

#[tokio::test]
async fn a_crash_is_reported_with_its_status_and_last_words() {
    let early = Fake::new("echo no such library >&2; exit 127").error().await;
    assert_error!(early, Error::Crashed { status, stderr } if status.contains("127") && stderr.contains("no such library"));
    let late = Fake::new("say hello; read -r _ < /dev/stdin; echo out of memory >&2; exit 9").error().await;
    assert_error!(late, Error::Crashed { status, stderr } if status.contains('9') && stderr.contains("out of memory"));
    let killed = Fake::new("say hello; kill -9 $$").error().await;
    assert_error!(killed, Error::Crashed { status, .. } if status.contains("signal: 9"));
}

#[tokio::test]
async fn a_prover_that_falls_silent_is_killed() {
    // It greets, gives one sign of life, and hangs; its process id is left behind to look for.
    let fake = Fake::new("say hello; say beat; echo $$ > \"$(dirname \"$0\")/pid\"; exec sleep 600");
    let prover = Process::new(Options {
        patience: Patience { silence: Duration::from_secs(1), ..Patience::default() },
        ..Options::new(fake.path())
    });
    assert_error!(prover.prove(sample_request()).await.unwrap_err(), Error::Hung { what: "no sign of life", .. });
    let pid = std::fs::read_to_string(fake.folder.path().join("pid")).unwrap();
    assert!(!PathBuf::from(format!("/proc/{}", pid.trim())).exists(), "the worker is gone");
}

#[tokio::test]
async fn a_prover_that_never_greets_is_killed() {
    let fake = Fake::new("exec sleep 600");
    let prover = Process::new(Options {
        patience: Patience { greeting: Duration::from_millis(200), ..Patience::default() },
        ..Options::new(fake.path())
    });
    assert_error!(prover.prove(sample_request()).await.unwrap_err(), Error::Hung { what: "no greeting", .. });
}

#[tokio::test]
async fn signs_of_life_without_progress_do_not_last_for_ever() {
    let fake = Fake::new("say hello; while say beat; do sleep 0.05; done");
    let prover = Process::new(Options {
        patience: Patience { segment: Duration::from_millis(75), ..Patience::default() },
        ..Options::new(fake.path())
    });
    assert_error!(prover.prove(sample_request()).await.unwrap_err(), Error::Hung { what: "no segment was finished", .. });
}

#[tokio::test]
async fn announced_progress_is_not_believed_without_end() {
    // It says that the same segments are proven again and again, more of them than there are, or before it ran the guest.
    let executed = |segments| FromWorker::Executed { id: 1, cycles: 1, po2: vec![14; segments] };
    let proven = |segments| FromWorker::Proven { id: 1, segments };
    for (script, why) in [
        ("say one; say first; say first", "Proven"),
        ("say one; say first; say second", "Proven"),
        ("say first", "Proven"),
        ("say one; say one", "Executed"),
    ] {
        let fake = Fake::new(&format!("say hello; {script}; exec sleep 60"));
        let fake = fake.with("one", &executed(1), b"").with("first", &proven(1), b"").with("second", &proven(2), b"");
        assert_error!(fake.error().await, Error::NotAProver { why: said, .. } if said.contains(why) && said.contains("out of turn"));
    }
}

#[tokio::test]
async fn more_work_than_the_claim_can_be_is_not_waited_for() {
    // Each segment that is announced is waited for: neither larger ones than are cut nor more than the input can fill.
    for po2 in [vec![17], vec![14; 100]] {
        let executed = FromWorker::Executed { id: 1, cycles: 1, po2 };
        let fake = Fake::new("say hello; say executed; exec sleep 60").with("executed", &executed, b"");
        assert_error!(fake.error().await, Error::NotAProver { why, .. } if why.contains("out of turn"));
    }
}

#[tokio::test]
async fn a_larger_segment_has_more_time() {
    // A segment of 2^16 cycles may take four times as long as one of 2^14: after 1.2 s, and not after 0.3 s.
    for (po2, at_least) in [(14, Duration::from_millis(300)), (16, Duration::from_millis(1_200))] {
        let executed = FromWorker::Executed { id: 1, cycles: 1, po2: vec![po2] };
        let fake = Fake::new("say hello; say executed; while say beat; do sleep 0.05; done").with("executed", &executed, b"");
        let patience = Patience { segment: Duration::from_millis(300), ..Patience::default() };
        let prover = Process::new(Options { patience, ..Options::new(fake.path()) });
        let error = prover.prove(sample_request()).await.unwrap_err();
        assert_error!(error, Error::Hung { silent, .. } if *silent > at_least);
    }
}

#[tokio::test]
async fn a_prover_that_speaks_no_frames_any_more_is_ended() {
    // A greeting as it should be, then bytes that are none of the protocol's; and a header beyond any size.
    for garbage in ["echo and now for something else", "printf '\\377\\377\\377\\377\\0\\0\\0\\0'"] {
        let fake = Fake::new(&format!("echo $$ > \"$(dirname \"$0\")/pid\"; say hello; {garbage}; exec sleep 600"));
        assert_error!(fake.error().await, Error::NotAProver { .. });
        let pid = std::fs::read_to_string(fake.folder.path().join("pid")).unwrap();
        assert!(!PathBuf::from(format!("/proc/{}", pid.trim())).exists(), "the worker is gone");
    }
}

#[tokio::test]
async fn a_prover_without_memory_is_told_from_one_that_crashed() {
    let executed = FromWorker::Executed { id: 1, cycles: 1, po2: vec![15] };
    let caught = FromWorker::Failed { id: Some(1), code: "proving".into(), message: "segment 0: std::bad_alloc".into() };
    for end in [
        "echo memory allocation of 4096 bytes failed >&2; kill -6 $$",
        "echo \"terminate called after throwing an instance of 'std::bad_alloc'\" >&2; kill -6 $$",
        "say caught; exec sleep 60",
    ] {
        let fake = Fake::new(&format!("say hello; head -c 200 > /dev/null; say executed; {end}"));
        let fake = fake.with("executed", &executed, b"").with("caught", &caught, b"");
        let prover = Process::new(Options { memory_mb: 100, ..Options::new(fake.path()) });
        let error = prover.prove(sample_request()).await.unwrap_err();
        assert_eq!(error.code(), "MP-P-014");
        assert!(error.to_string().contains("100 MB") && error.to_string().contains(&format!("{} MB", enough_mb(&[15]))), "{error}");
        assert!(!error.is_transient() && error.advice().contains("prover.memory_mb"));
    }
}

#[tokio::test]
async fn the_worker_is_told_its_memory_ceiling() {
    let fake = Fake::new("cd \"$(dirname \"$0\")\"; say hello; head -c 200 > request; exit 5");
    let prover = Process::new(Options { memory_mb: 777, ..Options::new(fake.path()) });
    assert_error!(prover.prove(sample_request()).await.unwrap_err(), Error::Crashed { .. });
    let asked = std::fs::read(fake.folder.path().join("request")).unwrap();
    assert!(String::from_utf8_lossy(&asked).contains("\"memory_mb\":777,"));
}

#[tokio::test]
async fn a_refusal_of_the_prover_is_passed_on() {
    let refusal = FromWorker::Failed { id: Some(1), code: "guest".into(), message: "no checkpoints".into() };
    let fake = Fake::new("say hello; say failed; exec sleep 60").with("failed", &refusal, b"");
    assert_error!(fake.error().await, Error::Refused { code, .. } if code == "guest");
}

#[tokio::test]
async fn a_receipt_is_verified_before_it_is_returned() {
    let done = FromWorker::Done { id: 1, cycles: 1, po2: vec![14], seconds: 1.0 };
    for (body, expected) in [
        (&b"whatever"[..], VerifyError::Format("it does not begin as one".into())),
        (b"MILEPOST TEST PROOF\n and a journal", VerifyError::Mock),
        (b"MILEPOST RECEIPT 1\n\x03\x00", VerifyError::Fake),
        (b"MILEPOST RECEIPT 1\n\x01", VerifyError::Kind { expected: ProofKind::Composite, found: "succinct" }),
        (b"MILEPOST RECEIPT 1\n\x02", VerifyError::Kind { expected: ProofKind::Composite, found: "Groth16" }),
    ] {
        let fake = Fake::new("say hello; say done; exec sleep 60").with("done", &done, body);
        assert_error!(fake.error().await, Error::Invalid(why) if *why == expected);
    }
}

#[tokio::test]
async fn a_worker_gets_no_secrets() {
    // The harness sets several variables for every test; of these, a worker must see the harmless ones only.
    let fake = Fake::new("env > \"$(dirname \"$0\")/env\"; exit 5");
    assert_error!(fake.error().await, Error::Crashed { .. });
    let seen = std::fs::read_to_string(fake.folder.path().join("env")).unwrap();
    assert!(seen.contains("PATH="));
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some() && !seen.contains("CARGO_MANIFEST_DIR"), "{seen}");
}

#[tokio::test]
async fn cancelling_a_proof_kills_its_worker() {
    let fake = Fake::new("echo $$ > \"$(dirname \"$0\")/pid\"; say hello; while say beat; do sleep 0.05; done");
    let prover = Arc::new(fake.prover());
    let proof = tokio::spawn({
        let prover = prover.clone();
        async move { prover.prove(sample_request()).await }
    });
    let pid = loop {
        match std::fs::read_to_string(fake.folder.path().join("pid")) {
            Ok(pid) if pid.ends_with('\n') => break pid,
            _ => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    proof.abort();
    let gone = async {
        while PathBuf::from(format!("/proc/{}", pid.trim())).exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.expect("the worker outlived its cancelled proof");
}

#[tokio::test]
async fn one_proof_is_made_at_a_time() {
    let refusal = FromWorker::Failed { id: None, code: "guest".into(), message: String::new() };
    let script = "cd \"$(dirname \"$0\")\"; mkdir busy || touch overlap; say hello; sleep 0.1; rmdir busy; say failed; exec sleep 60";
    let fake = Fake::new(script).with("failed", &refusal, b"");
    let prover = fake.prover();
    let prove = || prover.prove(sample_request());
    let outcomes = tokio::join!(prove(), prove(), prove(), prove());
    for outcome in [outcomes.0, outcomes.1, outcomes.2, outcomes.3] {
        assert_error!(outcome.unwrap_err(), Error::Refused { .. });
    }
    assert!(!fake.folder.path().join("overlap").exists());
}

#[tokio::test]
async fn a_prover_that_dies_is_not_restarted_at_once() {
    let fake = Fake::new("exit 5");
    let prover = fake.prover();
    let mut took = Vec::new();
    for _ in 0..3 {
        let started = std::time::Instant::now();
        assert_error!(prover.prove(sample_request()).await.unwrap_err(), Error::Crashed { .. });
        took.push(started.elapsed());
    }
    assert!(took[1] >= Duration::from_millis(250) && took[2] >= Duration::from_millis(500), "{took:?}");
}

#[tokio::test]
async fn only_a_claim_near_its_deadline_runs_at_normal_priority() {
    let hours = Duration::from_hours(1);
    let soon = Duration::from_mins(1);
    for (deadline, nice) in [(None, 10), (Some(hours), 10), (Some(soon), 0)] {
        let fake = Fake::new("cd \"$(dirname \"$0\")\"; say hello; head -c 200 > request; exit 5");
        let mut request = sample_request();
        request.deadline = deadline.map(|left| std::time::SystemTime::now() + left);
        assert_error!(fake.prover().prove(request).await.unwrap_err(), Error::Crashed { .. });
        let asked = std::fs::read(fake.folder.path().join("request")).unwrap();
        let asked = String::from_utf8_lossy(&asked);
        assert!(asked.contains(&format!("\"nice\":{nice},")), "{asked}");
    }
}

#[tokio::test]
async fn the_self_test_names_a_missing_prover_and_its_remedy() {
    let prover: Arc<dyn Prover> = Arc::new(Process::new(Options::new("/nowhere/milepost-prover")));
    let mut status = milepost_prover::watch(prover, None);
    let failed = status.wait_for(|status| matches!(status, Status::Failed { .. })).await.unwrap().clone();
    let Status::Failed { code, message, advice } = failed else { unreachable!() };
    assert_eq!(code, "MP-P-001");
    assert!(message.contains("/nowhere/milepost-prover") && advice.contains("prover.program"));
}

#[tokio::test]
async fn a_mock_prover_is_ready_at_once() {
    let prover: Arc<dyn Prover> = Arc::new(Mock::for_dev_chain(ChainId(31337), "http://127.0.0.1:8545").unwrap());
    let mut status = milepost_prover::watch(prover, None);
    let ready = status.wait_for(Status::is_ready).await.unwrap().clone();
    assert!(matches!(ready, Status::Ready(test) if test.kind == ProofKind::Mock && !test.cached));
}

#[tokio::test]
async fn a_remembered_self_test_does_not_hide_a_prover_that_broke() {
    let fake = Fake::new("say hello; exec sleep 60");
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::new(folder.path().join("state/self-test.json"));
    let fingerprint = fake.prover().fingerprint().await.unwrap().unwrap();
    std::fs::create_dir_all(cache.path().parent().unwrap()).unwrap();
    let remembered = format!(r#"{{"fingerprint":"{fingerprint}","seconds":16.5}}"#);
    std::fs::write(cache.path(), &remembered).unwrap();
    let test = self_test(&fake.prover(), Some(&cache)).await.unwrap();
    assert!(test.cached && (test.seconds - 16.5).abs() < f64::EPSILON);

    // The same file, no longer executable.
    std::fs::set_permissions(fake.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_error!(self_test(&fake.prover(), Some(&cache)).await.unwrap_err(), Error::NotExecutable { .. });

    // Another file under the same name: not what was tested.
    let other = Fake::new("# changed\nsay hello; say failed; exec sleep 60");
    let refusal = FromWorker::Failed { id: Some(1), code: "guest".into(), message: String::new() };
    let other = other.with("failed", &refusal, b"");
    assert_error!(self_test(&other.prover(), Some(&cache)).await.unwrap_err(), Error::Refused { .. });
}

/// Runs this very test again in a process whose environment has the variable: a test cannot set it for its own.
#[tokio::test]
async fn development_mode_is_refused_before_anything_else() {
    const NAME: &str = "development_mode_is_refused_before_anything_else";
    if std::env::var_os("MILEPOST_TEST_INNER").is_some() {
        let request = sample_request();
        let refused = milepost_prover::verify(b"anything", IMAGE_ID, &request.statement);
        assert_eq!(refused, Err(VerifyError::DevMode));
        let prover = Process::new(Options::new("/nowhere/milepost-prover"));
        assert_error!(prover.prove(request).await.unwrap_err(), Error::DevMode);
        assert_error!(prover.identify().await.unwrap_err(), Error::DevMode);
        return;
    }
    for value in ["1", "true", "yes", "anything"] {
        let mut inner = Command::new(std::env::current_exe().unwrap());
        let run = inner.args(["--exact", NAME]).env("MILEPOST_TEST_INNER", "1").env("RISC0_DEV_MODE", value).output().unwrap();
        let out = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success() && out.contains("1 passed"), "development mode was not refused ({value}): {out}");
    }
}
