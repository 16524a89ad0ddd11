"""Random regular expressions and JSON schemas, and whether the sample model's texts match them.

    python -m tests.engine.matching [--count 1000] [--seed 0]

Prints every text that does not match, and how many of each kind were written to their end.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import jsonschema

from gptj_demo.engine.engine import Engine
from gptj_demo.engine.loop import load
from gptj_demo.protocol import Finished, Submit, TokenEvent
from gptj_demo.sampling import SamplingParams
from gptj_demo.settings import Settings
from gptj_demo.tokenization import Vocabulary

ROOT = Path(__file__).resolve().parents[2]
AT_ONCE = 16
ATOMS = ("a", "the ", "[a-z]", "[A-Z][a-z]", "[0-9]", "é", "ß?", "[àé-öß]", ".", r"\d", r"\w", "🙂")
ATOMS += ("[^a-z]", r"\.", r"\(", "ab|cd", "(?:x|yz)", r"\p{Lu}", " ", r"\n", "日本", "[“”]")
PYTHON = {r"\p{Lu}": "[^\\W\\d_a-zà-öø-ÿ]"}
"""Atoms that Python's `re` lacks, and what includes them there."""


def random_regex(random_: random.Random, depth: int = 2) -> str:
    """A regular expression that ends: no repetition is unbounded."""
    parts = []
    for _ in range(random_.randint(1, 4)):
        if depth and random_.random() < 0.4:
            inner = f"(?:{random_regex(random_, depth - 1)})"
        else:
            inner = random_.choice(ATOMS)
            inner = f"(?:{inner})" if len(inner) > 1 else inner
        low = random_.randint(0, 2)
        times = ["", "", "?", f"{{{low},{low + 2}}}", f"{{{low + 1}}}"]
        parts.append(inner + random_.choice(times))
    return "|".join(["".join(parts), "end"][: random_.choice([1, 1, 2])])


def random_schema(random_: random.Random, depth: int = 3) -> dict[str, Any]:
    """A schema whose values are small."""
    kinds = ["string", "integer", "number", "boolean", "null", "enum", "const", "pattern"]
    kinds += ["object", "array", "anyOf", "tuple"] * bool(depth)
    match random_.choice(kinds):
        case "string":
            low = random_.randint(0, 3)
            return {"type": "string", "minLength": low, "maxLength": low + random_.randint(0, 9)}
        case "integer":
            low = random_.randint(-300, 300)
            return {"type": "integer", "minimum": low, "maximum": low + random_.randint(0, 5000)}
        case "number":
            low = random_.randint(-40, 40) / 4
            return {"type": "number", "minimum": low, "exclusiveMaximum": low + 3}
        case "enum":
            choices = ["red", "dark blue", "é", 'a"b', 5, 2.5, None, True, [1], {"x": "y"}]
            return {"enum": random_.sample(choices, random_.randint(1, 5))}
        case "const":
            return {"const": random_.choice(["a\\b", "日本", 7, [None], {"k": [1, "z"]}])}
        case "pattern":
            return {"type": "string", "pattern": random_.choice(["^[a-f]{2,4}$", "^x[0-9]?é$"])}
        case "object":
            names = random_.sample(["name", "age", "a b", "é", "x1", "tags"], random_.randint(1, 4))
            required = [name for name in names if random_.random() < 0.6]
            return {
                "type": "object",
                "properties": {name: random_schema(random_, depth - 1) for name in names},
                "required": required,
                "additionalProperties": False,
            }
        case "array":
            low = random_.randint(0, 2)
            items = random_schema(random_, depth - 1)
            most = low + random_.randint(0, 2)
            return {"type": "array", "items": items, "minItems": low, "maxItems": most}
        case "tuple":
            prefix = [random_schema(random_, depth - 1) for _ in range(random_.randint(1, 3))]
            return {"type": "array", "prefixItems": prefix, "items": False, "minItems": len(prefix)}
        case "anyOf":
            several = [random_schema(random_, depth - 1) for _ in range(random_.randint(2, 3))]
            return {"anyOf": several}
        case kind:
            return {"type": kind}


def matches(kind: str, text: str, written: str) -> bool:
    """Whether `written` matches, checked without llguidance."""
    if kind == "regex":
        for theirs, pythons in PYTHON.items():
            text = text.replace(theirs, pythons)
        return re.fullmatch(text, written) is not None
    try:
        jsonschema.validate(json.loads(written), json.loads(text))
    except (ValueError, jsonschema.ValidationError):
        return False
    return True


def run(count: int, seed: int, counts: Counter[str] | None = None) -> list[str]:
    """Write that many texts; the problems, one line each."""
    engine: Engine = load(Settings(model="sample"), lambda message: None)
    vocabulary = engine._vocabulary
    encoder = Vocabulary(
        (ROOT / "assets/sample-model/tokenizer.json").read_text("utf-8"),
        vocabulary.size,
        vocabulary.bos_token_id,
        tuple(vocabulary.eos_token_ids),
    )
    random_ = random.Random(seed)
    counts = Counter() if counts is None else counts
    problems = []
    for begin in range(0, count, AT_ONCE):
        asked: dict[int, tuple[str, str]] = {}
        for number in range(begin, min(count, begin + AT_ONCE)):
            kind = random_.choice(["regex", "json"])
            make = random_regex if kind == "regex" else random_schema
            made = make(random_)
            asked[number] = kind, made if isinstance(made, str) else json.dumps(made)
            params = SamplingParams(
                must_match=kind,  # type: ignore[arg-type]
                must_match_text=asked[number][1],
                max_new_tokens=500,
                temperature=random_.choice([0, 0.8, 1.5]),
                top_p=random_.choice([0.9, 1]),
                token_healing=random_.random() < 0.2,
                min_new_tokens=random_.choice([0, 0, 6]),
            )
            prompt = random_.choice(["Once upon a time, ", "The king's nam", "1, 2, ", "é"])
            ids = tuple(encoder.encode_prompt(prompt))
            engine.submit(Submit(number, ids, params, seed=number))
        written: dict[int, str] = dict.fromkeys(asked, "")
        while not engine.is_idle:
            for event in engine.step():
                if isinstance(event, TokenEvent | Finished):
                    written[event.request_id] += event.text
                if isinstance(event, Finished):
                    kind, text = asked[event.request_id]
                    counts[f"{kind}, {event.reason}"] += 1
                    own = written[event.request_id]
                    if event.reason == "unmet" or (
                        event.reason == "stop" and not matches(kind, text, own)
                    ):
                        problems.append(f"{event.reason}: {text!r} {own!r} {event.message}")
    return problems


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    counts: Counter[str] = Counter()
    problems = run(arguments.count, arguments.seed, counts)
    print(*problems, sep="\n")
    print(*(f"{name}: {number}" for name, number in sorted(counts.items())), sep="\n")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
