"""Other providers, aggregators and servers that anybody runs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random

from llmflow.lab import cadence
from llmflow.lab.cadence import Pace, chance, personal
from llmflow.lab.framing import gemini, ollama
from llmflow.lab.framing.binary import ConverseStream, TokenMessages, ask_converse, ask_grpc
from llmflow.lab.framing.gemini import GenerateContent
from llmflow.lab.framing.ollama import ChatLines
from llmflow.lab.framing.openai_chat import ChatCompletions, Dialect, ask
from llmflow.lab.kinds import _headers
from llmflow.lab.kinds._talk import CHAT, Service, Work, converse
from llmflow.lab.script import LLM_STREAM, Kind
from llmflow.lab.text import identifier

# whisper: gaps 0.215 and 0.246 s, 35 frames in the longest replies: blobs.
GEMINI = Pace(first=0.7, gap=0.2, sigma=0.6, tokens=24.0)
# A lone server: steps as regular as its GPU.
VLLM = Pace(first=0.15, gap=0.02, sigma=0.2, drift=0.3, pause=0.004, pause_s=0.2)
OLLAMA = Pace(first=0.5, gap=0.04, sigma=0.15, drift=0.15, pause=0.001)
MISTRAL = Pace(first=0.4, gap=0.014, sigma=0.6, tokens=1.3, writes=1.2)
# whisper: DeepSeek-R1 at Azure 0.0094 s (sd 0.183), 3,451 frames in the longest replies.
DEEPSEEK = Pace(first=1.4, gap=0.03, sigma=0.5, pause=0.004, pause_s=0.8)
# whisper: Llama-8B through an aggregator 0.0169 s (sd 0.060), Grok-2 0.0165 s (sd 0.0285).
AGGREGATED = (
    Pace(first=0.9, gap=0.012, sigma=0.8, tokens=1.2, writes=1.3, pause=0.01, pause_s=0.25),
    Pace(first=0.5, gap=0.0145, sigma=0.5),
    Pace(first=1.5, gap=0.06, sigma=0.9, tokens=3.0, writes=2.0),
)
# whisper: Amazon Nova p50 0.23 ms, p95 31 ms, p99 216 ms within a reply: bursts.
BEDROCK = (
    Pace(first=0.6, gap=0.12, sigma=0.8, tokens=1.5, writes=18.0, spread=0.00025),
    Pace(first=1.0, gap=0.035, sigma=0.6, tokens=2.0),
)
# Triton and its like: a message a step, or a few steps.
GRPC = Pace(first=0.2, gap=0.03, sigma=0.3)

REASONED = Work(reply=lambda rng: cadence.reply_length(rng) + cadence.long_length(rng) // 2)


def _compatible(
    rng: Random,
    dialect: Dialect,
    pace: Pace,
    headers: _headers.Headers,
    *,
    waits: float = 0.0,
    thinks: float = 0.0,
) -> Service:
    """A service that imitates OpenAI's chat completions.

    ``waits`` is the chance of a queue or of hidden reasoning before the first token, ``thinks`` the
    mean number of tokens of visible reasoning.
    """
    return Service(
        personal(rng, pace, 1.8),
        lambda tool: ChatCompletions(
            rng, dialect, tool=tool, thinks=round(cadence.lognormal(rng, thinks, 0.6))
        ),
        partial(ask, model=dialect.model),
        "/v1/chat/completions",
        headers,
        reasoning=waits,
        period=rng.uniform(0.5, 3) if dialect.comment else 12.0,
    )


def vllm(rng: Random) -> Service:
    """A server of one's own: an event a token, nearly constant, on any hardware."""
    model = rng.choice(("meta-llama/Llama-3.1-8B-Instruct", "Qwen/Qwen2.5-7B-Instruct", "m"))
    dialect = Dialect(model, id_length=32, usage=rng.choice(("none", "own")))
    return _compatible(rng, dialect, VLLM, _headers.plain(rng, rng.choice((5, 32))))


def mistral(rng: Random) -> Service:
    """Padding in a member ``p``."""
    dialect = Dialect("mistral-large-2411", id_prefix="", id_length=32, padding="p", usage="last")
    return _compatible(rng, dialect, MISTRAL, _headers.plain(rng, 32))


def deepseek(rng: Random) -> Service:
    """Visible reasoning before the answer, comments while a request is queued."""
    dialect = Dialect(
        "deepseek-reasoner",
        id_prefix="",
        id_length=36,
        extra=(("system_fingerprint", "fp_ffc7281d48_prod0820_fp8_kvcache"),),
        usage="last",
        comment="keep-alive",
    )
    headers = _headers.plain(rng, 35)
    return _compatible(rng, dialect, DEEPSEEK, headers, waits=0.1, thinks=400)


def aggregator(rng: Random) -> Service:
    """Models of others behind one address; comments until the first token."""
    dialect = Dialect(
        "meta-llama/llama-3.1-8b-instruct",
        id_prefix="gen-",
        id_length=31,
        extra=(("provider", rng.choice(("DeepInfra", "Together", "xAI"))),),
        role_event=False,
        usage="own",
        comment="OPENROUTER PROCESSING",
    )
    pace = rng.choice(AGGREGATED)
    if chance(rng, 0.2):
        pace = cadence.batched(pace, rng.randint(2, 6))
    return _compatible(rng, dialect, pace, _headers.plain(rng, 73), waits=0.15)


def ollama_chat(rng: Random) -> Service:
    """A line a token from a computer at home."""
    model = rng.choice(("llama3.2", "qwen2.5:7b", "mistral", "gemma3:4b"))
    return Service(
        personal(rng, OLLAMA, 2.5),
        lambda _tool: ChatLines(rng, model),
        partial(ollama.ask, model=model),
        "/api/chat",
        _headers.plain(rng)[:3],
    )


def gemini_api(rng: Random, *, tools: bool = False) -> Service:
    """Blobs of many tokens."""
    headers = (
        ("accept", "*/*"),
        ("accept-encoding", "gzip, deflate"),
        ("content-type", "application/json"),
        ("x-goog-api-key", identifier(rng, 39)),
        ("user-agent", "google-genai-sdk/1.52.0 gl-python/3.12.8"),
        ("x-goog-api-client", "google-genai-sdk/1.52.0 gl-python/3.12.8"),
    )
    model = "gemini-2.5-flash"
    return Service(
        personal(rng, GEMINI),
        lambda tool: GenerateContent(rng, model, tool=tool),
        partial(gemini.ask, tools=tools),
        f"/v1/models/{model}:streamGenerateContent?alt=sse",
        headers,
        reasoning=0.3,
    )


def bedrock(rng: Random) -> Service:
    """Binary frames with padding."""
    signature = identifier(rng, 64, "0123456789abcdef")
    token = f"AWS4-HMAC-SHA256 Credential={identifier(rng, 60)}, Signature={signature}"
    headers = (
        ("content-type", "application/json"),
        ("user-agent", "Boto3/1.40.74 md/Botocore#1.40.74 ua/2.1 os/linux#6.8 md/arch#x86_64"),
        ("x-amz-date", "20260329T140500Z"),
        ("x-amz-security-token", identifier(rng, 900)),
        ("authorization", token),
    )
    return Service(
        personal(rng, rng.choice(BEDROCK)),
        lambda tool: ConverseStream(rng, tool=tool),
        ask_converse,
        "/model/us.amazon.nova-lite-v1%3A0/converse-stream",
        headers,
    )


def grpc_tokens(rng: Random) -> Service:
    """Protobuf messages of an inference server."""
    rich = chance(rng, 0.5)
    return Service(
        personal(rng, cadence.batched(GRPC, rng.choice((1, 1, 1, 2, 4))), 1.8),
        lambda _tool: TokenMessages(rng, rich=rich),
        ask_grpc,
        "/inference.GenerationService/GenerateStream",
        (("user-agent", "grpc-python/1.76.0 grpc-c/51.0.0 (linux; chttp2)"),),
    )


def _kind(
    name: str,
    transports: tuple[str, ...],
    meet: Callable[[Random], Service],
    work: Work = CHAT,
    clients: tuple[str, ...] = (),
) -> Kind:
    return Kind(name, LLM_STREAM, name, transports, converse(meet, work), clients)


KINDS = (
    _kind("gemini-api", ("h1", "h2", "h3"), gemini_api, clients=("google-genai",)),
    _kind("vllm", ("h1",), vllm, clients=("openai",)),
    _kind("ollama", ("h1",), ollama_chat),
    _kind("mistral", ("h1", "h2"), mistral),
    _kind("deepseek", ("h1", "h2"), deepseek, REASONED, ("openai",)),
    _kind("aggregator", ("h2", "h1", "h3"), aggregator, clients=("openai",)),
    _kind("bedrock", ("h1", "h2"), bedrock),
    _kind("grpc-tokens", ("grpc",), grpc_tokens),
)
