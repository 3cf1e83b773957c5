//! Ordered reads: ranges of keys, pages of records, and an iterator over pages.

use crate::{Error, Storage, Table};

/// Most records in one page: a reader holds a bounded piece of a table, however large the table is.
pub const MAX_PAGE_ENTRIES: usize = 4096;
/// Most bytes of keys and values in one page, unless a single record is larger.
pub const MAX_PAGE_BYTES: usize = 4 << 20;

/// A record as it lies in a table: key and value.
pub type Entry = (Vec<u8>, Vec<u8>);

/// Keys from `start` (inclusive) to `end` (exclusive; none: to the last key).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    start: Vec<u8>,
    end: Option<Vec<u8>>,
}

impl Range {
    /// Every key.
    pub fn all() -> Self {
        Self { start: Vec::new(), end: None }
    }

    /// Keys `start ≤ key < end`.
    pub fn between(start: impl Into<Vec<u8>>, end: impl Into<Vec<u8>>) -> Self {
        Self { start: start.into(), end: Some(end.into()) }
    }

    /// Keys `start ≤ key`.
    pub fn from(start: impl Into<Vec<u8>>) -> Self {
        Self { start: start.into(), end: None }
    }

    /// Keys that begin with `prefix`.
    pub fn prefix(prefix: impl Into<Vec<u8>>) -> Self {
        let start = prefix.into();
        // The first key behind a prefix: its last byte below 0xff counted up, what follows cut off.
        let end = start.iter().rposition(|byte| *byte != u8::MAX).map(|last| {
            let mut end = start[..=last].to_vec();
            end[last] += 1;
            end
        });
        Self { start, end }
    }

    /// First key of the range.
    pub fn start(&self) -> &[u8] {
        &self.start
    }

    /// First key behind the range; none: the range has no end.
    pub fn end(&self) -> Option<&[u8]> {
        self.end.as_deref()
    }

    /// True if no key can lie in it.
    pub fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| *end <= self.start)
    }

    /// True if `key` lies in it.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.start.as_slice() <= key && self.end.as_ref().is_none_or(|end| key < end.as_slice())
    }

    /// What is left of the range behind `key`, in the order of reading.
    fn rest(&self, key: &[u8], order: Order) -> Self {
        match order {
            Order::Ascending => {
                // The next possible key after `key` is `key` with a zero byte behind it.
                let mut start = key.to_vec();
                start.push(0);
                Self { start, end: self.end.clone() }
            }
            Order::Descending => Self { start: self.start.clone(), end: Some(key.to_vec()) },
        }
    }
}

/// The order in which records are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Smallest key first.
    Ascending,
    /// Largest key first.
    Descending,
}

/// A bounded piece of a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The records, in the order asked for.
    pub entries: Vec<Entry>,
    /// What was not reached because the page was full; none: the range is read to its end.
    pub next: Option<Range>,
}

/// Fills one page from records that arrive in order; shared by the engines, so that they page alike.
pub(crate) struct PageBuilder<'a> {
    range: &'a Range,
    order: Order,
    limit: usize,
    bytes: usize,
    page: Page,
}

impl<'a> PageBuilder<'a> {
    pub(crate) fn new(range: &'a Range, order: Order, limit: usize) -> Self {
        let page = Page { entries: Vec::new(), next: None };
        Self { range, order, limit: limit.clamp(1, MAX_PAGE_ENTRIES), bytes: 0, page }
    }

    /// Takes a record; false: the page is full without it.
    pub(crate) fn push(&mut self, key: &[u8], value: &[u8]) -> bool {
        let bytes = self.bytes + key.len() + value.len();
        if let Some((last, _)) = self.page.entries.last()
            && (self.page.entries.len() == self.limit || bytes > MAX_PAGE_BYTES)
        {
            self.page.next = Some(self.range.rest(last, self.order));
            return false;
        }
        self.bytes = bytes;
        self.page.entries.push((key.to_vec(), value.to_vec()));
        true
    }

    pub(crate) fn finish(self) -> Page {
        self.page
    }
}

/// Reads a range record by record, page by page.
///
/// Guarantees: each record that was there throughout is seen once, in order. Does not: give one snapshot across pages; a
/// writer at work between two pages is seen.
pub fn entries<S: Storage + ?Sized>(store: &S, table: Table, range: Range, order: Order) -> Entries<'_, S> {
    Entries { store, table, order, rest: Some(range), at_a_time: MAX_PAGE_ENTRIES, page: Vec::new().into_iter() }
}

/// The iterator that [`entries`] answers. It ends after its first error.
pub struct Entries<'a, S: Storage + ?Sized> {
    store: &'a S,
    table: Table,
    order: Order,
    rest: Option<Range>,
    at_a_time: usize,
    page: std::vec::IntoIter<Entry>,
}

impl<S: Storage + ?Sized> Entries<'_, S> {
    /// Reads this many records at a time (1 to [`MAX_PAGE_ENTRIES`]): a reader that stops after a few need not fetch thousands.
    #[must_use]
    pub fn in_pages_of(mut self, entries: usize) -> Self {
        self.at_a_time = entries.clamp(1, MAX_PAGE_ENTRIES);
        self
    }
}

impl<S: Storage + ?Sized> Iterator for Entries<'_, S> {
    type Item = Result<Entry, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.page.next() {
                return Some(Ok(entry));
            }
            let range = self.rest.take()?;
            match self.store.scan(self.table, &range, self.order, self.at_a_time) {
                Ok(page) => {
                    self.rest = page.next;
                    self.page = page.entries.into_iter();
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
