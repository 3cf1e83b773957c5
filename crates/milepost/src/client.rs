//! `milepost client open | chat | close`: the paying client on the command line.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use milepost_client::{Amount, ChatRequest, Event, OpenRequest, Session, Step, Wallet};
use serde_json::json;
use zeroize::Zeroizing;

use crate::cli::{ChatArgs, ClientCommand, CloseArgs, OpenArgs};

/// Runs a client command. The error is one sentence that says what to do.
pub(crate) async fn run(command: ClientCommand, json: bool) -> Result<(), String> {
    match command {
        ClientCommand::Open(args) => open(&args, json).await,
        ClientCommand::Chat(args) => chat(&args, json).await,
        ClientCommand::Close(args) => close(&args, json).await,
    }
}

async fn open(args: &OpenArgs, json: bool) -> Result<(), String> {
    let wallet = wallet(&args.key_file)?;
    let address = |name: &str, text: &str| text.parse().map_err(|error| format!("--{name} {text}: {error}"));
    let mut request = OpenRequest::new(
        &args.rpc_url,
        address("marketplace", &args.marketplace)?,
        address("host", &args.host)?,
        address("token", &args.token)?,
        Amount(args.deposit),
        args.model_digest.parse().map_err(|error| format!("--model-digest {}: {error}", args.model_digest))?,
        args.session.clone(),
    );
    request.host_url.clone_from(&args.url);
    request.price = args.price.map(Amount);
    let mut session = Session::open(wallet, request).await.map_err(|error| error.to_string())?;
    session.authenticate(args.url.as_deref()).await.map_err(|error| error.to_string())?;
    if json {
        println!("{}", json!({ "job_id": session.job_id().0, "session": args.session }));
    } else {
        println!("job {} is funded and its session open; kept in {}", session.job_id(), args.session.display());
    }
    Ok(())
}

async fn chat(args: &ChatArgs, json: bool) -> Result<(), String> {
    let mut session = Session::load(wallet(&args.key_file)?, &args.session).await.map_err(|error| error.to_string())?;
    let mut stream = |event: Event<'_>| {
        if let Event::Tokens { text, .. } = event
            && !json
        {
            print!("{text}");
            if std::io::stdout().flush().is_err() {
                // The reader went away: what is paid for is kept in the session file, the rest need not be generated.
                return Step::Cancel;
            }
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
        if json {
            println!("{}", json!({ "text": turn.text, "tokens": turn.count, "start": turn.start, "finish_reason": turn.finish_reason }));
        } else {
            println!("\n[{} tokens, {} in all, receipt checked]", turn.count, session.transcript().end());
        }
    }
    Ok(())
}

async fn close(args: &CloseArgs, json: bool) -> Result<(), String> {
    let mut session = Session::load(wallet(&args.key_file)?, &args.session).await.map_err(|error| error.to_string())?;
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
