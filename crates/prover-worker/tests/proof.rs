//! The program itself, with a real proof: made once, shared by all tests that take it apart.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use milepost_prover::protocol::{FromWorker, PROTOCOL, ToWorker, VERSION, read_frame, write_frame};
use milepost_prover::{
    Cache, Error, IMAGE_ID, Options, Process, Proof, ProofRequest, Prover, RECEIPT_TAG, VerifyError, encode_receipt,
    enough_for_any_claim_mb, sample_request, self_test, verify,
};
use milepost_statement::{Address, ChainId, Digest, JobId, ProofKind, Statement, TokenCount, TokenSeq};
use risc0_zkvm::{CompositeReceipt, ExitCode, FakeReceipt, InnerReceipt, MaybePruned, Receipt, ReceiptClaim};
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::OnceCell;

const PROVER: &str = env!("CARGO_BIN_EXE_milepost-prover");

static PROOF: OnceCell<Proof> = OnceCell::const_new();

/// The shared proof. On the way to it the worker is killed once: the second attempt must not mind.
async fn proof() -> &'static Proof {
    PROOF
        .get_or_init(|| async {
            let prover = Process::new(Options::new(PROVER));
            let (first, ()) = tokio::join!(prover.prove(sample_request()), kill_when_proving());
            let crash = first.expect_err("it was killed");
            assert!(matches!(&crash, Error::Crashed { status, .. } if status.contains("signal: 9")), "{crash:?}");
            assert!(crash.is_transient());
            prover.prove(sample_request()).await.expect("a proof after a crash")
        })
        .await
}

/// Kills this process's worker with SIGKILL once it has spent a second of processor time: in the middle of a proof.
async fn kill_when_proving() {
    let deadline = Instant::now() + Duration::from_mins(2);
    while Instant::now() < deadline {
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            if busy_worker(&entry.path()) {
                kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
                return;
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("no worker was seen at work");
}

/// Whether a process is a child of ours that runs `serve` and has used a second of processor time (100 ticks).
fn busy_worker(process: &Path) -> bool {
    let read = |name| std::fs::read_to_string(process.join(name)).unwrap_or_default();
    let stat = read("stat");
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ours = fields.get(1).and_then(|parent| parent.parse().ok()) == Some(std::process::id());
    let ticks: u64 = fields.get(11).and_then(|ticks| ticks.parse().ok()).unwrap_or_default();
    let found = ours && ticks >= 100 && read("cmdline").contains("milepost-prover\0serve");
    if found {
        assert_eq!(fields.get(16), Some(&"10"), "a proof with time runs at low priority: {stat}");
        assert_bounded(process, &read("limits"));
    }
    found
}

/// A worker at work has its memory ceiling, and its disk has time for all others first.
fn assert_bounded(process: &Path, limits: &str) {
    let ceiling = (enough_for_any_claim_mb() << 20).to_string();
    let data = limits.lines().find(|line| line.starts_with("Max data size")).unwrap_or_default();
    assert_eq!(data.matches(&ceiling).count(), 2, "soft and hard limit are {ceiling}: {data}");
    let pid = process.file_name().unwrap();
    let class = Command::new("ionice").arg("-p").arg(pid).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&class.stdout).trim(), "idle");
}

#[tokio::test]
async fn a_proof_beyond_its_memory_ceiling_is_named_and_the_machine_keeps_its_memory() {
    // A node that makes backtraces must not have a worker make them: without memory it would wait for itself.
    if std::env::var_os("RUST_BACKTRACE").is_none() {
        let name = "a_proof_beyond_its_memory_ceiling_is_named_and_the_machine_keeps_its_memory";
        let mut again = Command::new(std::env::current_exe().unwrap());
        assert!(again.args(["--exact", name]).env("RUST_BACKTRACE", "1").status().unwrap().success());
    }
    // Enough to run the guest, and not to prove.
    let prover = Process::new(Options { memory_mb: 64, ..Options::new(PROVER) });
    let error = prover.prove(sample_request()).await.expect_err("there is no proof in 64 MB");
    assert!(
        matches!(error, Error::OutOfMemory { ceiling_mb: 64, enough_mb } if enough_mb == milepost_prover::enough_mb(&[14])),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_composite_receipt_does_not_stand_for_a_seal() {
    // A worker that says it seals, and answers with the true receipt of the very claim.
    let folder = tempfile::tempdir().unwrap();
    let hello = FromWorker::Hello {
        protocol: PROTOCOL,
        version: VERSION.into(),
        image_id: IMAGE_ID,
        kinds: vec![ProofKind::Composite, ProofKind::Groth16],
    };
    let mut frames = Vec::new();
    write_frame(&mut frames, &hello, b"").unwrap();
    let done = FromWorker::Done { id: 1, cycles: 1, po2: vec![14], seconds: 1.0 };
    write_frame(&mut frames, &done, &proof().await.receipt).unwrap();
    std::fs::write(folder.path().join("frames"), frames).unwrap();
    let script = folder.path().join("script");
    std::fs::write(&script, format!("#!/bin/sh\ncat {}\nexec sleep 60\n", folder.path().join("frames").display())).unwrap();
    // By way of another process: a file that is open for writing anywhere in this one cannot be executed.
    let worker = folder.path().join("milepost-prover");
    assert!(Command::new("install").args(["-m", "755"]).arg(&script).arg(&worker).status().unwrap().success());
    let prover = Process::new(Options { seals: true, ..Options::new(worker) });
    assert_eq!(prover.prove(sample_request()).await.expect("what was asked for").kind, ProofKind::Composite);
    let sealed = ProofRequest { sealed: true, ..sample_request() };
    let refused = Process::new(prover.options().clone()).prove(sealed).await.expect_err("another kind than was asked for");
    assert!(matches!(refused, Error::Invalid(VerifyError::Kind { expected: ProofKind::Groth16, .. })), "{refused:?}");
}

fn decode(file: &[u8]) -> Receipt {
    postcard::from_bytes(file.strip_prefix(RECEIPT_TAG).unwrap()).unwrap()
}

/// What `verify` says to the shared proof after `change`.
async fn after(change: impl FnOnce(&mut Receipt)) -> VerifyError {
    let mut receipt = decode(&proof().await.receipt);
    change(&mut receipt);
    verify(&encode_receipt(&receipt).unwrap(), IMAGE_ID, &sample_request().statement).expect_err("an altered receipt")
}

fn composite(receipt: &mut Receipt) -> &mut CompositeReceipt {
    match &mut receipt.inner {
        InnerReceipt::Composite(composite) => composite,
        other => panic!("not composite: {other:?}"),
    }
}

#[tokio::test]
async fn a_real_proof_survives_a_killed_worker_and_holds() {
    let proof = proof().await;
    let statement = sample_request().statement;
    assert_eq!((proof.kind, proof.journal, &proof.po2[..]), (ProofKind::Composite, statement.journal(), &[14][..]));
    assert!(proof.receipt.len() < 300_000, "{} bytes", proof.receipt.len());
    let started = Instant::now();
    let verified = verify(&proof.receipt, IMAGE_ID, &statement).unwrap();
    println!(
        "10 tokens: {:.1} s, {} cycles, {} bytes, verified in {:.1} ms",
        proof.seconds,
        proof.cycles.unwrap(),
        proof.receipt.len(),
        started.elapsed().as_secs_f64() * 1e3
    );
    assert_eq!((verified.statement, verified.image_id, verified.segments), (statement, IMAGE_ID, 1));
}

#[tokio::test]
async fn a_proof_of_something_else_is_refused_by_the_name_of_the_difference() {
    let file = &proof().await.receipt;
    let refusal = |change: fn(&mut Statement)| {
        let mut expected = sample_request().statement;
        change(&mut expected);
        verify(file, IMAGE_ID, &expected).expect_err("a proof of another statement")
    };
    assert!(matches!(refusal(|it| it.chain_id = ChainId(84532)), VerifyError::WrongChain { expected: 84532, found: 31337 }));
    assert!(matches!(refusal(|it| it.marketplace = Address([9; 20])), VerifyError::WrongMarketplace { .. }));
    assert!(matches!(refusal(|it| it.job_id = JobId(1)), VerifyError::WrongJob { expected: 1, found: 0 }));
    assert!(matches!(refusal(|it| it.host = Address([9; 20])), VerifyError::WrongHost { .. }));
    assert!(matches!(refusal(|it| it.model_digest = Digest([9; 32])), VerifyError::WrongModel { .. }));
    assert!(matches!(refusal(|it| it.first_seq = TokenSeq(1)), VerifyError::WrongFirstSeq { expected: 1, found: 0 }));
    assert!(matches!(refusal(|it| it.count = TokenCount(9)), VerifyError::WrongCount { expected: 9, found: 10 }));
    assert!(matches!(refusal(|it| it.head_before = Digest([9; 32])), VerifyError::WrongHeadBefore { .. }));
    assert!(matches!(refusal(|it| it.head_after = Digest([9; 32])), VerifyError::WrongHeadAfter { .. }));
    let other_program = verify(file, Digest([9; 32]), &sample_request().statement);
    assert_eq!(other_program, Err(VerifyError::WrongImage { expected: Digest([9; 32]), found: IMAGE_ID }));
}

#[tokio::test]
async fn an_altered_receipt_is_refused() {
    let middle = decode(&proof().await.receipt).inner.composite().unwrap().segments[0].seal.len() / 2;
    assert!(matches!(after(|it| composite(it).segments[0].seal[middle] ^= 1).await, VerifyError::BadSeal(_)));
    assert!(matches!(after(|it| *composite(it).segments[0].seal.last_mut().unwrap() ^= 1).await, VerifyError::BadSeal(_)));
    assert_eq!(after(|it| it.journal.bytes[319] ^= 1).await, VerifyError::AlteredJournal);
    assert!(matches!(after(|it| composite(it).segments[0].claim.exit_code = ExitCode::Halted(1)).await, VerifyError::WrongExit(_)));
    assert!(matches!(
        after(|it| composite(it).segments[0].claim.pre = MaybePruned::Pruned(risc0_zkvm::Digest::ZERO)).await,
        VerifyError::WrongImage { .. }
    ));
    assert!(matches!(after(|it| composite(it).segments.clear()).await, VerifyError::Format(_)));
    let doubled = |it: &mut Receipt| {
        let segment = composite(it).segments[0].clone();
        composite(it).segments.push(segment);
    };
    assert!(matches!(after(doubled).await, VerifyError::BadSeal(_)));
}

#[tokio::test]
async fn a_journal_cannot_be_altered_together_with_its_claim() {
    // The forger is consistent: journal and claim agree, only the seal knows better.
    let mut other = sample_request().statement;
    other.job_id = JobId(77);
    let forged = |it: &mut Receipt| {
        it.journal.bytes = other.journal().to_vec();
        let claim = ReceiptClaim::ok(risc0_zkvm::Digest::from(IMAGE_ID.0), other.journal().to_vec());
        composite(it).segments[0].claim.output = claim.output;
    };
    let mut receipt = decode(&proof().await.receipt);
    forged(&mut receipt);
    let refused = verify(&encode_receipt(&receipt).unwrap(), IMAGE_ID, &other);
    assert!(matches!(refused, Err(VerifyError::BadSeal(_))), "{refused:?}");
}

#[tokio::test]
async fn a_damaged_file_is_not_a_receipt() {
    let file = &proof().await.receipt;
    let statement = sample_request().statement;
    for damaged in [&file[..file.len() - 1], &file[..file.len() / 2], &[&file[..], b"x"].concat(), &file[1..], b"", RECEIPT_TAG] {
        assert!(matches!(verify(damaged, IMAGE_ID, &statement), Err(VerifyError::Format(_))), "{} bytes", damaged.len());
    }
}

#[tokio::test]
async fn no_damage_makes_a_receipt_say_something_else() {
    let file = &proof().await.receipt;
    let statement = sample_request().statement;
    // Names and digests of parameters are not part of what is proven: a receipt altered there may hold, and says the same.
    for at in (0..file.len()).step_by(file.len() / 100) {
        let mut damaged = file.clone();
        damaged[at] ^= 0x41;
        if let Ok(verified) = verify(&damaged, IMAGE_ID, &statement) {
            assert_eq!(verified.statement, statement, "byte {at}");
        }
    }
}

#[test]
fn a_fake_receipt_is_refused_whatever_it_claims() {
    let statement = sample_request().statement;
    let claim = ReceiptClaim::ok(risc0_zkvm::Digest::from(IMAGE_ID.0), statement.journal().to_vec());
    let fake = Receipt::new(InnerReceipt::Fake(FakeReceipt::new(claim)), statement.journal().to_vec());
    assert_eq!(verify(&encode_receipt(&fake).unwrap(), IMAGE_ID, &statement), Err(VerifyError::Fake));
}

#[test]
fn receipts_that_nest_without_end_are_not_decoded() {
    // Composite, no segments, one assumption: composite, no segments, one assumption: …
    let mut file = [RECEIPT_TAG, &[0]].concat();
    file.extend([0, 1, 0].repeat(1_000_000));
    assert!(matches!(verify(&file, IMAGE_ID, &sample_request().statement), Err(VerifyError::Format(_))));
}

#[tokio::test]
async fn the_self_test_proves_once_and_remembers() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::new(folder.path().join("state/self-test.json"));
    let prover = Shared(Process::new(Options::new(PROVER)));
    let first = self_test(&prover, Some(&cache)).await.unwrap();
    assert!(!first.cached && first.kind == ProofKind::Composite);
    let second = self_test(&prover, Some(&cache)).await.unwrap();
    assert!(second.cached && (second.seconds - first.seconds).abs() < 1e-6);
}

/// The real prover, but for its proofs it has the shared one: one proof is enough.
struct Shared(Process);

impl Prover for Shared {
    fn prove(&self, _: ProofRequest) -> milepost_prover::BoxFuture<'_, Result<Proof, Error>> {
        Box::pin(async { Ok(proof().await.clone()) })
    }
    fn kind(&self) -> ProofKind {
        self.0.kind()
    }
    fn fingerprint(&self) -> milepost_prover::BoxFuture<'_, Result<Option<String>, Error>> {
        self.0.fingerprint()
    }
}

#[test]
fn the_program_says_its_version_and_image_id() {
    let out = Command::new(PROVER).arg("--version").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&out.stdout), format!("milepost-prover {} image {IMAGE_ID} on cpu\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(Command::new(PROVER).arg("--nonsense").output().unwrap().status.code(), Some(2));
}

#[test]
fn the_program_does_not_run_in_development_mode() {
    for arguments in [&["serve"][..], &["self-test"], &["bench", "10"]] {
        let out = Command::new(PROVER).args(arguments).env("RISC0_DEV_MODE", "1").stdin(Stdio::null()).output().unwrap();
        assert_eq!(out.status.code(), Some(3), "{arguments:?}");
        assert!(String::from_utf8_lossy(&out.stderr).contains("RISC0_DEV_MODE is set"));
    }
}

#[test]
fn a_worker_ends_with_its_node() {
    let mut worker = Command::new(PROVER).arg("serve").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = worker.stdout.take().unwrap();
    let (greeting, _) = read_frame::<FromWorker>(&mut out).unwrap().unwrap();
    assert!(matches!(greeting, FromWorker::Hello { image_id: IMAGE_ID, .. }), "{greeting:?}");
    drop(worker.stdin.take());
    // Its output ends because it does; the test would hang, not fail, if it stayed.
    out.read_to_end(&mut Vec::new()).unwrap();
    assert!(worker.wait().unwrap().success());
}

/// What a worker answers to a request, signs of life aside.
fn ask(input: &[u8], statement: &Statement, sealed: bool) -> FromWorker {
    let mut worker = Command::new(PROVER).arg("serve").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut stdin, mut stdout) = (worker.stdin.take().unwrap(), worker.stdout.take().unwrap());
    let journal = hex::encode(statement.journal());
    write_frame(&mut stdin, &ToWorker::Prove { id: 5, nice: 10, memory_mb: 1_024, sealed, journal }, input).unwrap();
    let answer = loop {
        match read_frame::<FromWorker>(&mut stdout).unwrap().unwrap().0 {
            FromWorker::Hello { .. } | FromWorker::Heartbeat {} => {}
            answer => break answer,
        }
    };
    drop(stdin);
    worker.wait().unwrap();
    answer
}

#[test]
fn a_worker_refuses_before_it_spends_time_on_proving() {
    let request = sample_request();
    let input = request.guest_input();
    let refused = ask(&input[..100], &request.statement, false);
    assert!(
        matches!(&refused, FromWorker::Failed { id: Some(5), code, message } if code == "guest" && message.contains("ends early")),
        "{refused:?}"
    );
    let mut other = request.statement;
    other.head_after.0[0] ^= 1;
    let refused = ask(&input, &other, false);
    assert!(matches!(&refused, FromWorker::Failed { id: Some(5), code, .. } if code == "journal"), "{refused:?}");
    if cfg!(not(feature = "groth16")) {
        let refused = ask(&input, &request.statement, true);
        assert!(
            matches!(&refused, FromWorker::Failed { id: Some(5), code, message } if code == "sealing" && message.contains("groth16")),
            "{refused:?}"
        );
    }
}
