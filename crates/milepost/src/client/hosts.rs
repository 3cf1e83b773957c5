//! Finding a host, and funding a session on its quote.

use futures::future::join_all;
use milepost_client::host::Look;
use milepost_client::{Amount, Chain, Host, Offer, OpenRequest, QuoteRequest, Session, find_offers};
use milepost_statement::{Digest, SignedQuote, TokenCount};
use serde_json::{Value, json};

use super::args::{HostsArgs, MarketArgs, OpenArgs};
use crate::output::{Output, table};

/// Hosts asked at a time whether they are there: a registry may hold many.
const MAX_LOOKS: usize = 32;

/// An offer, and what a look at the host showed.
struct Found {
    offer: Offer,
    look: Option<Result<Look, String>>,
}

impl Found {
    fn model(&self) -> Option<&str> {
        self.look.as_ref()?.as_ref().ok()?.model.as_deref()
    }

    fn words(&self) -> String {
        match &self.look {
            None => "not asked".to_owned(),
            Some(Ok(Look { model: Some(model), took })) => format!("serves {model}, {} ms", took.as_millis()),
            Some(Ok(Look { model: None, .. })) => "answers, but does not serve this model".to_owned(),
            Some(Err(reason)) => format!("does not answer: {reason}"),
        }
    }
}

/// Shows who serves a model.
pub(super) async fn show(args: &HostsArgs, output: Output) -> Result<(), String> {
    let found = find(&connect(&args.market).await?, &args.market, !args.no_look).await?;
    let listed = || -> Value {
        found
            .iter()
            .map(|found| {
                json!({
                    "host": found.offer.host, "url": found.offer.url, "price": found.offer.price, "model": found.model(),
                    "alive": found.look.as_ref().map(Result::is_ok), "words": found.words(),
                })
            })
            .collect()
    };
    let shown = || {
        if found.is_empty() {
            return "no active host offers this model for this token".to_owned();
        }
        let row = |found: &Found| [found.offer.host.to_string(), found.offer.price.to_string(), found.offer.url.clone(), found.words()];
        table(["host", "price", "address", "state"], found.iter().map(row))
    };
    output.show(listed, shown)
}

async fn connect(market: &MarketArgs) -> Result<Chain, String> {
    Chain::connect(&market.rpc_url, market.marketplace).await.map_err(|error| error.to_string())
}

async fn find(chain: &Chain, market: &MarketArgs, look: bool) -> Result<Vec<Found>, String> {
    let offers = find_offers(chain, market.model_digest, market.token).await.map_err(|error| error.to_string())?;
    if !look {
        return Ok(offers.into_iter().map(|offer| Found { offer, look: None }).collect());
    }
    let mut found = Vec::with_capacity(offers.len());
    for some in offers.chunks(MAX_LOOKS) {
        found.extend(join_all(some.iter().map(|offer| look_at(offer, market.model_digest))).await);
    }
    Ok(found)
}

async fn look_at(offer: &Offer, model: Digest) -> Found {
    let look = match Host::new(&offer.url) {
        Ok(host) => host.look(model).await,
        Err(error) => Err(error),
    };
    Found { offer: offer.clone(), look: Some(look.map_err(|error| error.to_string())) }
}

/// Chooses a host, has it promise a price, funds the session and opens it.
pub(super) async fn open(args: &OpenArgs, json: bool) -> Result<(), String> {
    let wallet = super::wallet(&args.key_file)?;
    if let Some(ceiling) = args.ceiling.filter(|ceiling| *ceiling > args.deposit) {
        return Err(format!("--ceiling {ceiling} is above the deposit of {}", args.deposit));
    }
    let market = &args.market;
    let chain = connect(market).await?;
    let offers = match args.host {
        Some(host) => {
            let mut offer = chain.offer(host, market.model_digest, market.token).await.map_err(|error| error.to_string())?;
            offer.url = args.url.clone().unwrap_or(offer.url);
            vec![offer]
        }
        // Cheapest first, and only those that are there.
        None => find(&chain, market, true).await?.into_iter().filter(|found| found.model().is_some()).map(|found| found.offer).collect(),
    };
    let allowance = (!args.no_vouchers).then_some(TokenCount(args.allowance));
    let mut refused = Vec::new();
    let mut chosen = None;
    for offer in offers {
        match terms_of(&chain, args, &offer, allowance).await {
            Ok(quote) => {
                chosen = Some((offer, quote));
                break;
            }
            Err(reason) => refused.push(format!("host {}: {reason}", offer.host)),
        }
    }
    let Some((offer, quote)) = chosen else {
        refused.insert(0, "no host could be chosen".to_owned());
        return Err(refused.join("; "));
    };
    let mut request = OpenRequest::new(
        &market.rpc_url,
        market.marketplace,
        offer.host,
        market.token,
        Amount(args.deposit),
        market.model_digest,
        args.session.clone(),
    );
    request.host_url = Some(offer.url.clone());
    request.price = args.price.map(Amount);
    request.ceiling = args.ceiling.map(Amount);
    request.voucher_allowance = allowance;
    request.quote.clone_from(&quote);
    let mut session = Session::open(wallet, request).await.map_err(|error| error.to_string())?;
    session.authenticate(None).await.map_err(|error| error.to_string())?;
    let price = session.record().price;
    if json {
        println!(
            "{}",
            json!({
                "job_id": session.job_id().0, "session": args.session, "host": offer.host, "url": offer.url, "price": price, "quote": quote,
                "allowance": allowance, "escrow": session.escrow(),
            })
        );
    } else {
        println!("job {} is funded and its session open; kept in {}", session.job_id(), args.session.display());
        println!("host {} at {}: {price} a token{}", offer.host, offer.url, if quote.is_some() { ", by its signed quote" } else { "" });
        println!(
            "{}",
            allowance.map_or_else(
                || "no vouchers: the host may claim up to the deposit".to_owned(),
                |allowance| format!("vouchers: the host can claim {allowance} tokens beyond what you countersign, and no more")
            )
        );
        println!("{}", super::words(&session.escrow()));
    }
    Ok(())
}

/// The host's quote, checked; `None` where none was wanted. A refusal in words.
async fn terms_of(chain: &Chain, args: &OpenArgs, offer: &Offer, allowance: Option<TokenCount>) -> Result<Option<SignedQuote>, String> {
    let most = args.max_price.or(args.price).unwrap_or(u128::MAX);
    let too_dear = |price: u128| format!("it asks {price} per token, more than {most}");
    if args.no_quote {
        return if offer.price.0 > most { Err(too_dear(offer.price.0)) } else { Ok(None) };
    }
    let ask = QuoteRequest {
        model_digest: args.market.model_digest,
        token: args.market.token,
        expected_rate: 0,
        voucher_allowance: allowance.unwrap_or_default(),
    };
    let host = Host::new(&offer.url).map_err(|error| error.to_string())?;
    let quote = host.quote(&ask).await.map_err(|error| format!("no quote (--no-quote does without): {error}"))?;
    // Without vouchers the host may claim all of the deposit anyway.
    let most_allowance = allowance.unwrap_or(TokenCount(u64::MAX));
    let price = chain.check_quote(&quote, &ask, offer, most_allowance).await.map_err(|error| error.to_string())?;
    if price.0 > most { Err(too_dear(price.0)) } else { Ok(Some(quote)) }
}
