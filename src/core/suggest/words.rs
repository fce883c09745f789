//! A text reduced to hashes of its words, to see whether another text repeats any of it.

use std::hash::{Hash, Hasher};

use rustc_hash::FxHasher;

/// Words in a row that two texts do not have in common by chance.
const ROW: usize = 4;
/// Words of a text that are looked at.
const MAX_WORDS: usize = 32_768;
/// Shorter words tell nothing of where a text is from.
const TELLING: usize = 4;

/// The words of a text. Case, punctuation and the form of a file around it do not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// Of each four words in a row, sorted.
    rows: Vec<u32>,
    /// Words of four letters and more, and those with a digit; sorted.
    telling: Vec<u32>,
    /// There is more of the text than was looked at.
    is_cut: bool,
}

impl Words {
    pub fn of(text: &str) -> Self {
        let mut words: Vec<&str> = Vec::new();
        let mut telling = Vec::new();
        let mut is_cut = false;
        let all = text.split(|c: char| !c.is_alphanumeric());
        for word in all.filter(|word| !word.is_empty()) {
            if words.len() == MAX_WORDS {
                is_cut = true;
                break;
            }
            words.push(word);
            if word.chars().count() >= TELLING || word.bytes().any(|byte| byte.is_ascii_digit()) {
                telling.push(hash(&[word]));
            }
        }
        let mut rows: Vec<u32> = words.windows(ROW).map(hash).collect();
        for list in [&mut rows, &mut telling] {
            list.sort_unstable();
            list.dedup();
            list.shrink_to_fit();
        }
        Self {
            rows,
            telling,
            is_cut,
        }
    }

    /// Whether a text that repeats this one would be seen to.
    pub fn is_known(&self) -> bool {
        !self.is_cut && !self.rows.is_empty()
    }

    /// Says that this is the front of a text only.
    #[must_use]
    pub fn cut(mut self) -> Self {
        self.is_cut = true;
        self
    }

    /// Whether it may hold a row of `other`.
    pub fn may_share_a_row(&self, other: &Self) -> bool {
        self.is_cut || other.is_cut || self.shares_a_row(other)
    }

    /// Whether four words in a row are the same in both.
    pub fn shares_a_row(&self, other: &Self) -> bool {
        let (short, long) = if self.rows.len() < other.rows.len() {
            (self, other)
        } else {
            (other, self)
        };
        let mut rows = short.rows.iter();
        rows.any(|row| long.rows.binary_search(row).is_ok())
    }

    /// Whether more than half of the telling words of each are in the other.
    pub fn is_mostly(&self, other: &Self) -> bool {
        let shared = self.telling.iter().filter(|word| other.has(**word)).count();
        shared * 2 > self.telling.len().max(other.telling.len())
    }

    /// Its words that tell where it is from and that `other` does not have.
    pub fn beyond<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = u32> + 'a {
        let its = self.telling.iter().copied();
        its.filter(|word| !other.has(*word))
    }

    pub fn has(&self, word: u32) -> bool {
        self.telling.binary_search(&word).is_ok()
    }

    /// Bytes of memory that it takes.
    pub fn size(&self) -> usize {
        (self.rows.len() + self.telling.len()) * size_of::<u32>()
    }
}

/// Half of a hash is a hash.
fn hash(words: &[&str]) -> u32 {
    let mut hasher = FxHasher::default();
    for word in words {
        for c in word.chars().flat_map(char::to_lowercase) {
            c.hash(&mut hasher);
        }
        hasher.write_u8(0xff);
    }
    (hasher.finish() >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_known_again_within_another_however_it_is_set() {
        let said = Words::of("The printer has no paper.");
        assert!(said.is_known());
        let asked = Words::of("Summary so far:\n\t\"the PRINTER, has no paper\"; go on");
        assert!(asked.shares_a_row(&said) && said.shares_a_row(&asked));
        assert!(!Words::of("The network has no power").shares_a_row(&said));
    }

    #[test]
    fn what_is_too_short_or_too_long_is_not_known() {
        assert!(!Words::of("yes, of course").is_known());
        assert!(!Words::of(&"word ".repeat(MAX_WORDS + 1)).is_known());
        assert!(Words::of(&"word ".repeat(MAX_WORDS)).is_known());
    }

    #[test]
    fn texts_of_one_template_have_most_of_their_words_in_common() {
        let one = Words::of("Describe the taste of a pear");
        assert!(Words::of("Describe the taste of a kiwi").is_mostly(&one));
        assert!(!Words::of("Describe a pear").is_mostly(&Words::of("Describe a kiwi")));
        let long = format!(
            "Describe the taste of a pear. {}",
            "Then 1 2 3 4 5 6 7 8 9."
        );
        assert!(!Words::of(&long).is_mostly(&one) && !one.is_mostly(&Words::of(&long)));
        assert!(!Words::of("").is_mostly(&Words::of("")));
    }

    #[test]
    fn only_telling_words_count_as_beyond() {
        let (first, then) = (
            Words::of("describe the pear"),
            Words::of("describe the kiwi 7"),
        );
        assert_eq!(then.beyond(&first).count(), 2, "kiwi and 7");
    }
}
