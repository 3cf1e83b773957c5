//! What a demo shows on the terminal.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::Instant;

use milepost_client::Paid;

/// What every demo says of its proofs, in the README's words.
const PROVEN: &str = "What is proven: this host committed to exactly these N tokens, following on from the last claim.\n\
                      What is not proven: that the model produced them, or that the client received them.";

/// Stages with their times.
pub(super) struct Show {
    begin: Instant,
    stage: Instant,
    streaming: bool,
}

impl Show {
    pub(super) fn new(tour: bool) -> Self {
        if tour {
            println!(
                "TOUR: scripted engine (no model), MOCK proofs (no proof at all), in-memory store (nothing survives). `make demo` plays it with real parts.\n"
            );
        }
        let now = Instant::now();
        Self { begin: now, stage: now, streaming: false }
    }

    pub(super) fn begin(&mut self, what: &str) {
        self.stage = Instant::now();
        println!("\n[{:6.1} s] {what}", self.begin.elapsed().as_secs_f64());
    }

    pub(super) fn done(&mut self, found: &str) {
        if std::mem::take(&mut self.streaming) {
            println!();
        }
        println!("           {found} ({:.1} s)", self.stage.elapsed().as_secs_f64());
    }

    /// A piece of the answer, as it comes.
    pub(super) fn text(&mut self, text: &str) {
        if !self.streaming {
            print!("           » ");
            self.streaming = true;
        }
        print!("{}", text.replace('\n', "\n             "));
        if std::io::stdout().is_terminal() && std::io::stdout().flush().is_err() {
            // A closed terminal does not stop a session that is being paid for.
            self.streaming = false;
        }
    }

    /// Something that happened while the answer came.
    pub(super) fn note(&mut self, what: &str) {
        if std::mem::take(&mut self.streaming) {
            println!();
        }
        println!("           · {what}");
    }

    /// Where each token's money went.
    pub(super) fn money(paid: &Paid, price: u64) {
        let usdc = |amount: u128| format!("{}.{:06} USDC", amount / 1_000_000, amount % 1_000_000);
        let charge = paid.host.0 + paid.treasury.0;
        println!("\nWhere the money went");
        println!("  deposit                                 {}", usdc(charge + paid.refund.0));
        println!("  {} tokens at {} each          {}", paid.tokens, usdc(u128::from(price)), usdc(charge));
        println!("    to the host (90 %), withdrawable      {}", usdc(paid.host.0));
        println!("    to the treasury (10 %)                {}", usdc(paid.treasury.0));
        println!("  back to the client                      {}", usdc(paid.refund.0));
        println!("\n{PROVEN}");
    }

    /// What made each payment final.
    pub(super) fn final_by(lines: &str) {
        println!("\nWhat made it final\n{lines}");
    }

    pub(super) fn end(&mut self, report: &Path, good: bool) {
        let verdict = if good { "every figure holds" } else { "SOME FIGURES DO NOT HOLD" };
        println!("\n[{:6.1} s] {verdict}; report: {}", self.begin.elapsed().as_secs_f64(), report.display());
    }
}
