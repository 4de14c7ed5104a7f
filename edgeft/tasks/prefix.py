"""A text that a language model is to continue, token by token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgeft.tasks import tokenizer as tokens
from edgeft.tasks.texts import PREPROCESS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from tokenizers import Tokenizer


@dataclass(frozen=True)
class Prefix:
    """A text's tokens. kept: special ones in front, which stay where its words are cut; ids: the others."""

    tokenizer: Tokenizer
    length: int
    pad: int
    kept: list[int]
    ids: list[int]

    @classmethod
    def read(cls, text: str, prepared: Path) -> Prefix:
        """The text's tokens, without special ones behind it: what follows them is another text."""
        stated = tokens.read_json(prepared / PREPROCESS)
        tokenizer = tokens.read_tokenizer(prepared / "tokenizer.json")
        tokenizer.no_truncation()
        tokenizer.no_padding()
        found = tokenizer.encode(text)
        ids, special = list(found.ids), list(found.special_tokens_mask)
        while ids and special[-1] and len(ids) > 1:
            ids.pop()
            special.pop()
        front = next((place for place, mark in enumerate(special) if not mark), len(special))
        return cls(tokenizer, int(stated["length"]), int(stated["pad_id"]), ids[:front], ids[front:])

    def feeds(self, new: Sequence[int]) -> dict[str, NDArray[np.int64]]:
        """input_ids and attention_mask (1, length): the text and what was added, its first words cut where too long."""
        import numpy as np

        room = self.length - len(self.kept)
        ids = [*self.kept, *[*self.ids, *new][-room:]]
        filled = np.full((1, self.length), self.pad, np.int64)
        filled[0, : len(ids)] = ids
        return {"input_ids": filled, "attention_mask": (np.arange(self.length)[None] < len(ids)).astype(np.int64)}

    def ends(self, token: int) -> bool:
        """Whether a token ends the text: it is a special one."""
        found = self.tokenizer.get_added_tokens_decoder().get(token)
        return found is not None and bool(found.special)

    def spell(self, ids: Sequence[int]) -> str:
        """Tokens as text; bytes that are no whole letter by themselves show as a replacement character."""
        return str(self.tokenizer.decode(list(ids)))
