//! Content in an S3-compatible object store, one object under each content id.
//!
//! # Guarantees
//!
//! An object is there when `publish` has answered: the store has acknowledged its bytes, and what it acknowledged is what was signed
//! for (the signature covers their hash). The same bytes again are the same object. Tries, times and answers are bounded.
//! Credentials come from a file or the environment, are read anew for each request (so that short-lived ones may be replaced under a
//! running node), and are in no log and no error.
//!
//! **Does not** make the objects readable for the world, or delete any: that is the bucket's policy.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use alloy::transports::http::reqwest;
use async_trait::async_trait;
use hmac::{Hmac, Mac as _};
use milepost_prover::BoxFuture;
use object_store::aws::{AmazonS3, AmazonS3Builder, AwsCredential};
use object_store::client::{
    CryptoProvider, DigestAlgorithm, DigestContext, HmacContext, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest,
    HttpResponse, HttpResponseBody, HttpService, Signer, SigningAlgorithm,
};
use object_store::{
    Attribute, Attributes, BackoffConfig, ClientOptions, CredentialProvider, ObjectStore as _, PutOptions, PutPayload, RetryConfig,
};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{Content, ContentId, Publisher};
use crate::config::S3Config;
use crate::{Error, install_tls};

/// Raw bytes named by a content id of the raw codec.
const CONTENT_TYPE: &str = "application/vnd.ipld.raw";
/// What the check publishes.
const TRIAL: &[u8] = b"milepost: content can be published here\n";
/// One request: a receipt has a quarter of a MiB.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Further tries of one publication, and the time after which none is begun. The claim itself is tried again later.
const RETRIES: usize = 3;
const RETRY_FOR: Duration = Duration::from_secs(30);
const BACKOFF: BackoffConfig = BackoffConfig { init_backoff: Duration::from_millis(100), max_backoff: Duration::from_secs(5), base: 2.0 };
/// Bytes of an answer that are read: a put answers with headers, an error with a page of XML.
const MAX_ANSWER: usize = 64 * 1024;
/// Characters of a store's error that are told.
const MAX_TOLD: usize = 400;
/// Most bytes of a credentials file: beyond it, a wrong file was named.
const MAX_CREDENTIALS: u64 = 16 * 1024;

/// Publishes into a bucket.
#[derive(Debug)]
pub struct ObjectStore {
    store: AmazonS3,
    prefix: String,
    /// Where it is, for people.
    place: String,
}

impl ObjectStore {
    /// Prepares the connection; asks nothing yet. Credentials must be there.
    pub fn new(config: &S3Config) -> Result<Self, Error> {
        install_tls();
        let wrong = |why: String| Error::Config(format!("chain.deployed.s3: {why}"));
        let credentials = Credentials(config.credentials_file.clone());
        credentials.read().map_err(wrong)?;
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&config.bucket)
            .with_region(&config.region)
            .with_credentials(Arc::new(credentials))
            .with_crypto_provider(Arc::new(Crypto))
            .with_http_connector(Connector)
            .with_retry(RetryConfig { backoff: BACKOFF, max_retries: RETRIES, retry_timeout: RETRY_FOR })
            // Without an endpoint it is the region's own; a name with dots has no certificate there.
            .with_virtual_hosted_style_request(config.endpoint.is_none() && !config.bucket.contains('.'));
        let mut place = format!("bucket {} in {}", config.bucket, config.region);
        if let Some(endpoint) = &config.endpoint {
            let url: reqwest::Url = endpoint.parse().map_err(|_| wrong(format!("endpoint is no URL: {endpoint:?}")))?;
            match url.scheme() {
                "https" => {}
                "http" if config.allow_http => {}
                "http" => return Err(wrong("endpoint is not encrypted: https://, or allow_http = true".to_owned())),
                other => return Err(wrong(format!("endpoint must begin with https://, not {other}://"))),
            }
            if !url.username().is_empty() || url.password().is_some() {
                return Err(wrong("endpoint holds a user or a password: credentials_file or the environment is their place".to_owned()));
            }
            builder = builder.with_endpoint(url.as_str()).with_allow_http(config.allow_http);
            place = format!("bucket {} at {endpoint}", config.bucket);
        }
        let store = builder.build().map_err(|error| wrong(error.to_string()))?;
        Ok(Self { store, prefix: config.prefix.clone(), place })
    }

    async fn put(&self, bytes: Vec<u8>) -> Result<ContentId, Error> {
        let id = ContentId::of(&bytes);
        let path = object_store::path::Path::from(format!("{}{id}", self.prefix));
        let attributes = Attributes::from_iter([(Attribute::ContentType, CONTENT_TYPE)]);
        let options = PutOptions { attributes, ..PutOptions::default() };
        match self.store.put_opts(&path, PutPayload::from(bytes), options).await {
            Ok(_) => Ok(id),
            Err(error) => {
                let told: String = error.to_string().chars().take(MAX_TOLD).collect();
                Err(Error::Publish(format!("{}: {told}", self.place)))
            }
        }
    }
}

impl Publisher for ObjectStore {
    fn publish(&self, content: Content) -> BoxFuture<'_, Result<ContentId, Error>> {
        Box::pin(self.put(content.bytes))
    }

    fn check(&self) -> BoxFuture<'_, Result<String, Error>> {
        Box::pin(async { self.put(TRIAL.to_vec()).await.map(|_| self.place.clone()) })
    }
}

/// Reads the credentials when they are needed.
struct Credentials(Option<PathBuf>);

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(file) => write!(f, "Credentials({})", file.display()),
            None => f.write_str("Credentials(environment)"),
        }
    }
}

impl Credentials {
    fn read(&self) -> Result<AwsCredential, String> {
        match &self.0 {
            Some(file) => {
                let text = secret_file(file).map_err(|why| format!("credentials_file {}: {why}", file.display()))?;
                parse(&text).map_err(|why| format!("credentials_file {}: {why}", file.display()))
            }
            None => from_names(|name| std::env::var(name.to_uppercase()).ok().filter(|value| !value.is_empty())).ok_or_else(|| {
                "no credentials: set credentials_file, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment".to_owned()
            }),
        }
    }
}

#[async_trait]
impl CredentialProvider for Credentials {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let from = Self(self.0.clone());
        let read = tokio::task::spawn_blocking(move || from.read()).await.unwrap_or_else(|panic| Err(panic.to_string()));
        read.map(Arc::new).map_err(|why| object_store::Error::Unauthenticated { path: "credentials".to_owned(), source: why.into() })
    }
}

fn from_names(of: impl Fn(&str) -> Option<String>) -> Option<AwsCredential> {
    let (key_id, secret_key) = (of("aws_access_key_id")?, of("aws_secret_access_key")?);
    Some(AwsCredential { key_id, secret_key, token: of("aws_session_token") })
}

/// The text of a small file that only its owner reads.
fn secret_file(file: &Path) -> Result<Zeroizing<String>, String> {
    let about = std::fs::metadata(file).map_err(|error| error.to_string())?;
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::mode(&about.permissions());
        if mode & 0o077 != 0 {
            return Err(format!("others can read it (mode {:o}); chmod 600", mode & 0o777));
        }
    }
    if about.len() > MAX_CREDENTIALS {
        return Err(format!("{} bytes are no credentials", about.len()));
    }
    std::fs::read_to_string(file).map(Zeroizing::new).map_err(|error| error.to_string())
}

/// The form that the store's own tools write: `name = value` lines, below the name of one profile in brackets or none.
fn parse(text: &str) -> Result<AwsCredential, String> {
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';']));
    if lines().filter(|line| line.starts_with('[')).count() > 1 {
        return Err("it has several profiles: which one is meant? Give this node a file of its own".to_owned());
    }
    let of = |name: &str| {
        let value = |line: &str| line.split_once('=').filter(|(found, _)| found.trim() == name).map(|(_, value)| value.trim().to_owned());
        lines().find_map(value).filter(|value| !value.is_empty())
    };
    // What is wrong is said without the text: it may be the secret.
    from_names(of).ok_or_else(|| "it lacks aws_access_key_id or aws_secret_access_key".to_owned())
}

/// The node's own HTTP client, so that a store's answers are bounded like everybody else's and nothing is followed elsewhere.
#[derive(Debug)]
struct Connector;

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = reqwest::Client::builder().timeout(TIMEOUT).connect_timeout(TIMEOUT).redirect(reqwest::redirect::Policy::none());
        let client = client.build().map_err(|error| object_store::Error::Generic { store: "S3", source: error.into() })?;
        Ok(HttpClient::new(Http(client)))
    }
}

#[derive(Debug)]
struct Http(reqwest::Client);

#[async_trait]
impl HttpService for Http {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (parts, body) = request.into_parts();
        let url = parts.uri.to_string().parse().map_err(|_| failed(HttpErrorKind::Unknown, "the request has no address"))?;
        let mut request = reqwest::Request::new(parts.method, url);
        *request.headers_mut() = parts.headers;
        *request.body_mut() = Some(reqwest::Body::wrap(body));
        let mut response = self.0.execute(request).await.map_err(lost)?;
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(lost)? {
            if bytes.len() + chunk.len() > MAX_ANSWER {
                return Err(failed(HttpErrorKind::Decode, "the answer is longer than any this node asks for"));
            }
            bytes.extend_from_slice(&chunk);
        }
        let mut answer = HttpResponse::new(HttpResponseBody::from(bytes));
        *answer.status_mut() = response.status();
        *answer.headers_mut() = response.headers().clone();
        Ok(answer)
    }
}

/// A put may be tried again whatever became of it: it says the same each time.
fn lost(error: reqwest::Error) -> HttpError {
    let kind = match () {
        () if error.is_timeout() => HttpErrorKind::Timeout,
        () if error.is_connect() => HttpErrorKind::Connect,
        () => HttpErrorKind::Interrupted,
    };
    HttpError::new(kind, error.without_url())
}

fn failed(kind: HttpErrorKind, why: &'static str) -> HttpError {
    HttpError::new(kind, std::io::Error::other(why))
}

/// SHA-256 and its HMAC, which is all that signing a request takes.
#[derive(Debug)]
struct Crypto;

struct Hash {
    state: Sha256,
    out: [u8; 32],
}

struct KeyedHash {
    state: Hmac<Sha256>,
    out: [u8; 32],
}

impl CryptoProvider for Crypto {
    fn digest(&self, algorithm: DigestAlgorithm) -> object_store::Result<Box<dyn DigestContext>> {
        match algorithm {
            DigestAlgorithm::Sha256 => Ok(Box::new(Hash { state: Sha256::new(), out: [0; 32] })),
            other => Err(unsupported(&other)),
        }
    }

    fn hmac(&self, algorithm: DigestAlgorithm, secret: &[u8]) -> object_store::Result<Box<dyn HmacContext>> {
        let state = Hmac::<Sha256>::new_from_slice(secret).map_err(|_| unsupported(&"a key of this length"))?;
        match algorithm {
            DigestAlgorithm::Sha256 => Ok(Box::new(KeyedHash { state, out: [0; 32] })),
            other => Err(unsupported(&other)),
        }
    }

    fn sign(&self, algorithm: SigningAlgorithm, _: &[u8]) -> object_store::Result<Box<dyn Signer>> {
        Err(unsupported(&algorithm))
    }
}

impl DigestContext for Hash {
    fn update(&mut self, data: &[u8]) {
        self.state.update(data);
    }

    fn finish(&mut self) -> object_store::Result<&[u8]> {
        self.out = self.state.finalize_reset().into();
        Ok(&self.out)
    }
}

impl HmacContext for KeyedHash {
    fn update(&mut self, data: &[u8]) {
        self.state.update(data);
    }

    fn finish(&mut self) -> object_store::Result<&[u8]> {
        self.out = self.state.finalize_reset().into_bytes().into();
        Ok(&self.out)
    }
}

fn unsupported(what: &dyn fmt::Debug) -> object_store::Error {
    object_store::Error::NotSupported { source: format!("{what:?} is not used for signing requests").into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_read_in_the_form_that_the_stores_tools_write() {
        let read =
            parse("# mine\n[default]\naws_access_key_id = AKID\naws_secret_access_key=a=b/c+d\n\naws_session_token = tok\n").unwrap();
        assert_eq!((read.key_id.as_str(), read.secret_key.as_str(), read.token.as_deref()), ("AKID", "a=b/c+d", Some("tok")));
        assert_eq!(parse("aws_access_key_id=A\naws_secret_access_key=B").unwrap().token, None);
    }

    #[test]
    fn what_is_wrong_with_credentials_is_told_without_them() {
        for text in ["", "verysecret", "aws_access_key_id = A\naws_secret_access_key =\n", "[a]\naws_secret_access_key = verysecret\n[b]"] {
            let why = parse(text).unwrap_err();
            assert!(!why.contains("verysecret"), "{why}");
        }
        assert_eq!(format!("{:?}", Credentials(Some("/etc/s3".into()))), "Credentials(/etc/s3)");
    }

    #[test]
    fn a_keyed_hash_is_the_one_of_its_standard() {
        // RFC 4231, test case 2.
        let mut context = Crypto.hmac(DigestAlgorithm::Sha256, b"Jefe").unwrap();
        context.update(b"what do ya want ");
        context.update(b"for nothing?");
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(hex::encode(context.finish().unwrap()), expected);
    }
}
