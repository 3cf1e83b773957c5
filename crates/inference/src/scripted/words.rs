//! The scripted engine's vocabulary: three control tokens, every byte, and some words.

use crate::TokenId;

/// End of generation.
pub(super) const END: TokenId = 0;
/// A message begins.
pub(super) const START: TokenId = 1;
/// A message ends.
pub(super) const CLOSE: TokenId = 2;

const BYTES: TokenId = 3;
const WORDS: TokenId = BYTES + 256;

const LIST: [&str; 64] = [
    " a",
    " the",
    " of",
    " and",
    " to",
    " is",
    " in",
    " that",
    " it",
    " on",
    " by",
    " with",
    " as",
    " from",
    " road",
    " stone",
    " mile",
    " token",
    " proof",
    " paid",
    " count",
    " every",
    " each",
    " word",
    " line",
    " river",
    " bridge",
    " north",
    " south",
    " hill",
    " town",
    " cart",
    " horse",
    " traveller",
    " keeper",
    " ledger",
    " coin",
    " seal",
    " letter",
    " morning",
    " evening",
    " rain",
    " light",
    " walks",
    " counts",
    " carries",
    " reads",
    " writes",
    " keeps",
    " passes",
    " reaches",
    " knows",
    " long",
    " short",
    " old",
    " new",
    " quiet",
    " bright",
    ",",
    ".",
    "!",
    " grün",
    " où",
    " 道",
];

const EMOJI: [&str; 8] = ["🦀", "🚀", "🪙", "🧾", "🛣️", "🐎", "🌧️", "👩‍🚀"];

/// Number of ids.
pub(super) fn vocabulary() -> u32 {
    WORDS + words()
}

fn words() -> u32 {
    u32::try_from(LIST.len()).expect("a short list")
}

/// The bytes of an id.
pub(super) fn piece(id: TokenId) -> Option<Vec<u8>> {
    match id {
        END | START | CLOSE => Some(Vec::new()),
        BYTES..WORDS => Some(vec![u8::try_from(id - BYTES).expect("256 ids stand for bytes")]),
        _ => LIST.get((id - WORDS) as usize).map(|word| word.as_bytes().to_vec()),
    }
}

fn byte(byte: u8) -> TokenId {
    BYTES + TokenId::from(byte)
}

/// The longest word that fits at each place, otherwise single bytes.
pub(super) fn encode(text: &str, ids: &mut Vec<TokenId>) {
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let longest = LIST.iter().zip(WORDS..).filter(|(word, _)| rest.starts_with(**word)).max_by_key(|(word, _)| word.len());
        if let Some((word, id)) = longest {
            ids.push(id);
            rest = &rest[word.len()..];
        } else {
            let (character, after) = rest.split_at(first.len_utf8());
            ids.extend(character.bytes().map(byte));
            rest = after;
        }
    }
}

/// A word, or one time in eight an emoji byte by byte.
pub(super) fn pick(hash: &[u8; 32]) -> Vec<TokenId> {
    if hash[0] < 32 {
        let emoji = EMOJI[usize::from(hash[1]) % EMOJI.len()];
        std::iter::once(b' ').chain(emoji.bytes()).map(byte).collect()
    } else {
        vec![WORDS + TokenId::from(hash[1]) % words()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_survives_encoding() {
        for text in ["", "the road, the 🦀!", " grün où 道 \u{0} ÿ", "a the thereof"] {
            let mut ids = Vec::new();
            encode(text, &mut ids);
            let bytes: Vec<u8> = ids.iter().flat_map(|&id| piece(id).unwrap()).collect();
            assert_eq!(String::from_utf8(bytes).unwrap(), text);
        }
    }

    #[test]
    fn ids_end_where_the_vocabulary_does() {
        assert!(piece(vocabulary() - 1).is_some());
        assert_eq!(piece(vocabulary()), None);
    }
}
