"""Programs that talk to models: tool loops, coding agents, answers from documents."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from llmflow.lab import cadence
from llmflow.lab.kinds._talk import Work, converse
from llmflow.lab.kinds.llm_anthropic import anthropic
from llmflow.lab.kinds.llm_hosted import gemini_api
from llmflow.lab.kinds.llm_openai import chat, responses
from llmflow.lab.script import LLM_STREAM, Kind

# Short replies to prompts of 20 to 150 kB that grow, at once or after a tool has run.
AGENT = Work(
    turns=lambda rng: rng.randint(4, 30),
    prompt=cadence.prompt_length,
    reply=cadence.agent_length,
    context=cadence.agent_context,
    tools=0.9,
    stops=False,
)
# The same with files in the prompt and patches among the replies.
CODING = replace(
    AGENT,
    reply=lambda rng: cadence.agent_length(rng) * rng.choice((1, 1, 1, 4, 12)),
    context=lambda rng: round(1.4 * cadence.agent_context(rng)),
    tools=0.95,
)
# Passages are put in front of each question.
DOCUMENTS = Work(prompt=cadence.context_length, reply=cadence.reply_length, stops=False)

KINDS = (
    Kind(
        "agent-openai",
        LLM_STREAM,
        "agent",
        ("h1", "h2"),
        converse(partial(chat, tools=True), AGENT),
        ("openai",),
    ),
    Kind(
        "agent-anthropic",
        LLM_STREAM,
        "agent",
        ("h1", "h2"),
        converse(partial(anthropic, tools=True), AGENT),
        ("anthropic",),
    ),
    Kind(
        "coding-agent",
        LLM_STREAM,
        "agent",
        ("h1", "h2"),
        converse(partial(anthropic, tools=True), CODING),
        ("anthropic",),
    ),
    Kind(
        "agent-gemini",
        LLM_STREAM,
        "agent",
        ("h1", "h2"),
        converse(partial(gemini_api, tools=True), AGENT),
        ("google-genai",),
    ),
    Kind(
        "agent-responses-ws",
        LLM_STREAM,
        "agent",
        ("ws",),
        converse(partial(responses, socket=True, tools=True, reasoning=0.1), AGENT),
    ),
    Kind(
        "documents-openai",
        LLM_STREAM,
        "documents",
        ("h1", "h2"),
        converse(chat, DOCUMENTS),
        ("openai",),
    ),
)
