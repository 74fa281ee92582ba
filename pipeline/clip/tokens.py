"""How many tokens a caption has for a model's own tokenizer, which cuts in silence."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer

from pipeline.clip.model import Tokenizer, load_tokenizer
from pipeline.errors import ModelError
from pipeline.params import ModelParams

Counts = np.ndarray[Any, np.dtype[np.int64]]

_PLAIN = re.compile(r"[ -%'-~]*")
"""Printable ASCII without `&`: what a tokenizer's cleaning can't change but for case and spaces."""

_ENDS = 2
"""The start and the end of a text are tokens too."""


class TokenCounter:
    """Counts tokens; words are looked up once.

    Attributes:
        limit: the tokens that the model reads.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Count with `tokenizer`; ModelError for neither CLIP's nor Hugging Face's kind."""
        if not isinstance(tokenizer, SimpleTokenizer | HFTokenizer):
            raise ModelError(f"can't count the tokens of a {type(tokenizer).__name__}")
        self._tokenizer = tokenizer
        self._words: dict[str, int] = {}
        self.limit = int(tokenizer.context_length)

    def count(self, captions: Sequence[str]) -> Counts:
        """N captions → their numbers of tokens, start and end included, nothing cut."""
        if isinstance(self._tokenizer, HFTokenizer):
            return self._hugging_face(captions)
        counts = (self._simple(caption) for caption in captions)
        return np.fromiter(counts, dtype=np.int64, count=len(captions))

    def _simple(self, caption: str) -> int:
        tokenizer = self._tokenizer
        plain = tokenizer.clean_fn.__name__ == "_clean_lower" and _PLAIN.fullmatch(caption)
        if not plain:
            return len(tokenizer.encode(caption)) + _ENDS
        total = _ENDS
        for word in caption.lower().split():
            known = self._words.get(word)
            if known is None:
                known = self._words[word] = len(tokenizer.encode(word))
            total += known
        return total

    def _hugging_face(self, captions: Sequence[str]) -> Counts:
        if not captions:
            return np.empty(0, dtype=np.int64)
        texts = [self._tokenizer.clean_fn(caption) for caption in captions]
        ids = self._tokenizer.tokenizer(texts, truncation=False, verbose=False)["input_ids"]
        return np.array([len(one) for one in ids], dtype=np.int64)


def token_counter(base: ModelParams) -> TokenCounter:
    """A counter for the tokenizer of a base model; ModelError where it can't be loaded."""
    return TokenCounter(load_tokenizer(base))
