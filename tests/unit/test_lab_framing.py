"""Frames of the lab are as long as the providers' were measured, and say what they should."""

from __future__ import annotations

import json
import struct
import zlib
from itertools import pairwise
from random import Random

import pytest

from llmflow.lab.framing import Compressed, Framing, Message
from llmflow.lab.framing.anthropic import Messages
from llmflow.lab.framing.binary import ConverseStream, TokenMessages
from llmflow.lab.framing.chatgpt_web import DeltaEncoding
from llmflow.lab.framing.gemini_web import CumulativeBlobs
from llmflow.lab.framing.ollama import ChatLines
from llmflow.lab.framing.openai_chat import ChatCompletions, Dialect, ask
from llmflow.lab.framing.openai_responses import Responses
from llmflow.lab.text import STYLES, tokens

WORDS = [" the", " of", ",", " approximate", " b"]


def test_padded_openai_events_are_as_long_as_in_the_captures() -> None:
    reply = ChatCompletions(Random(1))
    assert [len(frame) for frame in reply.begin()] == [345]
    assert [len(reply.piece([word])) for word in WORDS] == [313] * 5
    assert [len(frame) for frame in reply.end()] == [311, 14]


def test_padded_openai_writes_make_the_measured_frames() -> None:
    # Ethernet, IPv4 and TCP 66, TLS 22, HTTP/1.1 chunk 7; sizes seen in 180 captures.
    reply = ChatCompletions(Random(1))
    frames = [66 + 22 + 7 + len(reply.piece(WORDS[:n])) for n in (2, 3, 4, 5)]
    assert frames == [721, 1034, 1347, 1660]


def test_a_long_token_shows_in_spite_of_padding() -> None:
    assert len(ChatCompletions(Random(1)).piece([" characteristics"])) == 313 + 3


def test_without_padding_events_tell_the_length_of_tokens() -> None:
    reply = ChatCompletions(Random(1), Dialect("m"))
    sizes = [len(reply.piece([word])) for word in WORDS]
    assert [size - len(word) for size, word in zip(sizes, WORDS, strict=True)] == [sizes[4] - 2] * 5


def test_anthropic_events_have_115_bytes_and_their_text() -> None:
    assert len(Messages(Random(1)).piece([" the"])) == 115 + 4
    padded = Messages(Random(1), padded=True)
    sizes = {len(padded.piece([" the"])) for _ in range(300)}
    assert sizes == set(range(119, 119 + 16))


def test_responses_end_with_the_text_four_times() -> None:
    reply = Responses(Random(1))
    begin = sum(map(len, reply.begin()))
    event = len(reply.piece([" the"]))
    reply.piece(WORDS * 80)
    end = b"".join(reply.end())
    assert 1900 <= begin <= 2600
    assert 230 <= event <= 290
    assert end.count(json.dumps(" the" + "".join(WORDS * 80))[1:-1].encode()) == 4


def test_chatgpt_web_sizes_are_in_steps_of_eight() -> None:
    reply = DeltaEncoding(Random(1))
    words = tokens(Random(2), 600)
    sizes = {22 + 9 + len(reply.piece(words[at : at + 8])) for at in range(0, 600, 8)}
    plain = {size for size in sizes if size < 400}
    assert {size % 8 for size in plain} == {4}
    assert {276, 284, 292} <= plain
    assert 22 + 9 + len(DeltaEncoding(Random(3)).piece([" the"])) == 268


def test_gemini_web_repeats_the_answer_so_far() -> None:
    reply = CumulativeBlobs(Random(1))
    updates = [reply.piece(tokens(Random(n), 15)) for n in range(30)]
    assert all(len(b) > len(a) + 15 for a, b in pairwise(updates))
    size, line = updates[-1].split(b"\n", 1)
    assert int(size) == len(line.decode())


@pytest.mark.parametrize("make", [Messages, CumulativeBlobs])
def test_compressed_frames_hold_the_plain_ones(
    make: type[Messages | CumulativeBlobs],
) -> None:
    plain, packed = make(Random(1)), Compressed(make(Random(1)), 12)
    inflate = zlib.decompressobj(wbits=31)

    def both(plain: bytes, packed: bytes) -> None:
        assert inflate.decompress(packed) == plain

    for a, b in zip(plain.begin(), packed.begin(), strict=True):
        both(a, b)
    for word in WORDS * 20:
        both(plain.piece([word]), packed.piece([word]))
    *ends, last = packed.end()
    for a, b in zip(plain.end(), ends, strict=True):
        both(a, b)
    inflate.decompress(last)
    assert inflate.eof


def test_claude_web_events_shrink_to_the_measured_size() -> None:
    reply = Compressed(Messages(Random(1)))
    reply.begin()
    words = tokens(Random(2), 400)
    sizes = sorted(22 + 9 + len(reply.piece(words[at : at + 4])) for at in range(0, 400, 4))
    assert 45 <= sizes[10] <= sizes[50] <= sizes[90] <= 75


def test_bedrock_frames_carry_their_lengths_and_checksums() -> None:
    reply = ConverseStream(Random(1))
    frames = b"".join([*reply.begin(), reply.piece([" the"]), *reply.end()])
    kinds = []
    while frames:
        total, headers, crc = struct.unpack_from(">III", frames)
        frame, frames = frames[:total], frames[total:]
        assert zlib.crc32(frame[:8]) == crc
        assert zlib.crc32(frame[:-4]) == int.from_bytes(frame[-4:], "big")
        assert 17 <= len(json.loads(frame[12 + headers : -4])["p"]) <= 50
        kinds.append(frame[12 + 1 + 11 + 3 :].split(b"\r", 1)[0].decode())
    assert kinds == [
        "messageStart",
        "contentBlockDelta",
        "contentBlockStop",
        "messageStop",
        "metadata",
    ]


def test_ollama_writes_a_line_a_token() -> None:
    lines = ChatLines(Random(1)).piece(WORDS).splitlines()
    assert [json.loads(line)["message"]["content"] for line in lines] == WORDS


def test_grpc_messages_begin_with_their_text() -> None:
    message = TokenMessages(Random(1)).piece([" the"])
    assert message[:6] == b"\x0a\x04 the"
    assert len(TokenMessages(Random(1), rich=False).piece([" the"])) == 6


@pytest.mark.parametrize("framing", [ChatCompletions(Random(1), Dialect("m", comment="queued"))])
def test_keep_alives_are_comments(framing: Framing) -> None:
    assert framing.idle() == b": queued\n\n"


def test_a_request_repeats_the_conversation() -> None:
    said = [Message("user", "a" * 100), Message("assistant", "b" * 200), Message("tool", "c" * 50)]
    sizes = [len(ask(said[:n], "m")) for n in (1, 2, 3)]
    assert sizes[1] - sizes[0] > 200
    assert sizes[2] - sizes[1] > 50


@pytest.mark.parametrize("style", STYLES)
def test_tokens_have_the_usual_length(style: str) -> None:
    said = tokens(Random(5), 5000, style)
    assert 4.2 <= len("".join(said)) / len(said) <= 5.25
