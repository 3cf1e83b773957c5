//! The two sentences, as the README has them.

/// What a proof says.
pub const PROVEN: &str = "this host committed to exactly these N tokens, following on from the last claim.";
/// What it does not say.
pub const NOT_PROVEN: &str =
    "that the model produced them, or that the client received them. Vouchers, which the client countersigns, say the latter.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentences_are_those_of_the_readme_word_for_word() {
        let readme = include_str!("../../../README.md").split_whitespace().collect::<Vec<_>>().join(" ");
        for (title, sentence) in [("What is proven:", PROVEN), ("What is not proven:", NOT_PROVEN)] {
            assert!(readme.contains(&format!("**{title}** {sentence}")), "{title}");
        }
    }
}
