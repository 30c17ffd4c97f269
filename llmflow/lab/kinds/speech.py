"""Look-alikes: speech to text, text to speech and translation, the nearest to a model's stream.

They may run on large models, but what streams is no chat reply; by policy they are OTHER.
"""

from __future__ import annotations

from llmflow.lab.kinds._draw import Flow, Range
from llmflow.lab.kinds._rounds import BROWSER, HTTP, TELEMETRY, Round, Rounds
from llmflow.lab.script import OTHER, Kind


def _kind(name: str, transports: tuple[str, ...], *shapes: Round, rounds: Range = (1, 400)) -> Kind:
    side = TELEMETRY if set(transports) <= set(HTTP) else None
    clients = BROWSER if set(HTTP) <= set(transports) else ()
    return Kind(
        name, OTHER, "speech", transports, Rounds(*shapes, rounds=rounds, side=side), clients
    )


def _sound(frames: Range, size: Range) -> Flow:
    """Frames of sound on a clock; a quiet speaker sends smaller ones or none."""
    return Flow(frames, size, ("clock", "on-off"), ("fixed", "varied", "few"))


MICROPHONE = _sound((10, 50), (60, 3_200))  # frames of 20 to 100 ms

# One utterance after the other: sound up, a transcript that grows, then its final form.
DICTATION = Round(
    reply=Flow((1.5, 12), (20, 900), sizes=("growing", "varied", "mixed")),
    lasts=(3, 60),
    request=(80, 2_000),
    wait=(0.2, 3),
    think=(0.5, 12),
    closing=(80, 4_000),
    up=(MICROPHONE,),
    path="/listen",
    content_type="application/x-ndjson",
)
# The recording goes up at once, the words come as they are understood.
RECORDING = Round(
    reply=Flow((2, 30), (20, 700), ("lognormal", "poisson", "bursts", "drift", "clock")),
    lasts=(1, 60),
    request=(10_000, 100_000),
    wait=(0.2, 10),
    think=(1, 25),
    closing=(300, 12_000),
    path="/transcribe",
)
# Sound in frames of 20 to 250 ms, compressed or not, a little ahead of what is heard.
SPOKEN = Round(
    reply=_sound((4, 50), (80, 8_000)),
    lasts=(1, 40),
    request=(60, 6_000),
    wait=(0.1, 5),
    think=(1, 20),
    opening=(40, 6_000),
    path="/speak",
    content_type="audio/mpeg",
)
SPOKEN_AS_EVENTS = Round(
    reply=Flow((2, 25), (300, 9_000), ("bursts", "drift", "lognormal", "clock")),
    lasts=(1, 30),
    request=(60, 6_000),
    wait=(0.1, 6),
    think=(1, 20),
    closing=(60, 500),
    path="/speak",
)
# Sentence after sentence goes up while the sound of those before comes down.
SPOKEN_LIVE = Round(
    reply=_sound((5, 50), (60, 3_000)),
    lasts=(2, 60),
    request=(60, 3_000),
    wait=(0.1, 3),
    think=(0.5, 15),
    up=(Flow((0.3, 12), (20, 300), ("lognormal", "poisson", "clock")),),
)
TRANSLATION = Round(
    reply=Flow((3, 30), (20, 700), sizes=("varied", "few", "fixed", "growing", "quantised")),
    lasts=(0.8, 40),
    request=(100, 50_000),
    wait=(0.1, 6),
    think=(1, 25),
    closing=(20, 6_000),
    path="/translate",
)
# As it is typed, the whole of it is translated anew.
TRANSLATION_TYPED = Round(
    reply=Flow((4, 40), (60, 900), ("lognormal", "bursts", "clock"), ("varied", "growing")),
    count=(2, 15),
    request=(80, 4_000),
    wait=(0.05, 1),
    think=(0.15, 3),
    path="/translate",
    content_type="application/json",
)
INTERPRETER = Round(
    reply=Flow((1.5, 15), (60, 900), ("lognormal", "on-off", "drift"), ("growing", "varied")),
    lasts=(5, 90),
    request=(80, 1_500),
    wait=(0.3, 4),
    think=(0.5, 8),
    up=(MICROPHONE,),
    also=(Flow((4, 25), (200, 2_000), ("clock", "on-off"), ("fixed", "few"), chance=0.5),),
)
# A spoken command: sound up until it is understood, an answer read aloud.
ASSISTANT = Round(
    reply=_sound((5, 50), (80, 3_000)),
    lasts=(1, 25),
    request=(80, 1_500),
    wait=(1, 5),
    think=(1, 20),
    up=(Flow((10, 50), (60, 1_500), ("clock",), ("fixed", "varied"), chance=0.8),),
)
SUBTITLES = Round(
    reply=Flow((2, 10), (60, 700), ("lognormal", "ticks", "drift"), ("growing", "varied", "few")),
    lasts=(5, 300),
    request=(50, 2_000),
    wait=(0.05, 4),
    think=(0.5, 10),
    method="GET",
    path="/subtitles",
)

# No h1 where the reply comes while the request still goes up: hardly any client can do that.
KINDS = (
    _kind("speech-to-text", ("ws", "grpc", "h2", "h3"), DICTATION),
    _kind("recording-to-text", HTTP, RECORDING),
    _kind("text-to-speech", (*HTTP, "grpc"), SPOKEN),
    _kind("text-to-speech-events", HTTP, SPOKEN_AS_EVENTS),
    _kind("text-to-speech-live", ("ws", "grpc"), SPOKEN_LIVE),
    _kind("translation", (*HTTP, "ws", "grpc"), TRANSLATION),
    _kind("translation-typed", HTTP, TRANSLATION_TYPED, rounds=(5, 400)),
    _kind("interpreter", ("ws", "grpc"), INTERPRETER),
    _kind("voice-assistant", ("ws", "grpc", "h2"), ASSISTANT),
    _kind("subtitles", HTTP, SUBTITLES),
)
