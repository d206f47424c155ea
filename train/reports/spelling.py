"""One spelling for what reports write in many: British, American, hyphened and mistyped."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

_SHORTEST = 7  # letters; in shorter words a slip makes too many other words
_LONG_WORD = re.compile(rf"[a-z]{{{_SHORTEST},24}}")
_MOST_KEPT = 65_536  # words whose correction is remembered


class Spelling:
    """Brings a sentence into the spelling of the rules.

    A long word that is one slip (a letter missing, too many, wrong, or two swapped) away from a
    word that matters is taken for it, by what both leave when a letter is dropped. [1]_

    Parameters
    ----------
    replace : sequence of (str, str)
        Pattern and replacement, applied in this order to small letters.
    words : sequence of str
        Words that matter, in the spelling of the rules.
    leave : sequence of str
        Words that are one slip away from those and are others all the same.

    References
    ----------
    .. [1] Mor M, Fraenkel AS, A hash code method for detecting and correcting spelling errors,
       Communications of the ACM 1982.
    """

    def __init__(
        self, replace: Sequence[Sequence[str]], words: Sequence[str], leave: Sequence[str]
    ) -> None:
        self._replace = [(re.compile(pattern), other) for pattern, other in replace]
        self._known = frozenset((*words, *leave))
        self._shortened = {part: word for word in words for part in _shortened(word)}
        self._corrected = lru_cache(_MOST_KEPT)(self._correct)

    def normal(self, sentence: str) -> str:
        """Return the sentence in small letters, single spaces and the spelling of the rules."""
        text = " ".join(sentence.lower().split())
        for pattern, other in self._replace:
            text = pattern.sub(other, text)
        return _LONG_WORD.sub(lambda found: self._corrected(found[0]), text)

    def _correct(self, word: str) -> str:
        if word in self._known:
            return word
        for part in _shortened(word):
            meant = self._shortened.get(part)
            if meant and _one_slip(word, meant):
                return meant
        return word


def _shortened(word: str) -> Iterator[str]:
    """Yield the word and what is left of it without each of its letters."""
    yield word
    for place in range(len(word)):
        yield word[:place] + word[place + 1 :]


def _one_slip(word: str, meant: str) -> bool:
    """Tell whether one letter more, less or other, or two swapped, make one word of the other."""
    start = next(
        (i for i, (a, b) in enumerate(zip(word, meant, strict=False)) if a != b),
        min(len(word), len(meant)),
    )
    one, other = word[start:], meant[start:]
    if len(one) == len(other):
        swapped = one[1:2] + one[:1] + one[2:]
        return one[1:] == other[1:] or swapped == other
    return one[1:] == other or one == other[1:]
