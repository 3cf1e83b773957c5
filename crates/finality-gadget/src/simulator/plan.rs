//! What a run is like, drawn from its seed.

use super::keys::SchemeKind;
use super::rng::Rng;
use crate::core::FinalityRule;
use crate::set::faults;

/// Which checkpoints the simulated chain takes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reorgs {
    /// None.
    None,
    /// Only above what is certified: a chain that heeds its validators.
    Shallow,
    /// Anything, final checkpoints included. Finality may then halt, and must say why.
    Free,
}

/// One run.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Decides everything that happens.
    pub seed: u64,
    /// Members of each validator set.
    pub validators: u32,
    /// Rule of finality.
    pub rule: FinalityRule,
    /// How votes are signed.
    pub scheme: SchemeKind,
    /// Milliseconds of trouble, before everything heals.
    pub chaos: u64,
    /// Validators that say different things to different peers.
    pub liars: u32,
    /// Whether liars also send false signatures, forged certificates and nonsense.
    pub filthy: bool,
    /// Validators that run twice with one key.
    pub twins: u32,
    /// Honest validators that lose their disk or get an old one back.
    pub doubtful: u32,
    /// Reorganisations.
    pub reorgs: Reorgs,
    /// Set changes.
    pub set_changes: u32,
    /// Crashes in all.
    pub crashes: u64,
    /// Disk faults in all.
    pub disk_faults: u64,
    /// Partitions in all.
    pub partitions: u64,
    /// Messages lost, in percent.
    pub loss: u64,
    /// Messages that come twice, in percent.
    pub duplicates: u64,
    /// Longest ordinary delay in ms.
    pub delay: u64,
    /// Milliseconds between checkpoints.
    pub interval: u64,
    /// Whether messages go through their encoding.
    pub encoded: bool,
    /// Whether votes, certificates and finality are printed.
    pub trace: bool,
}

impl Scenario {
    /// Draws a run.
    pub fn from_seed(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x5eed_5eed_5eed_5eed);
        // Pairings take twenty times as long as all the rest: some of them among the seeds that everybody runs, fewer beyond.
        let scheme = match seed % 50 {
            7 => SchemeKind::Ed25519,
            13 if seed < 1_000 || seed % 500 == 13 => SchemeKind::Bls,
            _ => SchemeKind::Test,
        };
        let real = scheme != SchemeKind::Test;
        let validators = if real { 4 } else { [4, 4, 4, 5, 7, 7, 10][rng.index(7)] };
        // Liars, twins and those with a doubtful record together never exceed what one set outlives.
        let mut budget = faults(validators as usize) as u64;
        let mut draw = |rng: &mut Rng| {
            let drawn = rng.between(0, budget);
            budget -= drawn;
            u32::try_from(drawn).unwrap_or(0)
        };
        let mut shares = [0u32; 3];
        let first = rng.index(3);
        for at in 0..3 {
            shares[(first + at) % 3] = draw(&mut rng);
        }
        let [liars, twins, doubtful] = shares;
        let rule = if rng.chance(25) { FinalityRule::Single } else { FinalityRule::Ffg };
        Self {
            seed,
            validators,
            rule,
            scheme,
            chaos: if real { 20_000 } else { rng.between(20_000, 60_000) },
            liars,
            filthy: rng.chance(40),
            twins,
            doubtful,
            reorgs: [Reorgs::None, Reorgs::Shallow, Reorgs::Shallow, Reorgs::Free][rng.index(4)],
            set_changes: [0, 0, 1, 1, 2][rng.index(5)],
            crashes: rng.between(0, 10),
            disk_faults: rng.between(0, 8),
            partitions: rng.between(0, 4),
            loss: [0, 0, 5, 20][rng.index(4)],
            duplicates: rng.between(0, 10),
            delay: [50, 200, 1_000, 3_000][rng.index(4)],
            interval: rng.between(1_500, 5_000),
            encoded: seed % 16 == 3,
            trace: false,
        }
    }
}
