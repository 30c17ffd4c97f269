"""Made-up text in a model's tokens: 4.2 to 5.2 characters each, from a seed.

Only lengths, bytes per character and repetition reach the wire; the words mean nothing.
GPT-4o's replies have 5.25 characters a token (180 API streams with known counts, March 2026),
English prose by older tokenizers 4.2.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import accumulate
from random import Random

SENTENCE_ENDS = 0.1  # share of the tokens


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# Common words first: they are drawn more often. Tokens begin with their space, as models have it.
_WORDS = _words(
    "the of and to in is that for it as with on be by are this from or an which you can not have "
    "one more when use will each other time such used into only some data value model system most "
    "also than first number example different between result however following network process "
    "because function important information performance application distribution consider through "
    "understanding implementation approximately characteristics although therefore environment "
    "measure pattern structure version control response language question problem solution method "
    "analysis experience temperature production relationship development particularly"
)
_CODE = _words(
    "self = ( ) return if in def : , . None for import [ ] x i data == self. not else : ( True "
    "class range len value result append raise print name index items lambda yield assert while "
    "ValueError isinstance __init__ dataclass enumerate Optional response request configuration "
    "logging.getLogger os.path.join threading.Lock np.concatenate await async_session"
)
_WORLD = _words(
    "de la que el en y los der die und ist nicht mit für ein eine les des une est dans pour и в "
    "не на что это как по 的 是 在 了 和 有 我们 可以 使用 これ です ます から في من على और के है में "
    "ação información größer Geschwindigkeit également développement система информация например "
    "ネットワーク データ 网络流量 因此 여러분 있습니다 그리고 δεδομένα"
)
_ENDS = {
    "prose": (",", ".", ".\n\n", ":", " -"),
    "code": ("\n    ", "\n        ", "\n\n", "\n"),
    "world": (",", "。", ".", "\n"),
}
STYLES = ("prose", "code", "world")
RARE = (
    2500  # made-up words behind the common ones: compression must not find everything said before
)


def style(rng: Random) -> str:
    """A style: mostly English prose, often code, sometimes other languages."""
    return rng.choices(STYLES, (6, 3, 2))[0]


def _made_up(rng: Random) -> str:
    syllables = [rng.choice("bcdfghklmnprstvw") + rng.choice("aeiou") for _ in range(3)]
    return "".join(syllables[: rng.randint(1, 3)])


@lru_cache(maxsize=len(STYLES))
def _vocabulary(kind: str) -> tuple[list[str], list[float]]:
    """Words, and the running sum of their weights: a power of their rank, as in languages."""
    rng = Random(kind)
    common = {"prose": _WORDS, "code": _CODE, "world": _WORLD}[kind]
    words = [*common, *(_made_up(rng) for _ in range(RARE))]
    weights = accumulate((rank + 10) ** -0.9 for rank in range(len(words)))
    return words, list(weights)


def tokens(rng: Random, count: int, kind: str = "prose") -> list[str]:
    """``count`` tokens of a style; joined they are the text."""
    vocabulary, weights = _vocabulary(kind)
    words = rng.choices(vocabulary, cum_weights=weights, k=count)
    ends = _ENDS[kind]
    return [rng.choice(ends) if rng.random() < SENTENCE_ENDS else f" {word}" for word in words]


@lru_cache(maxsize=len(STYLES))
def _stock(kind: str) -> str:
    return "".join(tokens(Random(kind), 20_000, kind))


def text(rng: Random, count: int, kind: str = "prose") -> str:
    """A text of about ``count`` tokens, cut from a stock: cheap for long prompts."""
    stock = _stock(kind)
    size, parts = int(count * len(stock) / 20_000) or 1, []
    while size > 0:
        at = rng.randrange(len(stock) - 1)
        parts.append(stock[at : at + size])
        size -= len(parts[-1])
    return "".join(parts)


def identifier(rng: Random, length: int, alphabet: str = "") -> str:
    """A random identifier, letters and digits if not said otherwise."""
    letters = alphabet or "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    return "".join(rng.choices(letters, k=length))
