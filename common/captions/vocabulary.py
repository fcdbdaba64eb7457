"""From sentences to numbers: words, the vocabulary of the frequent ones, and rows of word numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from common.data.captions import SPECIAL
from common.validate import checked_count

MARKS = frozenset(SPECIAL) - {"<UNK>"}


def tokenize(sentence: str) -> list[str]:
    """The words of a sentence in lower case, without punctuation: "A dog's ball, red." -> a, dogs, ball, red.

    Raises:
        TypeError: sentence is not a string.
    """
    if not isinstance(sentence, str):
        raise TypeError(f"a caption must be a string, got {type(sentence).__name__} ({sentence!r})")
    return re.findall(r"[^\W_]+", re.sub(r"['’]", "", sentence.lower()))


def build_vocabulary(sentences: Iterable[Sequence[str]], threshold: int = 5) -> list[str]:
    """The words to know, by number: <NULL>, <START>, <END>, <UNK>, then the frequent words, the most frequent first.

    Args:
        sentences: training captions as lists of words.
        threshold: a word that occurs less often becomes <UNK>.
    Returns:
        The words; equally frequent ones in the order of the alphabet.
    Raises:
        ValueError: threshold below 1, or no word is that frequent.
    """
    threshold = checked_count("threshold", threshold)
    counts = Counter(word for words in sentences for word in words)
    known = sorted((word for word, n in counts.items() if n >= threshold), key=lambda word: (-counts[word], word))
    if not known:
        raise ValueError(
            f"no word occurs {threshold} times (threshold); the captions have {len(counts)} different words"
        )
    return [*SPECIAL, *known]


def encode(words: Sequence[str], word_to_idx: dict[str, int], max_words: int = 15) -> np.ndarray:
    """One row of numbers: <START>, the words, <END>, then <NULL>.

    Args:
        words: of one caption; those after the first max_words are cut off.
        word_to_idx: the number of each word; unknown words become <UNK>.
        max_words: T - 2.
    Returns:
        int32 (T,).
    """
    unknown, kept = word_to_idx["<UNK>"], words[:max_words]
    row = np.full(max_words + 2, word_to_idx["<NULL>"], dtype=np.int32)
    row[: len(kept) + 2] = [word_to_idx["<START>"], *(word_to_idx.get(w, unknown) for w in kept), word_to_idx["<END>"]]
    return row


def plain_words(caption: str) -> list[str]:
    """The words of a decoded caption up to its end, without <START>, <END> and <NULL>."""
    return [word for word in caption.partition("<END>")[0].split() if word not in MARKS]
