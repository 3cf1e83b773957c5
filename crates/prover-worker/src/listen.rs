//! `serve --listen`: this machine proves for nodes elsewhere. Each proof is made by a process of its own, this very program.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use milepost_prover::{Key, Options, Pin, Server, ServerOptions};
use tokio::net::TcpListener;

/// What was asked for on the command line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    listen: SocketAddr,
    key: PathBuf,
    admit: Vec<Pin>,
    proofs: usize,
    memory_mb: Option<u64>,
}

impl Arguments {
    /// Reads `--name value` pairs.
    pub(crate) fn parse(arguments: &[&str]) -> Result<Self> {
        let (mut listen, mut key, mut admit, mut proofs, mut memory_mb) = (None, None, Vec::new(), 1, None);
        let (pairs, rest) = arguments.as_chunks::<2>();
        if let [name] = rest {
            bail!("{name} has no value");
        }
        for [name, value] in pairs {
            match *name {
                "--listen" => listen = Some(parse(name, value)?),
                "--key" => key = Some(PathBuf::from(value)),
                "--admit" => admit.push(parse(name, value)?),
                "--proofs" => proofs = parse(name, value)?,
                "--memory-mb" => memory_mb = Some(parse(name, value)?),
                _ => bail!("{name} is not known"),
            }
        }
        if admit.is_empty() {
            bail!("nobody is admitted: give --admit and a node's identity, once for each node");
        }
        if !(1..=64).contains(&proofs) {
            bail!("--proofs is 1 to 64");
        }
        Ok(Self { listen: listen.context("--listen is missing")?, key: key.context("--key is missing")?, admit, proofs, memory_mb })
    }
}

fn parse<T: FromStr<Err: std::fmt::Display>>(name: &str, value: &str) -> Result<T> {
    value.parse().map_err(|why| anyhow::anyhow!("{name} {value}: {why}"))
}

/// Serves until the process is ended.
pub(crate) fn listen(arguments: Arguments) -> Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    tokio::runtime::Runtime::new()?.block_on(serve(arguments))
}

async fn serve(Arguments { listen, key, admit, proofs, memory_mb }: Arguments) -> Result<()> {
    let key = Key::at(&key)?;
    let mut worker = Options::new(std::env::current_exe().context("where this program is")?);
    worker.memory_mb = memory_mb.unwrap_or(worker.memory_mb);
    let memory_mb = worker.memory_mb;
    let nodes = admit.len();
    let server = Server::new(ServerOptions { proofs, ..ServerOptions::new(worker, admit) }, &key)?;
    server.check().await?;
    let listener = TcpListener::bind(listen).await.with_context(|| format!("listening on {listen}"))?;
    println!("identity {}; {nodes} nodes admitted; {proofs} proofs at once, {memory_mb} MB each", key.pin());
    // Last: whoever started this may stop reading here.
    println!("listening on {}", listener.local_addr()?);
    server.run(listener).await;
    Ok(())
}

/// Prints the identity of the key in a file, which is made if it is not there.
pub(crate) fn identity(key: &str) -> Result<()> {
    println!("{}", Key::at(key.as_ref())?.pin());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_admits_those_who_are_named_and_nobody_by_default() {
        let pin = "ab".repeat(32);
        let all = ["--listen", "127.0.0.1:9", "--key", "k.pem", "--admit", &pin, "--admit", &pin, "--proofs", "2", "--memory-mb", "700"];
        let read = Arguments::parse(&all).unwrap();
        assert_eq!((read.admit.len(), read.proofs, read.memory_mb, read.listen.port()), (2, 2, Some(700), 9));
        for wrong in [&all[..4], &all[..5], &all[2..6], &["--admit", "nobody"], &["--proofs", "0"], &["--verbose", "1"]] {
            assert!(Arguments::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
