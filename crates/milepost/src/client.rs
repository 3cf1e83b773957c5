//! `milepost client hosts | open | chat | close | refund | verify`: the paying client on the command line.

pub(crate) mod args;
mod hosts;
mod refund;
mod verify;

use std::io::{IsTerminal, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitCode;

use milepost_client::{ChatRequest, Escrow, Event, Session, Step, Wallet};
use serde_json::json;
use zeroize::Zeroizing;

use crate::output::Output;
use args::{ChatArgs, ClientCommand, CloseArgs, SessionArgs};

/// What is pending has an exit code of its own: come again later.
pub(crate) const PENDING: u8 = 3;

/// Runs a client command. The error is one sentence that says what to do.
pub(crate) async fn run(command: ClientCommand, json: bool, output: Output) -> Result<ExitCode, String> {
    let done = |outcome: Result<(), String>| outcome.map(|()| ExitCode::SUCCESS);
    match command {
        ClientCommand::Hosts(args) => done(hosts::show(&args, output).await),
        ClientCommand::Open(args) => done(hosts::open(&args, json).await),
        ClientCommand::Chat(args) => done(chat(&args, json).await),
        ClientCommand::Close(args) => done(close(&args, json).await),
        ClientCommand::Refund(args) => refund::run(&args, json).await,
        ClientCommand::Verify(args) => Ok(verify::run(&args, output).await),
    }
}

async fn chat(args: &ChatArgs, json: bool) -> Result<(), String> {
    let mut session = load(&args.of).await?;
    let price = session.record().price.0;
    let escrow = session.escrow();
    let (mut held, show_escrow) = (0_u128, !json && std::io::stderr().is_terminal());
    let mut stream = |event: Event<'_>| {
        match event {
            Event::Tokens { ids, text, .. } if !json => {
                held += ids.len() as u128;
                print!("{text}");
                if std::io::stdout().flush().is_err() {
                    // The reader went away: what is paid for is kept in the session file, the rest need not be generated.
                    return Step::Cancel;
                }
                if show_escrow {
                    // In the title, so that the answer itself stays as it is.
                    eprint!("\x1b]2;milepost: {} left in escrow\x07", escrow.left.0.saturating_sub(held * price));
                }
            }
            Event::Tokens { seq, ids, text } => {
                held += ids.len() as u128;
                let left = escrow.left.0.saturating_sub(held * price).to_string();
                println!("{}", json!({ "event": "tokens", "seq": seq, "tokens": ids.len(), "text": text, "left": left }));
            }
            Event::Reconnecting { attempt, reason } => {
                eprintln!("\n[the stream was cut ({reason}); attempt {attempt} to take it up again]");
            }
            Event::Sealed(_) | Event::Receipt(_) => {}
        }
        Step::Continue
    };
    if let Some(open) = session.unfinished().map(str::to_owned) {
        eprintln!("taking up the unfinished request {open} first");
        session.resume(&mut stream).await.map_err(|error| error.to_string())?;
    }
    let request = ChatRequest { max_tokens: args.max_tokens, ..ChatRequest::new(&args.model, &args.prompt) };
    let outcome = session.chat_ws_observed(request, &mut stream).await.map_err(|error| error.to_string())?;
    if let milepost_client::Outcome::Ended(turn) = outcome {
        let escrow = session.escrow();
        if json {
            println!(
                "{}",
                json!({
                    "event": "end", "text": turn.text, "tokens": turn.count, "start": turn.start, "finish_reason": turn.finish_reason,
                    "escrow": escrow,
                })
            );
        } else {
            println!("\n[{} tokens, {} in all, receipt checked; {}]", turn.count, session.transcript().end(), words(&escrow));
        }
    }
    Ok(())
}

/// Where the deposit stands, in words.
fn words(escrow: &Escrow) -> String {
    let mut words = vec![format!("{} of {} spent, {} left in escrow", escrow.spent, escrow.deposit, escrow.left)];
    words.extend(escrow.acknowledged.map(|acknowledged| format!("{acknowledged} countersigned")));
    words.extend(escrow.ceiling_left.map(|left| format!("{left} up to your ceiling")));
    words.join(", ")
}

async fn close(args: &CloseArgs, json: bool) -> Result<(), String> {
    let mut session = load(&args.of).await?;
    let outcome = session.close().await.map_err(|error| error.to_string())?;
    if json {
        println!("{}", json!({ "job_id": session.job_id().0, "closed": format!("{outcome:?}") }));
    } else {
        println!("{outcome:?}");
    }
    if let Some(seconds) = args.wait {
        let paid = session.wait_paid(std::time::Duration::from_secs(seconds)).await.map_err(|error| error.to_string())?;
        println!("paid: host {}, treasury {}, refund {} (smallest units)", paid.host.0, paid.treasury.0, paid.refund.0);
    }
    Ok(())
}

/// The session in the file.
async fn load(of: &SessionArgs) -> Result<Session, String> {
    Session::load(wallet(&of.key_file)?, &of.session).await.map_err(|error| error.to_string())
}

/// The depositor's key, from a file that only its owner reads.
fn wallet(file: &Path) -> Result<Wallet, String> {
    let wrong = |why: String| format!("--key-file {}: {why}", file.display());
    let mode = std::fs::metadata(file).map_err(|error| wrong(error.to_string()))?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(wrong(format!("others can read it (mode {:o}); chmod 600", mode & 0o777)));
    }
    let text = Zeroizing::new(std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?);
    let digits = text.trim();
    let mut bytes = Zeroizing::new([0; 32]);
    hex::decode_to_slice(digits.strip_prefix("0x").unwrap_or(digits), &mut *bytes)
        .map_err(|_| wrong("it does not hold 64 hexadecimal digits".to_owned()))?;
    Wallet::from_bytes(&bytes).map_err(|error| wrong(error.to_string()))
}
