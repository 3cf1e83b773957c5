//! A store's whole content as one file, independent of the engine.
//!
//! ```text
//! magic    "MPDUMP01"
//! record*  0x01 ‖ table name length u8 ‖ table name ‖ key length u32 LE ‖ value length u32 LE ‖ key ‖ value
//! trailer  0x00 ‖ record count u64 LE ‖ crc32 u32 LE over everything before it
//! ```

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use crate::quarantine::sync_directory_of;
use crate::{Batch, Durability, Error, MAX_KEY_BYTES, MAX_VALUE_BYTES, Order, Range, Storage, Table, entries};

const MAGIC: &[u8; 8] = b"MPDUMP01";
const RECORD: u8 = 1;
const TRAILER: u8 = 0;
/// Bytes loaded in one batch: large enough to be quick, small enough to stay in memory.
const LOAD_BATCH_BYTES: usize = 1 << 20;

/// Writes all tables of a store to a new file and syncs it. `path` must not exist. Answers the number of records.
///
/// Guarantees: what is in the file was in the store. Does not: stop writers; a store that is written to meanwhile may be
/// dumped with a part of a batch.
pub fn save(store: &dyn Storage, path: &Path) -> Result<u64, Error> {
    let file = File::create_new(path).map_err(writing)?;
    let mut out = Checked { inner: BufWriter::new(file), crc: crc32fast::Hasher::new() };
    let count = write_records(store, &mut out)?;
    let crc = out.crc.clone().finalize();
    out.inner.write_all(&crc.to_le_bytes()).map_err(writing)?;
    let file = out.inner.into_inner().map_err(|error| writing(error.into_error()))?;
    file.sync_all().and_then(|()| sync_directory_of(path)).map_err(writing)?;
    Ok(count)
}

fn write_records(store: &dyn Storage, out: &mut impl Write) -> Result<u64, Error> {
    out.write_all(MAGIC).map_err(writing)?;
    let mut count = 0u64;
    for table in store.tables() {
        let name = table.name().as_bytes();
        for entry in entries(store, *table, Range::all(), Order::Ascending) {
            let (key, value) = entry?;
            // Lengths fit: Table, MAX_KEY_BYTES and MAX_VALUE_BYTES bound them.
            #[allow(clippy::cast_possible_truncation)]
            let head = [&[RECORD, name.len() as u8], name, &(key.len() as u32).to_le_bytes(), &(value.len() as u32).to_le_bytes()].concat();
            out.write_all(&head).and_then(|()| out.write_all(&key)).and_then(|()| out.write_all(&value)).map_err(writing)?;
            count += 1;
        }
    }
    out.write_all(&[TRAILER]).and_then(|()| out.write_all(&count.to_le_bytes())).map_err(writing)?;
    Ok(count)
}

/// Reads a dump into a store, whose own records it replaces where keys are equal. Answers the number of records.
///
/// The file is read to its checksum once before anything is written, so that a damaged dump changes nothing.
pub fn load(store: &dyn Storage, path: &Path) -> Result<u64, Error> {
    read_records(path, |name, _, _| find(store, name).map(drop))?;
    let mut batch = Batch::new();
    let count = read_records(path, |name, key, value| {
        batch.put(find(store, name)?, key, value);
        if batch.bytes() >= LOAD_BATCH_BYTES {
            store.write(std::mem::take(&mut batch), Durability::Buffered)?;
        }
        Ok(())
    })?;
    store.write(batch, Durability::Synced)?;
    Ok(count)
}

fn find(store: &dyn Storage, name: &str) -> Result<Table, Error> {
    let known = store.tables().iter().copied().find(|table| table.name() == name);
    known.ok_or_else(|| unusable(format!("it holds a table `{name}` that the store lacks")))
}

fn read_records(path: &Path, mut each: impl FnMut(&str, Vec<u8>, Vec<u8>) -> Result<(), Error>) -> Result<u64, Error> {
    let file = File::open(path).map_err(reading)?;
    let mut input = Checked { inner: BufReader::new(file), crc: crc32fast::Hasher::new() };
    if &input.array::<8>()? != MAGIC {
        return Err(unusable("it does not begin as one"));
    }
    let mut count = 0u64;
    loop {
        match input.array::<1>()?[0] {
            RECORD => {
                let name_length = usize::from(input.array::<1>()?[0]);
                let name = input.vec(name_length, usize::from(u8::MAX))?;
                let name = String::from_utf8(name).map_err(|_| unusable("a table's name is not text"))?;
                let (key_length, value_length) = (input.length()?, input.length()?);
                let key = input.vec(key_length, MAX_KEY_BYTES)?;
                let value = input.vec(value_length, MAX_VALUE_BYTES)?;
                each(&name, key, value)?;
                count += 1;
            }
            TRAILER => break,
            _ => return Err(unusable(format!("record {count} has an unknown kind"))),
        }
    }
    let expected = u64::from_le_bytes(input.array()?);
    let computed = input.crc.clone().finalize();
    let found = u32::from_le_bytes(input.array()?);
    if expected != count || found != computed {
        return Err(unusable(format!("{count} records, checksum {computed:08x}; it claims {expected}, {found:08x}")));
    }
    Ok(count)
}

/// Reads or writes, and sums up what passed.
struct Checked<T> {
    inner: T,
    crc: crc32fast::Hasher,
}

impl<W: Write> Write for Checked<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.crc.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<R: Read> Checked<R> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let mut bytes = [0; N];
        self.inner.read_exact(&mut bytes).map_err(reading)?;
        self.crc.update(&bytes);
        Ok(bytes)
    }

    fn length(&mut self) -> Result<usize, Error> {
        self.array().map(u32::from_le_bytes).map(|length| length as usize)
    }

    /// Reads `length` bytes. The limit is checked before memory is taken: a damaged length must not exhaust it.
    fn vec(&mut self, length: usize, limit: usize) -> Result<Vec<u8>, Error> {
        if length > limit {
            return Err(unusable(format!("a length of {length} exceeds {limit}")));
        }
        let mut bytes = vec![0; length];
        self.inner.read_exact(&mut bytes).map_err(reading)?;
        self.crc.update(&bytes);
        Ok(bytes)
    }
}

fn unusable(reason: impl Into<String>) -> Error {
    Error::Dump { reason: reason.into() }
}

#[allow(clippy::needless_pass_by_value, reason = "passed to map_err by name")]
fn writing(error: io::Error) -> Error {
    Error::Io { doing: "writing a dump", reason: error.to_string() }
}

#[allow(clippy::needless_pass_by_value, reason = "passed to map_err by name")]
fn reading(error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return unusable("it ends too early");
    }
    Error::Io { doing: "reading a dump", reason: error.to_string() }
}
