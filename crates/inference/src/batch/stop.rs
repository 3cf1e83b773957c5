//! Finding stop sequences in the bytes of successive pieces.

/// Remembers as many bytes as a match may begin in.
#[derive(Debug)]
pub(super) struct StopMatcher {
    stops: Vec<Vec<u8>>,
    /// The end of what was pushed, one byte shorter than the longest stop sequence.
    tail: Vec<u8>,
    keep: usize,
}

impl StopMatcher {
    pub(super) fn new(stops: &[String]) -> Self {
        let stops: Vec<Vec<u8>> = stops.iter().map(|stop| stop.as_bytes().to_vec()).collect();
        let keep = stops.iter().map(Vec::len).max().unwrap_or(1) - 1;
        Self { stops, tail: Vec::new(), keep }
    }

    /// Adds a piece; true if a stop sequence ends in it.
    pub(super) fn push(&mut self, piece: &[u8]) -> bool {
        if self.stops.is_empty() {
            return false;
        }
        self.tail.extend_from_slice(piece);
        let found = self.stops.iter().any(|stop| self.tail.windows(stop.len()).any(|window| window == stop.as_slice()));
        let surplus = self.tail.len().saturating_sub(self.keep);
        self.tail.drain(..surplus);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_is_found_across_pieces_and_inside_one() {
        let mut matcher = StopMatcher::new(&["END".into(), "🦀".into()]);
        assert!(!matcher.push(b"the E"));
        assert!(!matcher.push(b"N"));
        assert!(matcher.push(b"D of"));
        assert!(!matcher.push(&"🦀".as_bytes()[..3]));
        assert!(matcher.push(&"🦀".as_bytes()[3..]));
        assert!(matcher.push(b"an END inside"));
        assert!(!matcher.push(b" and no more"));
    }

    #[test]
    fn nothing_stops_where_nothing_was_asked() {
        assert!(!StopMatcher::new(&[]).push(b"anything"));
    }
}
