//! The play: turns, a reconnect, a SIGKILL, the close, the payout.

use std::time::Duration;

use milepost_client::{ChatRequest, Event, Outcome, Paid, Session, Step};
use tokio::sync::oneshot;

use super::Error;
use super::node::{Node, Settings};
use super::show::Show;
use super::stage::Stage;

/// Tokens of all turns together, at least.
const LEAST_TOKENS: u64 = 250;
/// Most tokens of one turn: several turns make a conversation, and none of them runs the deposit (1,000 tokens) dry.
const TURN_TOKENS: u32 = 90;
/// Tokens after which the client drops its connection, and after which the host is killed.
const CUT_AFTER: u64 = 20;
/// Turns at most. An answer has at least one token; those of a small model have dozens.
const MAX_TURNS: usize = 40;
/// Three proofs of some 30 s each on two busy cores, blocks and confirmations between them.
const PAID_LIMIT: Duration = Duration::from_secs(900);
/// The prover's self-test runs beside serving; it is waited for so that its time does not stand in the proofs' figures.
const READY_LIMIT: Duration = Duration::from_secs(300);

/// What came of it.
pub(super) struct Played {
    pub(super) paid: Paid,
    pub(super) kills: u32,
    pub(super) reconnects: u32,
}

pub(super) async fn play(stage: &mut Stage, show: &mut Show) -> Result<Played, Error> {
    if let Some(node) = &mut stage.node {
        show.begin("the prover proves its self-test, the chain is checked (serving does not wait for it; this demo does)");
        node.wait_until("/ready", READY_LIMIT).await?;
        show.done("ready to earn");
    }

    show.begin("turn 1 over WebSocket, the connection is dropped in the middle and taken up again");
    let model = stage.model.name.clone();
    let start = tokens(&stage.session);
    let detached = stage
        .session
        .chat_ws_observed(ask(&mut stage.asked, &model, "Explain in a few sentences what a lighthouse is for."), &mut |event| {
            if observe(show, event).saturating_sub(start) >= CUT_AFTER { Step::Disconnect } else { Step::Continue }
        })
        .await?;
    let mut reconnects = 0;
    if let Outcome::Detached { request_id } = detached {
        stage.session.disconnect();
        show.note(&format!("connection dropped after {} tokens; request {request_id} goes on", tokens(&stage.session) - start));
        stage.session.resume(&mut |event| quiet(show, event)).await?;
        reconnects += 1;
    }
    told(stage, show, start);

    show.begin("turn 2 over WebSocket, in the same session");
    let start = tokens(&stage.session);
    stage.session.disconnect();
    stage
        .session
        .chat_ws_observed(ask(&mut stage.asked, &model, "And who keeps its light burning at night?"), &mut |event| quiet(show, event))
        .await?;
    reconnects += 1;
    told(stage, show, start);

    show.begin("turn 3 over the OpenAI door, with the session token as API key");
    let start = tokens(&stage.session);
    stage
        .session
        .chat_http_observed(ask(&mut stage.asked, &model, "Write two sentences about the sea."), &mut |event| quiet(show, event))
        .await?;
    told(stage, show, start);

    let kills = if stage.tour {
        0
    } else {
        show.begin("turn 4 over WebSocket: the host is killed (SIGKILL) in mid-stream, started again, and the turn taken up");
        killed_in_mid_stream(stage, show, &model).await?;
        1
    };

    for number in 0.. {
        let total = tokens(&stage.session);
        if total >= LEAST_TOKENS && !total.is_multiple_of(100) || number == MAX_TURNS {
            break;
        }
        show.begin(&format!("a further turn: {total} tokens so far, the demo wants at least {LEAST_TOKENS} and a tail below 100"));
        stage
            .session
            .chat_ws_observed(ask(&mut stage.asked, &model, "Tell me a little more, please."), &mut |event| quiet(show, event))
            .await?;
        told(stage, show, total);
    }

    show.begin("close: the rest is sealed, proven, claimed and paid (real proofs take about half a minute each)");
    let outcome = stage.session.close().await?;
    show.note(&format!("{outcome:?}"));
    let paid = stage.session.wait_paid(PAID_LIMIT).await?;
    show.done(&format!("paid in transaction {}", paid.tx));
    wait_for_the_books(stage).await?;
    Ok(Played { paid, kills, reconnects })
}

/// Runs a turn and kills the host after some tokens of it. The client notices a cut and takes the turn up again by itself.
async fn killed_in_mid_stream(stage: &mut Stage, show: &mut Show, model: &str) -> Result<(), Error> {
    let start = tokens(&stage.session);
    let Some(node) = stage.node.take() else { return Ok(()) };
    let (tell, told_to) = oneshot::channel::<()>();
    let mut tell = Some(tell);
    let restart = tokio::spawn(async move {
        // The sender is dropped untold if the answer was shorter: then the host is killed between two turns.
        let in_stream = told_to.await.is_ok();
        let settings: Settings = node.kill().await?;
        Ok::<_, Error>((Node::start(settings).await?, in_stream))
    });
    stage
        .session
        .chat_ws_observed(ask(&mut stage.asked, model, "Describe a storm at sea, wave by wave."), &mut |event| {
            if let Event::Reconnecting { attempt: 1, reason } = event {
                show.note(&format!("the stream was cut ({reason})"));
            }
            if observe(show, event).saturating_sub(start) >= CUT_AFTER
                && let Some(tell) = tell.take()
                && tell.send(()).is_ok()
            {
                show.note("SIGKILL");
            }
            Step::Continue
        })
        .await?;
    drop(tell);
    let (node, in_stream) = restart.await.map_err(|error| Error::Answer { page: "restart".to_owned(), found: error.to_string() })??;
    stage.node = Some(node);
    show.note(if in_stream { "every token that was delivered before the kill is still there" } else { "the answer ended before the kill" });
    told(stage, show, start);
    Ok(())
}

/// The payout is on chain; waits until the host's own books say so too.
async fn wait_for_the_books(stage: &Stage) -> Result<(), Error> {
    let page = format!("/v1/jobs/{}", stage.session.job_id());
    for _ in 0..PAID_LIMIT.as_secs() {
        let job = super::report::fetch(stage, &page).await?;
        if job["phase"] == "paid" {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Err(Error::Answer { page, found: "a job that is not booked as paid".to_owned() })
}

/// A request, noted under its id for those who run it again.
fn ask(asked: &mut Vec<&'static str>, model: &str, prompt: &'static str) -> ChatRequest {
    asked.push(prompt);
    ChatRequest { max_tokens: TURN_TOKENS, request_id: request_id(asked.len()), ..ChatRequest::new(model, prompt) }
}

/// Id of the request of this number, from 1.
pub(super) fn request_id(number: usize) -> String {
    format!("demo-{number}")
}

fn tokens(session: &Session) -> u64 {
    session.transcript().end().0
}

/// Shows an event; answers how many tokens the client holds after it.
fn observe(show: &mut Show, event: Event<'_>) -> u64 {
    match event {
        Event::Tokens { seq, ids, text } => {
            show.text(text);
            return seq.0 + ids.len() as u64;
        }
        Event::Sealed(checkpoint) => {
            show.note(&format!("checkpoint {} sealed: {} tokens, head {}", checkpoint.number, checkpoint.count, checkpoint.head));
        }
        Event::Receipt(_) | Event::Reconnecting { .. } => {}
    }
    0
}

fn quiet(show: &mut Show, event: Event<'_>) -> Step {
    observe(show, event);
    Step::Continue
}

fn told(stage: &Stage, show: &mut Show, start: u64) {
    let total = tokens(&stage.session);
    show.done(&format!("{} tokens, {total} in all, receipt checked", total - start));
}
