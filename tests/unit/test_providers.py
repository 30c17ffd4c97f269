"""Lists of providers: matching on label borders, files of operators, and hostile files."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmflow.errors import ProviderError
from llmflow.metadata.providers import AGENT_KINDS, KINDS, SHIPPED, load

ENTRY = """
[[entry]]
provider = "Own"
kind = "api"
domains = ["llm.corp.example"]
source = "https://wiki.corp.example/llm"
date = 2026-01-31
"""


def write(path: Path, text: str | bytes) -> Path:
    file = path / "own.toml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


@pytest.mark.parametrize(
    ("name", "provider", "kind"),
    [
        ("chatgpt.com", "OpenAI", "web-chat"),
        ("ChatGPT.com.", "OpenAI", "web-chat"),
        ("eu.api.openai.com", "OpenAI", "api"),
        ("api.anthropic.com", "Anthropic", "api"),
        ("claude.ai", "Anthropic", "web-chat"),
        ("europe-west4-aiplatform.googleapis.com", "Google", "api"),
        ("generativelanguage.googleapis.com", "Google", "api"),
        ("mine.openai.azure.com", "Microsoft", "api"),
        ("api.individual.githubcopilot.com", "GitHub", "coding-agent"),
        ("bedrock-runtime.eu-central-1.amazonaws.com", "Amazon", "api"),
        ("dashscope.aliyuncs.com", "Alibaba", "api"),
        ("dashscope-intl.aliyuncs.com", "Alibaba", "api"),
        ("api2.cursor.sh", "Cursor", "coding-agent"),
        ("www.perplexity.ai", "Perplexity", "web-chat"),
        ("api.perplexity.ai", "Perplexity", "api"),
    ],
)
def test_services_by_name(name: str, provider: str, kind: str) -> None:
    found = load().match(name)
    assert found
    assert (found.provider, found.kind, found.weak) == (provider, kind, False)


@pytest.mark.parametrize(
    "name",
    [
        "", ".", "com", "openai.com", "notclaude.ai", "claude.ai.example", "xapi.openai.com",
        "aiplatform.example.com", "s3.eu-central-1.amazonaws.com", "bedrock-runtime.amazonaws.com",
        "storage.googleapis.com", "a b", "githubcopilot.com.evil.example", "ai",
    ],
)  # fmt: skip
def test_names_that_only_look_alike(name: str) -> None:
    assert load().match(name) is None


@pytest.mark.parametrize(
    "name", ["www.google.com", "files.oaiusercontent.com", "huggingface.co", "www.bing.com"]
)
def test_shared_fronts_are_weak(name: str) -> None:
    found = load().match(name)
    assert found
    assert found.weak


def test_agents() -> None:
    providers = load()
    kinds = {token: providers.agent(token) for token in ("GPTBot", "ChatGPT-User", "Claude-User")}
    assert [service and service.kind for service in kinds.values()] == [
        "crawler", "user-action", "user-action",
    ]  # fmt: skip
    assert set(kinds) <= set(providers.agents)
    assert providers.agent("curl") is None


def test_every_shipped_entry_has_a_source_and_a_kind() -> None:
    """And no domain is listed twice, which would hide one of the two."""
    text = SHIPPED.read_text()
    names = [x for line in text.splitlines() if line.startswith(("domains", "agents"))
             for x in line.split('"')[1::2]]  # fmt: skip
    assert len(names) == len(set(names))
    for name in names:
        found = load().match(name.replace("*", "x")) or load().agent(name)
        assert found
        assert found.source.startswith("https://")
        assert found.kind in (*KINDS, *AGENT_KINDS)


def test_own_file_extends(tmp_path: Path) -> None:
    found = load([write(tmp_path, ENTRY)]).match("gpu1.llm.corp.example")
    assert found
    assert found.provider == "Own"


def test_own_file_overrides_and_takes_out(tmp_path: Path) -> None:
    """An entry of kind "none" also cuts a name out of a longer list."""
    text = ENTRY.replace("llm.corp.example", "claude.ai")
    text += '[[entry]]\nkind = "none"\ndomains = ["status.claude.ai", "poe.com"]\n'
    text += '[[entry]]\nkind = "none"\nagents = ["GPTBot"]\n'
    providers = load([write(tmp_path, text)])
    found = providers.match("claude.ai")
    assert found
    assert found.provider == "Own"
    assert providers.match("status.claude.ai") is None
    assert providers.match("poe.com") is None
    assert "GPTBot" not in providers.agents


def test_domains_outside_ascii(tmp_path: Path) -> None:
    providers = load([write(tmp_path, ENTRY.replace("llm.corp.example", "Bücher.example"))])
    assert providers.match("xn--bcher-kva.example")
    assert providers.match("www.bücher.EXAMPLE")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = ", "no TOML"),
        (b"\xff\xfe", "no TOML"),
        ("a = " + "[" * 5000, "no TOML"),
        ("a = " + "9" * 10000, "no TOML"),
        (b"#" * (1 << 20) + b"\n", "larger than"),
        ("version = 1", "something else"),
        ("entry = 1", "something else"),
        ("entry = [1]", "something else"),
        (ENTRY + 'name = "x"', "a key that is none of"),
        (ENTRY + 'agents = ["x"]', "either domains or agents"),
        (ENTRY.replace('domains = ["llm.corp.example"]', ""), "either domains or agents"),
        (ENTRY.replace('["llm.corp.example"]', "[]"), "names as a list"),
        (ENTRY.replace('["llm.corp.example"]', '["a.example", 1]'), "names as a list"),
        (ENTRY.replace('"api"', '"crawler"'), "needs a kind"),
        (ENTRY.replace('"api"', "[]"), "needs a kind"),
        (ENTRY + "weak = 1", "weak"),
        (ENTRY.replace('"Own"', '""'), "name of a provider"),
        (ENTRY.replace('"Own"', '"' + "x" * 600 + '"'), "name of a provider"),
        (ENTRY.replace("https:", "ftp:"), "source"),
        (ENTRY.replace("2026-01-31", '"2026"'), "date"),
        (ENTRY.replace("llm.corp.example", "com"), "no domain"),
        (ENTRY.replace("llm.corp.example", "a b.example"), "no domain"),
        (ENTRY.replace("llm.corp.example", "*.com"), "no domain"),
        (ENTRY.replace("llm.corp.example", "a.*.com"), "no domain"),
        (ENTRY.replace("llm.corp.example", "*a*.example.com"), "no domain"),
    ],
)
def test_hostile_files_end_in_one_sentence(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(ProviderError, match=message) as caught:
        load([write(tmp_path, text)])
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ProviderError, match="cannot be read"):
        load([tmp_path / "none.toml"])
