"""One answer of an LLM server with the times of its parts; what the stream reader makes and the records keep."""

from typing import List, Optional, Tuple

NONE, CHUNK_USAGE, USAGE, CHUNKS = "none", "chunk_usage", "usage", "chunks"
"""Where a token count comes from."""


class Answer:
    """One request and what came back. All times are CLOCK_MONOTONIC ns of this worker; None: there was no such moment.

    A content chunk is an event that carries output: text, reasoning or a part of a tool call. Chunks without any (the role,
    usage, comments, pings) are in none of the lists.
    """

    __slots__ = (
        "cached_tokens",
        "chunk_ns",
        "chunk_tokens",
        "due_ns",
        "empty_text",
        "end_ns",
        "error",
        "error_text",
        "eval_ns",
        "finish_reason",
        "first_ns",
        "first_output_ns",
        "header_ns",
        "last_ns",
        "load_ns",
        "output_asked",
        "output_tokens",
        "prompt_asked",
        "prompt_eval_ns",
        "prompt_tokens",
        "sent_ns",
        "status",
        "text",
        "token_source",
        "truth",
    )

    def __init__(self, sent_ns: int, due_ns: int) -> None:
        self.sent_ns = sent_ns
        """The request was handed to the socket."""
        self.due_ns = due_ns
        """The schedule wanted it sent; closed loop: the same as `sent_ns`."""
        self.header_ns: Optional[int] = None
        """The first byte of the response was read."""
        self.first_ns: Optional[int] = None
        """The first content chunk was read."""
        self.first_output_ns: Optional[int] = None
        """The first content chunk that is no reasoning was read."""
        self.last_ns: Optional[int] = None
        """The last content chunk was read."""
        self.end_ns = sent_ns
        """The last byte of the response was read."""
        self.chunk_ns: List[int] = []
        """When each content chunk was read, in order; those of one read are equal."""
        self.chunk_tokens: Optional[List[int]] = None
        """Tokens of each content chunk where the server says them; as long as `chunk_ns`."""
        self.status = 0
        """HTTP status."""
        self.error = ""
        """Class of the error; empty: it ended well."""
        self.error_text = ""
        """What the server said about it."""
        self.text = ""
        """All output without reasoning."""
        self.prompt_tokens: Optional[int] = None
        self.output_tokens: Optional[int] = None
        self.cached_tokens: Optional[int] = None
        """Of the prompt's tokens, those that the server had in its prefix cache."""
        self.token_source = NONE
        """`chunk_usage` (each chunk tells), `usage` (the answer tells), `chunks` (one token a chunk is assumed), `none`."""
        self.finish_reason = ""
        self.truth: Optional[List[Tuple[int, int]]] = None
        """Truth server only: when it had the request and when it sent the chunk, one a content chunk."""
        self.load_ns: Optional[int] = None
        """Ollama: how long the model was loaded before this answer."""
        self.eval_ns: Optional[int] = None
        """Ollama: how long the server says it made output."""
        self.prompt_eval_ns: Optional[int] = None
        """Ollama: how long the server says it read the prompt."""
        self.empty_text = False
        """The server counted tokens, but not one chunk carried text: `first_ns` is the first chunk with an empty text."""
        self.prompt_asked: Optional[int] = None
        """Tokens that the prompt was made for."""
        self.output_asked: Optional[int] = None
        """Tokens that were asked for."""
