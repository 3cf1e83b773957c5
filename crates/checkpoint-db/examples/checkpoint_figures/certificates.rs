//! What certificates cost: bytes, and time to verify.

use std::time::{Duration, Instant};

use finality_gadget::scheme::Bls;
use finality_gadget::{Certificate, SetId, ValidatorSet};

use crate::Failure;
use crate::cast::Cast;
use crate::report::{Report, Took, Watch, millis, note, percentile};

const ROUNDS: usize = 51;

/// The median by the clock, and the mean time on the processor.
fn median(mut run: impl FnMut() -> bool) -> Result<Took, Failure> {
    let (mut all, whole) = (Vec::new(), Watch::start());
    for _ in 0..ROUNDS {
        let watch = Instant::now();
        let holds = run();
        all.push(watch.elapsed());
        if !holds {
            return Err("what is measured does not hold".into());
        }
    }
    // The system counts time on the processor in ticks: one round is too short for it, all together are not.
    Ok(Took { cpu: whole.took().cpu / u32::try_from(ROUNDS)?, wall: percentile(&mut all, 50) })
}

fn made(cast: &Cast) -> Result<Certificate, Failure> {
    let votes = cast.signatures(&cast.vote(1, cast.schedule.domain().root()));
    cast.certificate(&votes, 3)
}

/// Answers what one verification of one signature takes: two pairings, the reference of what is verified elsewhere.
pub(crate) fn measure(report: &mut Report, cast: &Cast) -> Result<Duration, Failure> {
    let vote = cast.vote(1, cast.schedule.domain().root());
    let signed = cast.signatures(&vote).swap_remove(0);
    let single = median(|| cast.schedule.verify_vote(&signed).is_ok())?;
    note(&format!("one signature verified (reference): {:.3} ms, {:.3} on the processor", millis(single.wall), millis(single.cpu)));

    let certificate = made(cast)?;
    #[allow(clippy::cast_precision_loss, reason = "some hundred bytes")]
    report.line("certificate of 15 of 21 validators", certificate.encode().len() as f64, "bytes", 300.0, "");
    let few = median(|| cast.schedule.verify_certificate(&certificate).is_ok())?;
    report.time(&format!("certificate of 21 verified, median of {ROUNDS}"), few, 1.2, "one signature verified", single.wall);

    let watch = Watch::start();
    let set = ValidatorSet::new(SetId(1), &Bls, &cast.registrations)?;
    let took = watch.took();
    note(&format!(
        "{} keys and proofs of possession checked, once at a start: {:.3} ms, {:.3} on the processor",
        set.members().len(),
        millis(took.wall),
        millis(took.cpu)
    ));

    let thousand = Cast::new(1000)?;
    let certificate = made(&thousand)?;
    let watch = Watch::start();
    thousand.schedule.verify_certificate(&certificate)?;
    let first = watch.took();
    let many = median(|| thousand.schedule.verify_certificate(&certificate).is_ok())?;
    let what = format!("certificate of 1000 verified with keys added up ahead, median of {ROUNDS}");
    report.time(&what, many, 1.2, "that of 21", few.wall);
    note(&format!(
        "certificate of 667 of 1000: {} bytes; the first verification adds keys up ahead, {:.3} ms",
        certificate.encode().len(),
        millis(first.wall)
    ));
    Ok(single.wall)
}
