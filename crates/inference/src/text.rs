//! From pieces to text.

/// Assembles pieces into complete UTF-8, since one character may be spread over several tokens.
///
/// With stop sequences it also keeps back text that may be the beginning of one, and drops a match and all after it.
#[derive(Clone, Debug, Default)]
pub struct TextStream {
    /// The incomplete character at the end: at most three bytes after each push.
    partial: Vec<u8>,
    /// Complete text that may be the beginning of a stop sequence.
    held: String,
    stops: Vec<String>,
    stopped: bool,
}

impl TextStream {
    /// A stream without stop sequences.
    pub fn new() -> Self {
        Self::default()
    }

    /// A stream that ends before the first of these. Empty ones are ignored.
    pub fn with_stops(stops: &[String]) -> Self {
        Self { stops: stops.iter().filter(|stop| !stop.is_empty()).cloned().collect(), ..Self::default() }
    }

    /// Adds a piece and returns the text that became complete, maybe none. Bytes that can never become UTF-8 turn into
    /// U+FFFD.
    pub fn push(&mut self, piece: &[u8]) -> String {
        if self.stopped {
            return String::new();
        }
        self.partial.extend_from_slice(piece);
        let complete = self.take_complete();
        if self.stops.is_empty() {
            return complete;
        }
        self.held.push_str(&complete);
        self.release()
    }

    /// Ends the stream: what is still held, an incomplete character as U+FFFD.
    pub fn finish(&mut self) -> String {
        if self.stopped {
            return String::new();
        }
        let rest = String::from_utf8_lossy(&std::mem::take(&mut self.partial)).into_owned();
        self.held.push_str(&rest);
        std::mem::take(&mut self.held)
    }

    /// True once a stop sequence was met.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    fn take_complete(&mut self) -> String {
        let mut complete = String::with_capacity(self.partial.len());
        let mut rest: &[u8] = &self.partial;
        loop {
            match std::str::from_utf8(rest) {
                Ok(text) => {
                    complete.push_str(text);
                    rest = &[];
                    break;
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    complete.push_str(&String::from_utf8_lossy(valid));
                    match error.error_len() {
                        // Not wrong, only unfinished.
                        None => {
                            rest = after;
                            break;
                        }
                        Some(wrong) => {
                            complete.push(char::REPLACEMENT_CHARACTER);
                            rest = &after[wrong..];
                        }
                    }
                }
            }
        }
        self.partial = rest.to_vec();
        complete
    }

    fn release(&mut self) -> String {
        if let Some(at) = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min() {
            self.stopped = true;
            self.held.truncate(at);
            return std::mem::take(&mut self.held);
        }
        let keep = self.stops.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        let tail = self.held.split_off(self.held.len() - keep);
        std::mem::replace(&mut self.held, tail)
    }
}

/// Length of the longest proper beginning of `stop` with which `text` ends.
fn overlap(text: &str, stop: &str) -> usize {
    let longest = text.len().min(stop.len() - 1);
    (1..=longest).rev().find(|&length| stop.is_char_boundary(length) && text.ends_with(&stop[..length])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(stream: &mut TextStream, bytes: &[u8], size: usize) -> String {
        let mut text: String = bytes.chunks(size).map(|piece| stream.push(piece)).collect();
        text.push_str(&stream.finish());
        text
    }

    #[test]
    fn text_is_the_same_however_it_is_cut() {
        let text = "Grüße, 🦀 and 👩‍🚀!";
        for size in 1..=text.len() {
            assert_eq!(all(&mut TextStream::new(), text.as_bytes(), size), text);
            assert_eq!(all(&mut TextStream::with_stops(&["!?".into()]), text.as_bytes(), size), text);
        }
    }

    #[test]
    fn a_character_is_not_delivered_before_its_last_byte() {
        let mut stream = TextStream::new();
        let crab = "🦀".as_bytes();
        assert_eq!(stream.push(&crab[..2]), "");
        assert_eq!(stream.push(&crab[2..]), "🦀");
    }

    #[test]
    fn bytes_that_are_no_text_become_replacement_characters() {
        let mut stream = TextStream::new();
        assert_eq!(stream.push(b"a\xff\xfeb\xf0\x9f"), "a\u{fffd}\u{fffd}b");
        assert_eq!(stream.finish(), "\u{fffd}");
    }

    #[test]
    fn a_stop_sequence_is_cut_off_however_it_arrives() {
        let text = "one two END three";
        for size in 1..=text.len() {
            let mut stream = TextStream::with_stops(&["END".into(), "three".into()]);
            assert_eq!(all(&mut stream, text.as_bytes(), size), "one two ");
            assert!(stream.is_stopped());
        }
    }

    #[test]
    fn only_what_may_still_be_a_stop_is_held_back() {
        let mut stream = TextStream::with_stops(&["\n\nUser".into()]);
        assert_eq!(stream.push(b"Hello\n"), "Hello");
        assert_eq!(stream.push(b"you\n\nUs"), "\nyou");
        assert_eq!(stream.push(b"ual"), "\n\nUsual");
        assert_eq!(stream.finish(), "");
    }
}
