//! RLP: the published examples, one form only, and no bytes that break the reader.

use milepost_bundle::rlp::{Error, Item, list, number, string};
use proptest::prelude::*;

#[test]
fn the_published_examples_are_written_and_read() {
    // Ethereum's own examples of RLP.
    let lorem = b"Lorem ipsum dolor sit amet, consectetur adipisicing elit";
    let cases: [(Vec<u8>, Vec<u8>); 7] = [
        (string(b"dog"), b"\x83dog".to_vec()),
        (list(&[string(b"cat"), string(b"dog")]), b"\xc8\x83cat\x83dog".to_vec()),
        (string(b""), vec![0x80]),
        (list::<Vec<u8>>(&[]), vec![0xc0]),
        (number(0), vec![0x80]),
        (number(1024), vec![0x82, 0x04, 0x00]),
        (string(lorem), [&[0xb8, 56][..], lorem].concat()),
    ];
    for (written, expected) in cases {
        assert_eq!(written, expected);
        assert_eq!(Item::only(&written).map(|item| item.raw.to_vec()), Ok(expected));
    }
    assert_eq!(number(15), [15]);
    assert_eq!(Item::only(&number(1024)).and_then(|item| item.number()), Ok(1024));
}

#[test]
fn a_second_form_of_the_same_item_is_refused() {
    let cases: [&[u8]; 9] = [
        &[0x81, 0x05],                                   // stands for itself
        &[0xb8, 1, 0xff],                                // short enough for the short form
        &[0xb9, 0, 60],                                  // length with a leading zero
        &[0x83, b'a', b'b'],                             // cut
        &[0x80, 0x80],                                   // something behind it
        &[0xbf, 255, 255, 255, 255, 255, 255, 255, 255], // a length beyond memory
        &[0xf8],
        &[0xb8],
        &[],
    ];
    for bytes in cases {
        assert_eq!(Item::only(bytes), Err(Error), "{bytes:02x?}");
    }
    assert_eq!(Item::only(&[0x82, 0, 5]).and_then(|item| item.number()), Err(Error), "a leading zero");
    assert_eq!(Item::only(&list(&[number(1), number(2)])).and_then(|item| item.items(1)), Err(Error), "too many");
}

proptest! {
    #[test]
    fn what_is_written_is_read(strings in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..20)) {
        let encoded: Vec<_> = strings.iter().map(|bytes| string(bytes)).collect();
        let all = list(&encoded);
        let items = Item::only(&all).unwrap().items(20).unwrap();
        prop_assert_eq!(items.iter().map(|item| item.bytes().unwrap().to_vec()).collect::<Vec<_>>(), strings);
    }

    #[test]
    fn no_bytes_break_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        if let Ok(item) = Item::only(&bytes) {
            let again = if item.is_list { list(&[item.payload]) } else { string(item.payload) };
            prop_assert_eq!(&again, &bytes, "only the canonical form is read");
            let _ = item.items(100);
        }
    }
}
