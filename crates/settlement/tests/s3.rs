//! Receipts in an S3-compatible object store: a small one of our own, which checks each request's signature (AWS Signature Version 4)
//! as the real ones do, from nothing but the secret.
#![cfg(feature = "s3")]

mod common;
#[path = "common/markets.rs"]
mod markets;

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use alloy::sol_types::SolEvent as _;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use common::Done;
use hmac::{Hmac, Mac as _};
use markets::{Around, Generation, Market, SignedDeltaForm};
use milepost_ledger::{ClaimId, JobId, TokenSeq};
use milepost_ledger_db::ContentPart;
use milepost_settlement::generation::{Content, ContentId, ObjectStore, Publisher as _, publisher};
use milepost_settlement::{DeployedConfig, Error, S3Config};
use sha2::{Digest as _, Sha256};

const BUCKET: &str = "receipts";
const REGION: &str = "eu-test-1";
/// More than any receipt.
const MOST: usize = 1 << 20;

/// What the store knows and saw.
#[derive(Default)]
struct Shelf {
    /// Who may put: key id, secret, session token.
    users: Vec<(String, String, Option<String>)>,
    objects: BTreeMap<String, Vec<u8>>,
    /// Statuses to answer with, before anything is looked at.
    trouble: Vec<StatusCode>,
    requests: usize,
}

type Shared = Arc<Mutex<Shelf>>;

struct Store {
    shelf: Shared,
    url: String,
    server: tokio::task::JoinHandle<()>,
    folder: PathBuf,
}

impl Drop for Store {
    fn drop(&mut self) {
        self.server.abort();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Store {
    async fn open(name: &str) -> Result<Self, Box<dyn std::error::Error>> {
        let shelf = Shared::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shelf));
        let server = tokio::spawn(async move { axum::serve(listener, router).await.expect("it serves") });
        let folder = std::env::temp_dir().join(format!("milepost-s3-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        Ok(Self { shelf, url, server, folder })
    }

    fn look<R>(&self, at: impl FnOnce(&mut Shelf) -> R) -> R {
        at(&mut self.shelf.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Lets a user in, and writes its credentials into the file that the node reads.
    fn admit(&self, id: &str, secret: &str, token: Option<&str>) -> Result<(), Box<dyn std::error::Error>> {
        self.look(|shelf| shelf.users = vec![(id.to_owned(), secret.to_owned(), token.map(str::to_owned))]);
        let token = token.map(|token| format!("aws_session_token = {token}\n")).unwrap_or_default();
        write_secret(&self.credentials(), &format!("[node]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n{token}"))
    }

    fn credentials(&self) -> PathBuf {
        self.folder.join("credentials")
    }

    fn config(&self) -> S3Config {
        S3Config {
            bucket: BUCKET.to_owned(),
            endpoint: Some(self.url.as_str().into()),
            region: REGION.to_owned(),
            prefix: "host/one/".to_owned(),
            allow_http: true,
            credentials_file: Some(self.credentials()),
        }
    }
}

fn write_secret(path: &Path, text: &str) -> Done {
    std::fs::write(path, text)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(())
}

/// Puts an object, if the request is signed by somebody who may.
async fn answer(State(shelf): State<Shared>, request: Request<Body>) -> (StatusCode, [(&'static str, String); 1], String) {
    let (parts, body) = request.into_parts();
    // Every answer names the object's version.
    let tag = format!("\"{}\"", hex::encode(&Sha256::digest(parts.uri.path())[..16]));
    let said = |status: StatusCode, words: String| (status, [("etag", tag.clone())], words);
    let body = to_bytes(body, MOST).await.expect("a body of bounded length");
    let mut shelf = shelf.lock().unwrap_or_else(PoisonError::into_inner);
    shelf.requests += 1;
    if let Some(status) = shelf.trouble.pop() {
        return said(status, "<Error><Code>Trouble</Code></Error>".to_owned());
    }
    let refused = |why: &str| said(StatusCode::FORBIDDEN, format!("<Error><Code>{why}</Code></Error>"));
    let length = parts.headers.get("content-length").and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if parts.method != Method::PUT || length != Some(body.len()) || parts.uri.query().is_some() {
        return refused("MissingContentLength");
    }
    if !shelf.users.iter().any(|user| is_signed(user, &parts.headers, parts.uri.path(), &body)) {
        return refused("SignatureDoesNotMatch");
    }
    shelf.objects.insert(parts.uri.path().to_owned(), body.to_vec());
    said(StatusCode::OK, String::new())
}

/// Whether the signature of a put is this user's: computed again from its parts, in the order of AWS's own description.
fn is_signed((id, secret, token): &(String, String, Option<String>), headers: &HeaderMap, path: &str, body: &[u8]) -> bool {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let (date, claimed) = (header("x-amz-date"), header("authorization"));
    let Some((day, _)) = date.split_once('T') else { return false };
    let part = |name: &str| {
        let rest = claimed.split_once(&format!("{name}="))?.1;
        Some(rest.split([',', ' ']).next().unwrap_or(rest).to_owned())
    };
    let (Some(credential), Some(signed), Some(signature)) = (part("Credential"), part("SignedHeaders"), part("Signature")) else {
        return false;
    };
    let scope = format!("{day}/{REGION}/s3/aws4_request");
    let hash = hex::encode(Sha256::digest(body));
    let names: Vec<_> = signed.split(';').collect();
    // What is signed for must be the bytes, the place and the time.
    let covered = ["host", "x-amz-content-sha256", "x-amz-date"].iter().all(|name| names.contains(name));
    let right_token = token.clone().unwrap_or_default() == header("x-amz-security-token");
    if credential != format!("{id}/{scope}") || !covered || header("x-amz-content-sha256") != hash || !right_token {
        return false;
    }
    let listed: Vec<_> = names.iter().map(|name| format!("{name}:{}", header(name).trim())).collect();
    let canonical = format!("PUT\n{path}\n\n{}\n\n{signed}\n{hash}", listed.join("\n"));
    let said = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex::encode(Sha256::digest(canonical)));
    let keyed = |key: &[u8], text: &str| {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
        mac.update(text.as_bytes());
        mac.finalize().into_bytes().to_vec()
    };
    let key = [day, REGION, "s3", "aws4_request"].iter().fold(format!("AWS4{secret}").into_bytes(), |key, text| keyed(&key, text));
    signature == hex::encode(keyed(&key, &said))
}

fn content(bytes: &[u8]) -> Content {
    Content { claim: ClaimId { job: JobId(7), first: TokenSeq(0), plan: 0 }, part: ContentPart::Receipt, bytes: bytes.to_vec() }
}

#[tokio::test]
async fn what_is_published_lies_under_its_content_id_and_is_one_object_however_often() -> Done {
    let store = Store::open("once").await?;
    store.admit("AKIDONE", "one+secret/of=theirs", None)?;
    let publisher = ObjectStore::new(&store.config())?;
    let receipt: Vec<u8> = (0..250_000_u32).map(|index| index.to_le_bytes()[0]).collect();
    for _ in 0..2 {
        assert_eq!(publisher.publish(content(&receipt)).await?, ContentId::of(&receipt));
    }
    let place = format!("/{BUCKET}/host/one/{}", ContentId::of(&receipt));
    assert_eq!(store.look(|shelf| shelf.objects.clone()), BTreeMap::from([(place, receipt)]));
    assert!(publisher.check().await?.contains(BUCKET));
    Ok(())
}

#[tokio::test]
async fn a_store_in_trouble_is_asked_again_and_one_that_refuses_is_not() -> Done {
    let store = Store::open("trouble").await?;
    store.admit("AKIDONE", "one+secret/of=theirs", None)?;
    let publisher = ObjectStore::new(&store.config())?;
    store.look(|shelf| shelf.trouble = vec![StatusCode::SERVICE_UNAVAILABLE; 2]);
    publisher.publish(content(b"a receipt")).await?;
    assert_eq!(store.look(|shelf| (shelf.requests, shelf.objects.len())), (3, 1));
    // Somebody else's secret.
    write_secret(&store.credentials(), "aws_access_key_id = AKIDONE\naws_secret_access_key = another_secret\n")?;
    let refused = publisher.publish(content(b"another")).await.err().ok_or("it was taken")?;
    assert_eq!((refused.code(), store.look(|shelf| (shelf.requests, shelf.objects.len()))), ("MP-S-042", (4, 1)));
    let told = refused.to_string();
    assert!(told.contains("SignatureDoesNotMatch") && !told.contains("another_secret") && told.len() < 1_000, "{told}");
    // Nothing answers: bounded, and no claim is sent.
    store.server.abort();
    let gone = ObjectStore::new(&S3Config { endpoint: Some("http://127.0.0.1:1".into()), ..store.config() })?;
    assert_eq!(gone.publish(content(b"a third")).await.err().map(|error| error.code()), Some("MP-S-042"));
    Ok(())
}

/// Everything that is logged while it is the default.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn credentials_are_replaced_under_a_running_node_and_are_in_no_log() -> Done {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone()).finish();
    let _logged = tracing::subscriber::set_default(subscriber);
    let store = Store::open("replaced").await?;
    store.admit("AKIDONE", "first_secret", Some("first_token"))?;
    let publisher = ObjectStore::new(&store.config())?;
    publisher.publish(content(b"a receipt")).await?;
    store.admit("AKIDTWO", "second_secret", Some("second_token"))?;
    publisher.publish(content(b"another")).await?;
    store.look(|shelf| shelf.users.clear());
    let refused = publisher.publish(content(b"a third")).await.err().ok_or("it was taken")?;
    tracing::info!(%refused, ?publisher, "all that could be told");
    let text = String::from_utf8(log.0.lock().unwrap_or_else(PoisonError::into_inner).clone())?;
    assert!(text.contains("all that could be told") && text.lines().count() > 1, "something was logged");
    for secret in ["first_secret", "second_secret", "first_token", "second_token"] {
        assert!(!text.contains(secret), "{secret} was logged");
    }
    assert_eq!(store.look(|shelf| shelf.objects.len()), 2);
    Ok(())
}

#[tokio::test]
async fn what_could_give_a_secret_away_is_refused_before_anything_is_served() -> Done {
    let store = Store::open("refused").await?;
    store.admit("AKIDONE", "a_secret", None)?;
    let why = |config: S3Config| match ObjectStore::new(&config) {
        Err(Error::Config(why)) => why,
        other => panic!("{other:?}"),
    };
    assert!(why(S3Config { allow_http: false, ..store.config() }).contains("not encrypted"));
    let named = why(S3Config { endpoint: Some("https://user:a_secret@store.example".into()), ..store.config() });
    assert!(named.contains("holds a user") && !named.contains("a_secret"), "{named}");
    assert!(why(S3Config { credentials_file: Some(store.folder.join("none")), ..store.config() }).contains("none"));
    std::fs::set_permissions(store.credentials(), std::fs::Permissions::from_mode(0o640))?;
    assert!(why(store.config()).contains("others can read it"));
    let both = DeployedConfig { publish_to: Some(store.folder.clone()), s3: Some(store.config()), ..DeployedConfig::default() };
    assert!(publisher(&both).err().is_some_and(|error| error.to_string().contains("both set")));
    assert_eq!(store.look(|shelf| shelf.requests), 0);
    Ok(())
}

#[tokio::test]
async fn a_claim_names_what_the_store_holds() -> Done {
    let store = Store::open("claims").await?;
    store.admit("AKIDONE", "one+secret/of=theirs", None)?;
    let mut market = Market::new(Generation::SignedDelta, Around::Nothing).await?;
    market.world.config.deployed.s3 = Some(store.config());
    let world = &market.world;
    let job = market.session().await?;
    // Away at first: the claim waits, and no transaction is made for what nobody could fetch.
    store.look(|shelf| shelf.trouble = vec![StatusCode::FORBIDDEN]);
    let settlement = market.start().await?;
    world.chain.increase_time(60).await?;
    world.generate(job, 100).await?;
    world.end(job).await?;
    world.until_paid(job).await;
    settlement.stop().await?;
    let logs = market.logs(job, "ProofSubmitted(uint256,address,uint256,bytes32,string,string)").await?;
    let [log] = &logs[..] else { panic!("{logs:?}") };
    let told = SignedDeltaForm::ProofSubmitted::decode_log(&log.inner)?;
    let object = |id: &str| store.look(|shelf| shelf.objects.get(&format!("/{BUCKET}/host/one/{id}")).cloned());
    let receipt = object(&told.proofCID).ok_or("no receipt")?;
    assert_eq!(Sha256::digest(&receipt)[..], told.proofHash[..]);
    assert_eq!(object(&told.deltaCID).ok_or("no statement")?, world.claims(job)[0].statement.journal());
    assert_eq!(store.look(|shelf| shelf.trouble.len()), 0, "it was refused once");
    Ok(())
}
