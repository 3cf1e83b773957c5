//! Without a chain: what would be submitted is printed, for jobs and for free labels.

mod common;

use std::io::Write;
use std::sync::{Arc, Mutex};

use common::{Done, eventually, now};
use milepost_ledger::{AccountId, Address, Digest, Event, JobId, OpenAccount, Sampler, StartTurn, TokenSeq};
use milepost_ledger_db::{LedgerDb, Options};
use milepost_settlement::{LogSettler, Verdict, reconcile};

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().map_err(|_| std::io::ErrorKind::Other)?.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn what_would_be_submitted_is_printed_for_each_sealed_checkpoint() -> Done {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let db = LedgerDb::open_memory(Options::default())?;
    let settler = LogSettler::start(&db, Some(Address([0xaa; 20])));
    let account = AccountId::Job(JobId(163));
    let open = OpenAccount { id: account, terms: None, salt: common::no_salt(), model: Digest([7; 32]), threshold: 100, at: now() };
    let start = StartTurn {
        account,
        request: "one".to_owned(),
        body: Digest([1; 32]),
        prompt: Digest([2; 32]),
        prompt_tokens: 3,
        sampler: Sampler { temperature: 0.0, top_p: 1.0, top_k: 0, seed: 0, max_tokens: 500 },
        at: now(),
    };
    let metered = Event::Metered { account, at: TokenSeq::ZERO, ids: (0..250).collect() };
    db.apply(vec![Event::Open(Box::new(open)), Event::StartTurn(Box::new(start)), metered]).await?;
    let text = eventually("printed", || {
        let text = String::from_utf8_lossy(&lines.0.lock().map_err(|error| error.to_string())?).into_owned();
        if text.matches("would_submit").count() == 2 { Ok(text) } else { Err(text) }
    })
    .await;
    for part in ["job=163", "tokens=100", "session=163", "0xaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "first_seq=100"] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    drop(settler);
    // Nothing is owed in log mode.
    let report = reconcile(&db, None).await?;
    assert_eq!((report.verdict, report.exit_code()), (Verdict::Clean, 0), "{report:#?}");
    Ok(())
}
