//! The file: one form, strictly read.

use milepost_bundle::{BUNDLE_TAG, Bundle, Certificate, FormatError as Error};
use milepost_statement::Digest;
use proptest::prelude::*;

use crate::sample;

fn full() -> Bundle {
    Bundle {
        certificate: Some(Certificate { set_file: Digest([8; 32]), bytes: vec![1, 2, 3], link: vec![vec![4], vec![5, 6]] }),
        ..sample::mock()
    }
}

fn file() -> Vec<u8> {
    full().encode().expect("encodes")
}

#[test]
fn a_bundle_is_read_as_it_was_written_with_and_without_its_optional_parts() {
    let whole = full();
    let mut public = whole.clone();
    public.opening = None;
    let mut early = public.clone();
    (early.landing, early.certificate) = (None, None);
    let mut unsalted = whole.clone();
    if let Some(opening) = &mut unsalted.opening {
        opening.salt = None;
    }
    let mut sent = whole.clone();
    if let Some(landing) = &mut sent.landing {
        landing.inclusion = None;
    }
    for bundle in [whole, public, early, unsalted, sent] {
        let file = bundle.encode().expect("encodes");
        assert_eq!(Bundle::decode(&file), Ok(bundle));
    }
}

#[test]
fn a_file_cut_anywhere_is_named_as_cut() {
    let file = file();
    let boundaries: Vec<usize> = sections(&file).into_iter().map(|(_, at, _)| at).collect();
    for length in 1..file.len() {
        let refused = Bundle::decode(&file[..length]).map(|_| length);
        // Between two sections nothing is cut, but something is missing, unless what follows may be left out.
        if boundaries.contains(&length) {
            assert!(matches!(refused, Ok(_) | Err(Error::Missing { .. })), "{length}: {refused:?}");
        } else {
            assert!(matches!(refused, Err(Error::Truncated { .. })), "{length}: {refused:?}");
        }
    }
    assert_eq!(Bundle::decode(b""), Err(Error::NotABundle));
}

#[test]
fn two_claims_in_one_file_are_refused_by_name() {
    let file = file();
    assert_eq!(Bundle::decode(&[&file[..], &file].concat()), Err(Error::TwoClaims));
    // Without the second's first line, too, and right behind the first claim's section.
    assert_eq!(Bundle::decode(&[&file[..], &file[BUNDLE_TAG.len()..]].concat()), Err(Error::TwoClaims));
    let (_, at, end) = sections(&file)[0];
    assert_eq!(Bundle::decode(&[&file[..end], &file[at..]].concat()), Err(Error::TwoClaims));
}

#[test]
fn anything_but_known_sections_in_order_is_refused() {
    let file = file();
    let sections = sections(&file);
    let part = |number: usize| &file[sections[number].1..sections[number].2];
    let made = |numbers: &[usize]| {
        let parts: Vec<&[u8]> = numbers.iter().map(|number| part(*number)).collect();
        Bundle::decode(&[BUNDLE_TAG, &parts.concat()].concat())
    };
    assert_eq!(sections.iter().map(|section| section.0).collect::<Vec<_>>(), (1..=10).collect::<Vec<u8>>());
    assert_eq!(made(&[0, 1, 1, 2]), Err(Error::Twice(2)));
    assert_eq!(made(&[0, 2, 1]), Err(Error::Order { found: 2, after: 3 }));
    assert_eq!(made(&[0, 2]), Err(Error::Missing { section: 2, what: "receipt" }));
    assert_eq!(made(&[1, 2]), Err(Error::Missing { section: 1, what: "claim" }));
    assert_eq!(made(&[0, 1, 2, 3]), Err(Error::Missing { section: 5, what: "token ids" }), "an opening is whole or not there");
    assert_eq!(made(&[0, 1, 2, 6]), Err(Error::Missing { section: 4, what: "turns digests" }), "a salt alone opens nothing");
    assert_eq!(made(&[0, 1, 2, 8]), Err(Error::Missing { section: 8, what: "transaction" }));
    assert_eq!(Bundle::decode(&[&file[..], &[11, 0, 0, 0, 0]].concat()), Err(Error::UnknownSection(11)));
    assert_eq!(Bundle::decode(&[&file[..], b"x"].concat()), Err(Error::Truncated { section: 0, missing: 4 }));
    assert_eq!(Bundle::decode(b"MILEPOST BUNDLE 2\n"), Err(Error::Version));
    assert_eq!(Bundle::decode(b"MILEPOST RECEIPT 1\n"), Err(Error::NotABundle));
}

#[test]
fn lengths_that_no_content_has_are_refused_before_anything_is_read() {
    let too_long = [BUNDLE_TAG, &[2, 255, 255, 255, 255]].concat();
    assert!(matches!(Bundle::decode(&too_long), Err(Error::Length { section: 2, .. })));
    let odd = [BUNDLE_TAG, &[3, 41, 0, 0, 0], &[0; 41]].concat();
    assert!(matches!(Bundle::decode(&odd), Err(Error::Missing { section: 1, .. })));
    let mut bundle = full();
    bundle.receipt = Vec::new();
    assert!(matches!(bundle.encode(), Err(Error::Length { section: 2, found: 0, .. })), "nothing is written that would not be read");
}

#[test]
fn a_journal_that_is_no_statement_is_refused() {
    let mut file = file();
    let (_, at, _) = sections(&file)[0];
    file[at + 5 + 64] = 1;
    assert!(matches!(Bundle::decode(&file), Err(Error::Journal(_))));
}

proptest! {
    #[test]
    fn whatever_is_read_has_one_form(at in any::<usize>(), by in 1_u8..) {
        let mut file = file();
        let at = at % file.len();
        file[at] ^= by;
        if let Ok(bundle) = Bundle::decode(&file) {
            prop_assert_eq!(bundle.encode().expect("what is read can be written"), file);
        }
    }

    #[test]
    fn no_bytes_break_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Bundle::decode(&[BUNDLE_TAG, &bytes].concat());
    }
}

/// Number, begin and end of each section.
fn sections(file: &[u8]) -> Vec<(u8, usize, usize)> {
    let mut found = Vec::new();
    let mut at = BUNDLE_TAG.len();
    while at < file.len() {
        let length = u32::from_le_bytes(file[at + 1..at + 5].try_into().expect("four bytes"));
        let end = at + 5 + usize::try_from(length).expect("short");
        found.push((file[at], at, end));
        at = end;
    }
    found
}
