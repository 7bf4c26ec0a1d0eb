"""A transformers tokenizer, reduced to what serving needs."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import Any

from mlx_host.parsing import replace_surrogates
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from mlx_host_text.detokenizer import ByteDetokenizer, ByteTable, Detokenizer, WindowDetokenizer, byte_table

ASCII_WHITESPACE = [chr(code) for code in range(128) if code <= ord(" ") or code == 127]
# transformers marks a tokenizer without a maximum length by a number of this size or more.
NO_MAX_LENGTH = 10**9


@dataclass(frozen=True)
class Vocabulary:
    """The vocabulary of a model whose tokens have known bytes.

    `tokens` are the bytes by token id. `special` maps the text of tokens that no text encodes to, such as
    `<|im_start|>`, to their ids. `eos_ids` end the output. With `drop_first_space`, a space at the start of the output
    is not displayed. `encode` tokenizes text without special tokens.
    """

    tokens: Sequence[bytes]
    special: Mapping[str, int]
    eos_ids: frozenset[int]
    encode: Callable[[str], Sequence[int]]
    drop_first_space: bool = False


class Tokenizer:
    """A tokenizer with its chat template.

    `eos_ids` adds to the tokenizer's own end-of-sequence token. `template_function` renders conversations for models
    whose template is Python code; it is called like `apply_chat_template`, and only without a Jinja template.
    """

    def __init__(
        self, inner: Any, eos_ids: Iterable[int] = (), template_function: Callable[..., Any] | None = None
    ) -> None:
        self._inner = inner
        if template_function is None and _overrides_template(inner):
            template_function = inner.apply_chat_template
        self._template_function = template_function
        if inner.is_fast:
            # Set once, so that encoding on several threads does not change it.
            inner.backend_tokenizer.no_truncation()
            inner.backend_tokenizer.no_padding()
        self._truncation_lock = Lock()
        self._encodes_directly = inner.is_fast and not _overrides_encoding(inner)
        own = inner.eos_token_id
        self.eos_ids: frozenset[int] = frozenset(eos_ids) | ({own} if own is not None else set())
        self.has_template: bool = inner.chat_template is not None or template_function is not None

    @property
    def template_source(self) -> str | None:
        """The Jinja source; None without a template and for templates written in Python."""
        source = self._inner.chat_template
        if isinstance(source, dict):
            source = source.get("tool_use", source.get("default"))
        return source if isinstance(source, str) else None

    @property
    def pad_id(self) -> int:
        return int(self._inner.pad_token_id or 0)

    @property
    def max_length(self) -> int | None:
        """The maximum length in the tokenizer's configuration, in tokens."""
        length = self._inner.model_max_length
        return int(length) if length < NO_MAX_LENGTH else None

    def __len__(self) -> int:
        return len(self._inner)

    def encode(self, text: str) -> list[int]:
        """Token ids of a rendered prompt, which contains its special tokens already."""
        if self._encodes_directly:
            # Without the offsets, which take as long as the rest and delay other threads when they are freed.
            (encoded,) = self._inner.backend_tokenizer.encode_batch_fast([text], add_special_tokens=False)
            return list(encoded.ids)
        return list(self._inner.encode(text, add_special_tokens=False))

    def encode_batch(self, texts: Sequence[str], limit: int | None = None) -> list[list[int]]:
        """Token ids of texts with the special tokens that the tokenizer adds; `limit` truncates the text only."""
        if not texts:
            return []
        options = {"padding": False, "return_attention_mask": False, "return_token_type_ids": False, "verbose": False}
        if limit is None:
            encoded = self._inner(list(texts), truncation=False, **options)
        else:
            with self._truncation_lock:
                encoded = self._truncating(list(texts), truncation=True, max_length=limit, **options)
        return [list(ids) for ids in encoded["input_ids"]]

    def min_tokens(self, text: str) -> int:
        """A lower bound of the number of a text's tokens, much faster than counting them; 0 if there is no bound.

        It counts the visible ASCII characters, which no tokenizer drops.
        """
        if self._max_token_length is None:
            return 0
        characters = len(text.encode("ascii", "ignore")) - sum(map(text.count, ASCII_WHITESPACE))
        return characters // self._max_token_length

    def encode_start(self, text: str, *, special_tokens: bool) -> list[int]:
        """Return the token ids of a prompt; no BOS token is added if the text starts with it."""
        bos = self._inner.bos_token
        adds = special_tokens and not (bos and text.startswith(bos))
        return list(self._inner.encode(text, add_special_tokens=adds))

    def prefix_length(self, prefix: str) -> int:
        """The number of tokens at the start of a text that belong to `prefix`, special tokens included."""
        (tokens,) = self.encode_batch([prefix])
        ends = (self._inner.eos_token_id, self._inner.sep_token_id)
        return len(tokens) - (tokens[-1] in ends)

    def symbols(self, tokens: Sequence[int]) -> list[str]:
        """The vocabulary's spelling of tokens; an empty string for ids outside the vocabulary."""
        return [symbol or "" for symbol in self._inner.convert_ids_to_tokens(list(tokens))]

    def token(self, symbol: str) -> int | None:
        """The id of the token with this spelling."""
        token = self._inner.convert_tokens_to_ids(symbol)
        # Tokenizers return their unknown token for symbols that they do not have.
        return int(token) if token is not None and self.symbols([token]) == [symbol] else None

    def config(self) -> dict[str, Any]:
        """The tokenizer's configuration, as far as it consists of JSON values, and its class."""
        config = {
            name: value
            for name, value in json.loads(json.dumps(self._inner.init_kwargs, default=str)).items()
            # Without the server's paths.
            if name not in ("name_or_path", "chat_template") and not name.endswith("_file")
        }
        return config | {
            "tokenizer_class": type(self._inner).__name__,
            "vocab_size": len(self._inner),
            "eos_token_ids": sorted(self.eos_ids),
        }

    def is_special(self, token: int) -> bool:
        """Whether a token is a control token, such as the end of a turn."""
        added = self._inner.added_tokens_decoder.get(token)
        return token in self.eos_ids or (added is not None and bool(added.special))

    def decode(self, tokens: Sequence[int]) -> str:
        return str(self._inner.decode(list(tokens), skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def detokenizer(self, context: Sequence[int] = ()) -> Detokenizer:
        """Start a text, or continue one whose last tokens are `context`."""
        if self._bytes:
            return ByteDetokenizer(self._bytes, starts=not context)
        return WindowDetokenizer(self.decode, context)

    def token_bytes(self, token: int) -> bytes:
        return self._bytes[token] if self._bytes else self.decode([token]).encode()

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool,
        template: str | None,
        variables: Mapping[str, Any],
    ) -> str:
        """Render the chat template, or `template` in its place; raises one of `chat_template.TEMPLATE_ERRORS`.

        An unpaired surrogate, which no tokenizer accepts and JSON arguments may contain, becomes U+FFFD.
        """
        arguments: dict[str, Any] = {
            **variables,
            "tools": list(tools) or None,
            "add_generation_prompt": add_generation_prompt,
            "tokenize": False,
        }
        if template is not None:
            arguments["chat_template"] = template
        elif self._inner.chat_template is None and self._template_function is not None:
            return replace_surrogates(str(self._template_function(list(messages), **arguments)))
        return replace_surrogates(str(self._inner.apply_chat_template(list(messages), **arguments)))

    def vocabulary(self) -> Vocabulary | None:
        """The vocabulary; None if the bytes of single tokens or the end-of-sequence token are unknown."""
        if self._bytes is None or not self.eos_ids:
            return None
        added = self._inner.added_tokens_decoder.items()
        special = {str(token): token_id for token_id, token in added if token.special or token_id in self.eos_ids}
        # A copy, because the tokenizer itself is used on other threads and parses special tokens in plain text.
        backend = copy.copy(self._inner.backend_tokenizer)
        backend.no_padding()
        backend.no_truncation()
        backend.encode_special_tokens = True

        def encode(text: str) -> list[int]:
            return list(backend.encode(text, add_special_tokens=False).ids)

        return Vocabulary(self._bytes.tokens, special, self.eos_ids, encode, self._bytes.drop_first_space)

    @cached_property
    def _truncating(self) -> Any:
        """A copy for truncation, which is a state of fast tokenizers; used under the lock."""
        return copy.deepcopy(self._inner)

    @cached_property
    def _max_token_length(self) -> int | None:
        """The maximum length of the text of one token without whitespace; None if it is unknown.

        It is unknown if there is an unknown token or a normalizer that shortens text: both allow a token to represent
        text of any length.
        """
        if not self._bytes or not keeps_ascii(self._inner.backend_tokenizer.normalizer):
            return None
        tokens = set(self._bytes.tokens)
        if not all(bytes([byte]) in tokens for byte in range(ord("!"), ord("~") + 1)):
            return None
        return max(len(b"".join(token.split())) for token in tokens)

    @cached_property
    def _bytes(self) -> ByteTable | None:
        if not self._inner.is_fast:
            return None
        decoder = self._inner.backend_tokenizer.decoder
        if decoder is None:
            return None
        symbols = self._inner.convert_ids_to_tokens(list(range(len(self._inner))))
        return byte_table(
            [symbol or "" for symbol in symbols],
            set(self._inner.added_tokens_decoder),
            json.loads(decoder.__getstate__()),
        )


def keeps_ascii(normalizer: Any) -> bool:
    """Whether a normalizer is known to keep at least one byte for each visible ASCII character."""
    return normalizer is None or _keeps_ascii(json.loads(normalizer.__getstate__()))


def _keeps_ascii(state: Mapping[str, Any]) -> bool:
    match state:
        case {"type": "NFC" | "Prepend"}:
            return True
        case {"type": "Replace", "pattern": {"String": str(pattern)}, "content": str(content)}:
            return len(content) >= len(pattern)
        case {"type": "Sequence", "normalizers": list(parts)}:
            return all(map(_keeps_ascii, parts))
    return False


def _overrides_encoding(inner: Any) -> bool:
    """Whether the tokenizer's class or settings encode text in another way than its backend."""
    own = any(
        getattr(type(inner), name) is not getattr(PreTrainedTokenizerFast, name) for name in ("encode", "_encode_plus")
    )
    return own or bool(getattr(inner, "split_special_tokens", False))


def _overrides_template(inner: Any) -> bool:
    """Whether the tokenizer's class renders conversations in Python."""
    own = getattr(type(inner), "apply_chat_template", None)
    return own is not None and own is not PreTrainedTokenizerBase.apply_chat_template
