//! The worker's side of the protocol.
//!
//! Three threads and no locks: one reads requests, one writes frames, the main one proves. When the node goes away, stdin ends
//! or stdout breaks, and the process with it.

use std::io;
use std::process::exit;
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use milepost_prover::encode_receipt;
use milepost_prover::protocol::{FromWorker, HEARTBEAT_MS, PROTOCOL, SEALING, ToWorker, VERSION, read_frame, write_frame};

use crate::{execute, guest, limits, prove, seal};

/// A frame to be written. Handing one on fails only when the writer is gone, and the process with it.
type Frame = (FromWorker, Vec<u8>);

/// Requests that wait while one is proven: the node sends one at a time, so one more than that is a bound never met.
const WAITING: usize = 1;

/// Answers the node until it goes away.
pub(crate) fn serve() -> Result<()> {
    let image_id = guest::image_id(guest::ELF)?;
    let (say, to_write) = channel();
    thread::spawn(move || write(&to_write));
    let _ = say.send((FromWorker::Hello { protocol: PROTOCOL, version: VERSION.into(), image_id, kinds: seal::KINDS.to_vec() }, vec![]));
    thread::spawn({
        let say = say.clone();
        move || loop {
            thread::sleep(Duration::from_millis(HEARTBEAT_MS));
            let _ = say.send((FromWorker::Heartbeat {}, vec![]));
        }
    });

    let (ask, asked) = sync_channel(WAITING);
    thread::spawn(move || {
        loop {
            match read_frame::<ToWorker>(&mut io::stdin().lock()) {
                Ok(Some(request)) => {
                    if ask.send(request).is_err() {
                        exit(0);
                    }
                }
                Ok(None) => exit(0),
                Err(why) => {
                    eprintln!("milepost-prover: {why}");
                    exit(1)
                }
            }
        }
    });
    for (ToWorker::Prove { id, nice, memory_mb, sealed, journal }, input) in asked {
        limits::lower_priority(nice);
        limits::bound_memory(memory_mb)?;
        let answer = answer(&say, id, sealed, &journal, &input).unwrap_or_else(|error| {
            let code = if error.is::<execute::Refused>() { "guest" } else { "proving" };
            (FromWorker::Failed { id: Some(id), code: code.into(), message: format!("{error:#}") }, vec![])
        });
        let _ = say.send(answer);
    }
    Ok(())
}

/// Proves one claim.
fn answer(say: &Sender<Frame>, id: u64, sealed: bool, journal: &str, input: &[u8]) -> Result<Frame> {
    // Before anything takes minutes.
    if sealed && let Err(error) = seal::check() {
        return Ok(seal_failed(id, &error));
    }
    let started = Instant::now();
    let run = execute::execute(input, execute::MAX_SEGMENT_PO2)?;
    if hex::encode(run.journal) != journal {
        let message = "the guest's journal is not the one asked for".into();
        return Ok((FromWorker::Failed { id: Some(id), code: "journal".into(), message }, vec![]));
    }
    let (cycles, po2) = (run.user_cycles, run.po2());
    let _ = say.send((FromWorker::Executed { id, cycles, po2: po2.clone() }, vec![]));
    let receipt = prove::prove(&run.segments, &run.journal, |segments| {
        let _ = say.send((FromWorker::Proven { id, segments }, vec![]));
    })?;
    let file = if sealed {
        let _ = say.send((FromWorker::Sealing { id }, vec![]));
        match seal::seal(&receipt) {
            Ok(file) => file,
            Err(error) => return Ok(seal_failed(id, &error)),
        }
    } else {
        encode_receipt(&receipt)?
    };
    let seconds = started.elapsed().as_secs_f64();
    Ok((FromWorker::Done { id, cycles, po2, seconds }, file))
}

fn seal_failed(id: u64, error: &anyhow::Error) -> Frame {
    (FromWorker::Failed { id: Some(id), code: SEALING.into(), message: format!("{error:#}") }, vec![])
}

/// Says why it will not run, in words a node understands or a person.
pub(crate) fn refuse_dev_mode(to_a_node: bool) {
    let message = "RISC0_DEV_MODE is set: receipts would prove nothing. Unset it.";
    eprintln!("milepost-prover: {message}");
    if to_a_node {
        let refusal = FromWorker::Failed { id: None, code: "dev-mode".into(), message: message.into() };
        // The exit code says it too.
        let _ = write_frame(&mut io::stdout().lock(), &refusal, &[]);
    }
}

/// Writes what the others say, until nobody listens.
fn write(frames: &Receiver<Frame>) {
    let mut out = io::stdout().lock();
    for (header, body) in frames {
        if write_frame(&mut out, &header, &body).is_err() {
            exit(0);
        }
    }
}
