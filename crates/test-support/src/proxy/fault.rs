//! What goes wrong, and when.

use std::collections::VecDeque;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// Faults remembered; the oldest are forgotten first.
const KEPT_FAULTS: usize = 65_536;

/// One thing that goes wrong with one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The answer comes so much later.
    Delay(Duration),
    /// The connection ends before the node hears of the call.
    DropBefore,
    /// The node does what it was asked; its answer is lost.
    DropAfter,
    /// The node hears it twice; the second answer is given.
    Duplicate,
    /// An HTTP status instead of an answer (429, 500, 503 …); the node hears nothing.
    Status(u16),
    /// A JSON-RPC error instead of an answer; the node hears nothing.
    Refuse {
        /// Code.
        code: i64,
        /// Message.
        message: String,
    },
    /// The answer of a node that is so many blocks behind: it knows neither newer blocks nor what is in them.
    Stale(u64),
    /// `null` for a receipt that is there.
    LostReceipt,
}

/// A fault that was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The method called.
    pub method: String,
    /// What was done.
    pub fault: Fault,
}

/// A fault at chosen calls.
#[derive(Clone, Debug)]
pub struct Script {
    method: Option<&'static str>,
    skip: u32,
    times: u32,
    fault: Fault,
}

impl Script {
    /// Once, at the next call of this method.
    pub fn next(method: &'static str, fault: Fault) -> Self {
        Self { method: Some(method), skip: 0, times: 1, fault }
    }

    /// At every call of this method.
    pub fn always(method: &'static str, fault: Fault) -> Self {
        Self { times: u32::MAX, ..Self::next(method, fault) }
    }

    /// At every call.
    pub fn everything(fault: Fault) -> Self {
        Self { method: None, skip: 0, times: u32::MAX, fault }
    }

    /// Leaves the first `calls` alone.
    #[must_use]
    pub fn after(self, calls: u32) -> Self {
        Self { skip: calls, ..self }
    }

    /// So many times.
    #[must_use]
    pub fn times(self, times: u32) -> Self {
        Self { times, ..self }
    }
}

/// Random faults: of a thousand calls so many meet each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weather {
    /// Seed of every draw.
    pub seed: u64,
    /// [`Fault::Delay`], up to `longest_delay`.
    pub delay: u32,
    /// Longest delay.
    pub longest_delay: Duration,
    /// [`Fault::DropBefore`].
    pub drop_before: u32,
    /// [`Fault::DropAfter`].
    pub drop_after: u32,
    /// [`Fault::Duplicate`].
    pub duplicate: u32,
    /// [`Fault::Status`], 429 or 500.
    pub status: u32,
    /// [`Fault::Refuse`], an internal error.
    pub refuse: u32,
    /// [`Fault::Stale`], one to three blocks.
    pub stale: u32,
    /// [`Fault::LostReceipt`]; for other calls nothing.
    pub lost_receipt: u32,
}

impl Weather {
    /// About one call in four meets something.
    pub fn stormy(seed: u64) -> Self {
        Self {
            seed,
            delay: 60,
            longest_delay: Duration::from_millis(150),
            drop_before: 25,
            drop_after: 30,
            duplicate: 20,
            status: 30,
            refuse: 15,
            stale: 40,
            lost_receipt: 30,
        }
    }
}

/// What is to go wrong.
#[derive(Default)]
pub(crate) struct Plan {
    pub(crate) scripts: Vec<Script>,
    pub(crate) done: VecDeque<Done>,
    weather: Option<(Weather, StdRng)>,
}

impl Plan {
    pub(crate) fn set_weather(&mut self, weather: Option<Weather>) {
        self.weather = weather.map(|weather| (weather, StdRng::seed_from_u64(weather.seed)));
    }

    /// The fault for this call, if it meets one.
    pub(crate) fn draw(&mut self, method: &str) -> Option<Fault> {
        let fault = self.scripted(method).or_else(|| self.random(method))?;
        if self.done.len() == KEPT_FAULTS {
            self.done.pop_front();
        }
        self.done.push_back(Done { method: method.to_owned(), fault: fault.clone() });
        Some(fault)
    }

    fn scripted(&mut self, method: &str) -> Option<Fault> {
        for script in &mut self.scripts {
            if script.times == 0 || script.method.is_some_and(|name| name != method) {
                continue;
            }
            if script.skip > 0 {
                script.skip -= 1;
                continue;
            }
            script.times = script.times.saturating_sub(u32::from(script.times != u32::MAX));
            return Some(script.fault.clone());
        }
        None
    }

    /// Two draws per call, whatever comes of them: the sequence depends on the number of calls alone.
    fn random(&mut self, method: &str) -> Option<Fault> {
        let (weather, rng) = self.weather.as_mut()?;
        let (mut point, detail) = (rng.random_range(0..1_000_u32), rng.random_range(0.0..1.0_f64));
        let faults = [
            (weather.delay, Fault::Delay(weather.longest_delay.mul_f64(detail))),
            (weather.drop_before, Fault::DropBefore),
            (weather.drop_after, Fault::DropAfter),
            (weather.duplicate, Fault::Duplicate),
            (weather.status, Fault::Status(if detail < 0.5 { 429 } else { 500 })),
            (weather.refuse, Fault::Refuse { code: -32603, message: "Internal error".to_owned() }),
            (
                weather.stale,
                Fault::Stale(if detail < 0.4 {
                    1
                } else if detail < 0.8 {
                    2
                } else {
                    3
                }),
            ),
            (weather.lost_receipt, Fault::LostReceipt),
        ];
        for (part, fault) in faults {
            if point < part {
                return (fault != Fault::LostReceipt || method == "eth_getTransactionReceipt").then_some(fault);
            }
            point -= part;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_faults() {
        let drawn = |seed| {
            let mut plan = Plan::default();
            plan.set_weather(Some(Weather::stormy(seed)));
            (0..500).map(|_| plan.draw("eth_call")).collect::<Vec<_>>()
        };
        assert_eq!(drawn(7), drawn(7));
        assert_ne!(drawn(7), drawn(8));
        let met = drawn(7).iter().flatten().count();
        assert!((50..250).contains(&met), "{met} of 500 calls met a fault");
    }

    #[test]
    fn a_script_waits_for_its_call_and_is_done_as_often_as_it_says() {
        let mut plan = Plan::default();
        plan.scripts.push(Script::next("eth_call", Fault::DropAfter).after(1).times(2));
        let calls = ["eth_call", "eth_chainId", "eth_call", "eth_call", "eth_call"];
        let met: Vec<_> = calls.iter().map(|method| plan.draw(method).is_some()).collect();
        assert_eq!(met, [false, false, true, true, false]);
        assert_eq!(plan.done.len(), 2);
    }
}
