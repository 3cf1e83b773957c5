//! Reads every vector by the `.proto` file and compares what it means with what it is said to mean; writes it again and compares the
//! bytes; and finds the method's path and the reasons' numbers.

use std::collections::BTreeMap;
use std::path::Path;

use prost_reflect::prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage};

type Error = Box<dyn std::error::Error>;

const PACKAGE: &str = "milepost.validator.v1";
/// Each file of messages with its vectors.
const FILES: [(&str, &str); 2] = [("validator.proto", "vectors.txt"), ("certificates.proto", "certificates.txt")];
/// The numbers that the crate's `Reason` has.
const REASONS: [&str; 11] =
    ["UNSPECIFIED", "VERSION", "CHAIN", "TRUSTED", "SET", "UNKNOWN", "IDENTITY", "MALFORMED", "SILENT", "REPLACED", "CLOSING"];

fn unhex(text: &str) -> Result<Vec<u8>, Error> {
    if text.len() % 2 != 0 {
        return Err("an odd number of digits".into());
    }
    Ok((0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16)).collect::<Result<_, _>>()?)
}

fn check(pool: &DescriptorPool, name: &str, bytes: &[u8], meaning: &str) -> Result<(), Error> {
    let descriptor = pool.get_message_by_name(&format!("{PACKAGE}.{name}")).ok_or("no such message")?;
    let message = DynamicMessage::decode(descriptor, bytes)?;
    if message.unknown_fields().next().is_some() {
        return Err("has fields that the .proto file does not know".into());
    }
    if message.encode_to_vec() != bytes {
        return Err("is written otherwise".into());
    }
    let read = serde_json::to_value(&message)?;
    if read != serde_json::from_str::<serde_json::Value>(meaning)? {
        return Err(format!("means {read}").into());
    }
    Ok(())
}

/// Checks one file's vectors; says how many there are.
fn check_file(folder: &Path, proto: &str, vectors: &str) -> Result<usize, Error> {
    let pool = DescriptorPool::from_file_descriptor_set(protox::compile([proto], [folder])?)?;
    let methods: Vec<String> = pool
        .services()
        .flat_map(|service| service.methods().map(|method| format!("/{}/{}", service.full_name(), method.name())).collect::<Vec<_>>())
        .collect();
    let text = std::fs::read_to_string(folder.join(vectors))?;
    let mut lines = text.lines();
    let mut checked = 0;
    while let Some(line) = lines.next() {
        if line.starts_with('#') {
            continue;
        }
        let (what, value) = line.split_once(':').ok_or("a line without a colon")?;
        if what == "path" {
            if methods != [value.trim()] {
                return Err(format!("the methods are {methods:?}").into());
            }
            continue;
        }
        let meaning = lines.next().and_then(|line| line.strip_prefix("#= ")).ok_or("a vector without a meaning")?;
        let name = what.split(' ').next().unwrap_or_default();
        check(&pool, name, &unhex(value.trim())?, meaning).map_err(|error| format!("{what}: {error}"))?;
        checked += 1;
    }
    if checked == 0 { Err(format!("{vectors} holds no vectors").into()) } else { Ok(checked) }
}

/// Checks that the reasons have the crate's numbers; says how many there are.
fn check_reasons(folder: &Path) -> Result<usize, Error> {
    let pool = DescriptorPool::from_file_descriptor_set(protox::compile(["validator.proto"], [folder])?)?;
    let reasons = pool.get_enum_by_name(&format!("{PACKAGE}.Reason")).ok_or("there are no reasons")?;
    let numbers: BTreeMap<i32, String> = reasons.values().map(|value| (value.number(), value.name().to_owned())).collect();
    let expected = (0..).zip(REASONS.map(|name| format!("REASON_{name}"))).collect::<BTreeMap<_, _>>();
    if numbers == expected { Ok(numbers.len() - 1) } else { Err(format!("the reasons are {numbers:?}").into()) }
}

fn main() -> Result<(), Error> {
    // As cargo says it now: a target folder that several clones share keeps the program of another one, which may be gone.
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").ok_or("run it by `cargo run`")?;
    let folder = Path::new(&manifest).join("..");
    for (proto, vectors) in FILES {
        let checked = check_file(&folder, proto, vectors).map_err(|error| format!("{proto}: {error}"))?;
        println!("{checked} vectors and the method agree with {proto}");
    }
    println!("{} reasons agree with validator.proto", check_reasons(&folder)?);
    Ok(())
}
