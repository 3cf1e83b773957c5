//! The host's HTTP doors that a paying client uses besides chatting: session, checkpoints.

use std::time::{Duration, Instant};

use milepost_statement::{Digest, JobId, Salt, Signature, SignedQuote, TokenCount, TokenSeq};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::transcript::Checkpoint;
use crate::wire::{Challenge, Checkpoints, Opened, job_text};
use crate::{Error, init_tls};

/// How long a plain request may take. Chats have their own limits.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a host may take to show that it is there: nobody waits longer for one of many.
const LOOK_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest answer read from a host, bytes: the largest proof bundle.
const MAX_ANSWER: usize = 80 * 1024 * 1024;
/// Most pages of checkpoints asked for: a thousand checkpoints each, a hundred million tokens at the usual threshold.
const MAX_PAGES: usize = 1_000;

/// A host's address.
#[derive(Clone, Debug)]
pub struct Host {
    base: reqwest::Url,
    http: reqwest::Client,
}

/// What a short look at a host shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// Name under which it serves the model; `None` if it does not.
    pub model: Option<String>,
    /// How long its health took to answer.
    pub took: Duration,
}

/// A session token and where the host stands.
#[derive(Clone, Debug)]
pub struct Access {
    /// The token: also an OpenAI API key.
    pub token: String,
    /// Tokens the host has for the job, where it says so.
    pub position: Option<TokenSeq>,
}

impl Host {
    /// From `http://…` or `https://…`.
    pub fn new(url: &str) -> Result<Self, Error> {
        init_tls();
        let wrong = |reason: String| Error::Url { url: url.to_owned(), reason };
        let mut base: reqwest::Url = url.parse().map_err(|error| wrong(format!("{error}")))?;
        if !matches!(base.scheme(), "http" | "https") {
            return Err(wrong("expected http:// or https://".into()));
        }
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        let http = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).build().map_err(|error| wrong(error.to_string()))?;
        Ok(Self { base, http })
    }

    /// Its address as given.
    pub fn url(&self) -> &str {
        self.base.as_str()
    }

    /// The WebSocket door.
    pub(crate) fn socket_url(&self) -> Result<String, Error> {
        let mut url = self.join("v1/ws")?;
        let scheme = if url.scheme() == "https" { "wss" } else { "ws" };
        url.set_scheme(scheme).map_err(|()| Error::Url { url: self.base.to_string(), reason: "it cannot be a WebSocket's".into() })?;
        Ok(url.into())
    }

    /// Whether the host answers and serves the model, within a short time.
    pub async fn look(&self, model: Digest) -> Result<Look, Error> {
        let get = |path: &'static str| Ok::<_, Error>(self.http.get(self.join(path)?).timeout(LOOK_TIMEOUT));
        let begun = Instant::now();
        let _: Value = self.answer("health", get("health")?).await?;
        let took = begun.elapsed();
        let models: Value = self.answer("models", get("v1/models")?).await?;
        let listed = models["data"].as_array().into_iter().flatten();
        let name = listed
            .filter(|entry| entry["digest"].as_str().is_some_and(|digest| digest.parse() == Ok(model)))
            .find_map(|entry| entry["id"].as_str());
        Ok(Look { model: name.map(str::to_owned), took })
    }

    /// Asks for a challenge, has `sign` answer it, and hands over the salt. A quote is shown with the question.
    pub async fn open_session(
        &self,
        job: JobId,
        salt: &Salt,
        quote: Option<&SignedQuote>,
        sign: impl Fn(&milepost_statement::Digest, u64) -> Signature,
    ) -> Result<Access, Error> {
        let mut ask = json!({ "job_id": job_text(job) });
        if let Some(quote) = quote {
            ask["quote"] = json!(quote);
        }
        let challenge: Challenge = self.post("v1/session/challenge", None, ask).await?;
        let signature = sign(&challenge.challenge, challenge.expires_at);
        let body = json!({
            "job_id": job_text(job),
            "challenge": challenge.challenge,
            "expires_at": challenge.expires_at,
            "signature": format!("0x{}", hex::encode(signature)),
            "salt": milepost_statement::Digest(salt.0),
        });
        let opened: Opened = self.post("v1/session", None, body).await?;
        Ok(Access { token: opened.token, position: opened.metered })
    }

    /// Ends the session: the host seals and claims the rest.
    pub async fn close_session(&self, token: &str, job: JobId) -> Result<(), Error> {
        let _: Value = self.post("v1/session/close", Some(token), json!({ "job_id": job_text(job) })).await?;
        Ok(())
    }

    /// Hands over a countersigned running total.
    pub async fn voucher(&self, token: &str, tokens: TokenCount, signature: &Signature) -> Result<(), Error> {
        let body = json!({ "tokens": tokens, "signature": format!("0x{}", hex::encode(signature)) });
        let _: Value = self.post("v1/session/voucher", Some(token), body).await?;
        Ok(())
    }

    /// The job's checkpoints from number `from` on.
    pub async fn checkpoints(&self, token: Option<&str>, job: JobId, mut from: u64) -> Result<Vec<Checkpoint>, Error> {
        let mut all = Vec::new();
        for _ in 0..MAX_PAGES {
            let mut url = self.join(&format!("v1/jobs/{job}/checkpoints"))?;
            url.set_query(Some(&format!("from={from}")));
            let mut request = self.http.get(url).timeout(TIMEOUT);
            if let Some(token) = token {
                request = request.bearer_auth(token);
            }
            let page: Checkpoints = self.answer("checkpoints", request).await?;
            all.extend(page.checkpoints);
            match page.next {
                Some(next) if next > from => from = next,
                _ => return Ok(all),
            }
        }
        Err(Error::Protocol { what: "checkpoints", reason: format!("more than {MAX_PAGES} pages of them") })
    }

    /// Begins a streaming request; an answer that is no success is an error.
    pub(crate) async fn stream(&self, path: &str, token: &str, key: &str, body: &Value) -> Result<reqwest::Response, Error> {
        let request = self.http.post(self.join(path)?).bearer_auth(token).header("Idempotency-Key", key).json(body);
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        if response.status().is_success() { Ok(response) } else { Err(self.refusal(response).await) }
    }

    /// What the host tells of a job: its claims among it.
    pub async fn job(&self, job: JobId) -> Result<Value, Error> {
        self.answer("job", self.http.get(self.join(&format!("v1/jobs/{job}"))?).timeout(TIMEOUT)).await
    }

    /// A claim's proof bundle; with the depositor's token as much of it as is the depositor's.
    pub async fn bundle(&self, token: Option<&str>, claim: &str) -> Result<Vec<u8>, Error> {
        let mut request = self.http.get(self.join(&format!("v1/proofs/{claim}"))?).timeout(TIMEOUT);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        if response.status().is_success() { self.body(response).await } else { Err(self.refusal(response).await) }
    }

    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &'static str, token: Option<&str>, body: Value) -> Result<T, Error> {
        let mut request = self.http.post(self.join(path)?).timeout(TIMEOUT).json(&body);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        self.answer(path, request).await
    }

    async fn answer<T: DeserializeOwned>(&self, what: &'static str, request: reqwest::RequestBuilder) -> Result<T, Error> {
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        if !response.status().is_success() {
            return Err(self.refusal(response).await);
        }
        let bytes = self.body(response).await?;
        serde_json::from_slice(&bytes).map_err(|error| Error::Protocol { what, reason: error.to_string() })
    }

    async fn refusal(&self, response: reqwest::Response) -> Error {
        let status = response.status().as_u16();
        match self.body(response).await {
            Ok(bytes) => refusal(status, &bytes),
            Err(error) => error,
        }
    }

    async fn body(&self, mut response: reqwest::Response) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(&error))? {
            if bytes.len() + chunk.len() > MAX_ANSWER {
                return Err(Error::Protocol { what: "answer", reason: format!("longer than {MAX_ANSWER} bytes") });
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    pub(crate) fn unreachable(&self, error: &reqwest::Error) -> Error {
        // The library's message stops at "error sending request"; its sources say why.
        let mut reason = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(inner) = source {
            reason = inner.to_string();
            source = inner.source();
        }
        Error::HostUnreachable { url: self.base.to_string(), reason }
    }

    fn join(&self, path: &str) -> Result<reqwest::Url, Error> {
        self.base.join(path).map_err(|error| Error::Url { url: self.base.to_string(), reason: format!("{error}") })
    }
}

/// The native doors' flat shape and the OpenAI doors' nested one.
fn refusal(status: u16, body: &[u8]) -> Error {
    let value: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let inner = value.get("error").filter(|error| error.is_object()).unwrap_or(&value);
    let text = |names: &[&str]| names.iter().find_map(|name| inner.get(*name).and_then(Value::as_str)).map(str::to_owned);
    let code = text(&["error_type", "code", "type"]).unwrap_or_else(|| "unknown".into());
    let message = text(&["message", "error"]).unwrap_or_else(|| String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned());
    Error::Host { status, code, message }
}

#[cfg(test)]
mod tests {
    use super::{Host, refusal};
    use crate::Error;

    #[test]
    fn refusals_of_both_shapes_keep_code_and_words() {
        for body in [
            r#"{"error_type":"not_found","message":"no such job","request_id":"r","details":{}}"#,
            r#"{"error":{"code":"not_found","type":"invalid_request_error","message":"no such job"}}"#,
        ] {
            let Error::Host { status: 404, code, message } = refusal(404, body.as_bytes()) else { panic!("a refusal") };
            assert_eq!((code.as_str(), message.as_str()), ("not_found", "no such job"));
        }
        let Error::Host { message, .. } = refusal(502, b"<html>Bad gateway</html>") else { panic!("a refusal") };
        assert!(message.contains("Bad gateway"));
    }

    #[test]
    fn the_socket_lies_beside_the_other_doors() {
        assert_eq!(Host::new("http://127.0.0.1:8080").expect("a url").socket_url().expect("a url"), "ws://127.0.0.1:8080/v1/ws");
        assert_eq!(Host::new("https://host.example/node").expect("a url").socket_url().expect("a url"), "wss://host.example/node/v1/ws");
        assert!(matches!(Host::new("ftp://host.example"), Err(Error::Url { .. })));
        assert!(matches!(Host::new("host.example"), Err(Error::Url { .. })));
    }
}
