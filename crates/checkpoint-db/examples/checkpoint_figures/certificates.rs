//! What certificates cost: bytes, and time to verify.

use std::time::Duration;

use finality_gadget::scheme::Bls;
use finality_gadget::{Certificate, SetId, ValidatorSet};

use crate::Failure;
use crate::cast::Cast;
use crate::report::{Report, Took, Watch, millis, note, percentile};

/// Rounds of which the median counts. Everything has its turn in each: a machine's bad moments meet all of it.
const ROUNDS: usize = 501;

/// Something that is measured.
struct Turns<'a> {
    run: &'a dyn Fn() -> bool,
    wall: Vec<Duration>,
    cpu: Duration,
}

impl<'a> Turns<'a> {
    fn of(run: &'a dyn Fn() -> bool) -> Self {
        Self { run, wall: Vec::with_capacity(ROUNDS), cpu: Duration::ZERO }
    }

    fn turn(&mut self) -> Result<(), Failure> {
        let watch = Watch::start();
        let holds = (self.run)();
        let took = watch.took();
        self.wall.push(took.wall);
        self.cpu += took.cpu;
        if holds { Ok(()) } else { Err("what is measured does not hold".into()) }
    }

    /// The median by the clock, and the mean time on the processor: right to a tenth, since the system counts that in ticks, which fall to
    /// whatever has its turn.
    fn median(mut self) -> Result<Took, Failure> {
        Ok(Took { cpu: self.cpu / u32::try_from(ROUNDS)?, wall: percentile(&mut self.wall, 50) })
    }
}

fn made(cast: &Cast) -> Result<Certificate, Failure> {
    let votes = cast.signatures(&cast.vote(1, cast.schedule.domain().root()));
    cast.certificate(&votes, 3)
}

/// Answers what one verification of one signature takes: two pairings, the reference of what is verified elsewhere.
pub(crate) fn measure(report: &mut Report, cast: &Cast) -> Result<Duration, Failure> {
    let signed = cast.signatures(&cast.vote(1, cast.schedule.domain().root())).swap_remove(0);
    let of_few = made(cast)?;
    let thousand = Cast::new(1000)?;
    let of_many = made(&thousand)?;
    let watch = Watch::start();
    thousand.schedule.verify_certificate(&of_many)?;
    let first = watch.took();

    let single = || cast.schedule.verify_vote(&signed).is_ok();
    let few = || cast.schedule.verify_certificate(&of_few).is_ok();
    let many = || thousand.schedule.verify_certificate(&of_many).is_ok();
    let (mut single, mut few, mut many) = (Turns::of(&single), Turns::of(&few), Turns::of(&many));
    for _ in 0..ROUNDS {
        single.turn()?;
        few.turn()?;
        many.turn()?;
    }
    let (single, few, many) = (single.median()?, few.median()?, many.median()?);
    note(&format!("one signature verified (reference): {:.3} ms, {:.3} on the processor", millis(single.wall), millis(single.cpu)));
    #[allow(clippy::cast_precision_loss, reason = "some hundred bytes")]
    report.line("certificate of 15 of 21 validators", of_few.encode().len() as f64, "bytes", 300.0, "");
    report.time(&format!("certificate of 21 verified, median of {ROUNDS}"), few, 1.2, "one signature verified", single.wall);
    let what = format!("certificate of 1000 verified with keys added up ahead, median of {ROUNDS}");
    report.time(&what, many, 1.2, "that of 21", few.wall);
    note(&format!(
        "certificate of 667 of 1000: {} bytes; the first verification adds keys up ahead, {:.3} ms",
        of_many.encode().len(),
        millis(first.wall)
    ));

    let watch = Watch::start();
    let set = ValidatorSet::new(SetId(1), &Bls, &cast.registrations)?;
    let took = watch.took();
    note(&format!(
        "{} keys and proofs of possession checked, once at a start: {:.3} ms, {:.3} on the processor",
        set.members().len(),
        millis(took.wall),
        millis(took.cpu)
    ));
    Ok(single.wall)
}
