"""Mutated storyboards: each must be read, or be refused in one line, in time.

Run it by hand: `python packages/bdiff-core/tests/fuzz_storyboards.py --count 100000 --seed 0`.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from bdiff_core.storyboard import Storyboard
from bdiff_core.storyboard.characters import forbidden
from bdiff_core.storyboard.ranges import timed_prompt

LINES = "a fox runs (00s - 03s)\na hen sleeps (03s – 06s).\n# a comment\nthe fox waits [0:06 - 0:09]\n"
GOOD = {
    ".yaml": [
        "title: t\nshots:\n  - a fox runs (00s - 03s)\n  - {prompt: a hen, start: 3, end: 00:00:06}\n",
        "- &a a fox\n- |\n  a hen\n  sleeps\n- *a\n- 'a 3-5 year old child'\n",
        "seconds: 2.5\nprompts: [a, b, c]\n",
    ],
    ".json": [
        json.dumps({"title": "t", "shots": ["a fox runs", {"prompt": "b", "start": None}]}),
        json.dumps([{"start": "0:00", "end": 3, "caption": "a"}, {"start": 3, "end": "6 s", "text": "b"}], indent=1),
        '{"text": "a", "segments": [{"id": 0, "start": 0.0, "end": 3.5, "text": " a", "tokens": [1, 2, 3]}]}',
        '{"captions": ["a (0s - 3s)", "b (3s - 6s)"], "video": {"x": [1, 2]}}',
    ],
    ".captions": [
        '"captions": ["a fox (00s - 03s)",\n “it ‘sleeps’ (03s–06s).”, {"start": 6, "end": 7, "caption": "c"}]'
    ],
    ".txt": [
        LINES,
        "0:00-0:03: a fox\n0:03-0:06: a hen\n",
        "[0s-3s: a fox]\n[3s-6s: a hen]\n",
        "at 10:30 a fox wakes\n",
    ],
    ".srt": ["1\n00:00:00,000 --> 00:00:03,000\na <i>fox</i>\n\n2\n00:00:03,000 --> 00:00:06,000\na hen\n"],
}
TOKENS = (
    *"\0\a\b\t\n\v\f\r\x1b\x7f\x85\u2028\u202e\ufeff\ud800\uffff\"'“”[]{}()<>|&*!?%@`,:;#-–—−→~\\",
    "---\n", "...\n", "<<: ", "*a", "&a ", "!!python/object:os.system ", "!!binary ", "? ", "- ", "|-\n", "010", "0x1f",
    "1:30", "01:30", "1e300", "1e400", "-1", ".inf", "NaN", "Infinity", "null", "yes", "2024-13-45", "9" * 400,
    "0" * 5000, "00:00:61", "(3 - 6)", "(3s - 2s)", "(3s -", "[3s]", "@3s", "0:03 ", " to ", "-->", "3 sec", "1m30s",
    "2m", "0,5s",
    "1990s - 2000s", "3-5 seconds", "(0s - 3s)", "from ", "WEBVTT\n\n", "NOTE\n", '"captions": [', "shots:", '"prompt"',
    "start", "segments:", "timestamp: [0, 3]", "t=0s", "0f - 24f", "0% - ", "between 0s and 3s", "through", "\u200b",
    '"\\ud800"', "\\ud83d\\ude00",
    "\\u0007", "[" * 200, "{a: " * 100, "(" * 50, " " * 200, "\n\n", "🦊", "日本", "秒", "٣",
)  # fmt: skip
ENCODINGS = ("utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-32")
LONGEST, SLOWEST = 500, 2.0


@dataclass
class Outcome:
    """What came of it."""

    read: int = 0
    refused: int = 0
    slowest: float = 0.0
    slow_text: str = ""
    faults: list[str] = field(default_factory=list)


def mutated(text: str, others: list[str], draw: random.Random) -> str:
    """A text with one to four changes."""
    for _ in range(draw.choice((1, 1, 2, 4))):
        at, length = draw.randint(0, len(text)), draw.choice((1, 1, 2, 5, 20))
        match draw.randrange(6):
            case 0:
                text = text[:at] + text[at + length :]
            case 1:
                text = text[:at] + text[at : at + length] * draw.choice((2, 2, 3, 20)) + text[at + length :]
            case 2:
                other = draw.choice(others)
                text = text[:at] + other[draw.randint(0, len(other)) :]
            case 3:
                text = (
                    text[:at] + chr(ord(text[at]) ^ (1 << draw.randrange(8))) + text[at + 1 :]
                    if at < len(text)
                    else text
                )
            case _:
                text = text[:at] + draw.choice(TOKENS) + text[at + draw.choice((0, length)) :]
    return text


def written(text: str, draw: random.Random) -> bytes:
    """Bytes of a file, now and then with some of them changed."""
    content = bytearray(text.encode(draw.choice(ENCODINGS), errors="surrogatepass"))
    if content and draw.random() < 0.1:
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    return bytes(content)


def fault_of(board: Storyboard) -> str | None:
    """What a storyboard holds that none may hold."""
    for shot in board.shots:
        if forbidden(shot.prompt) or shot.prompt != shot.prompt.strip() or not shot.prompt:
            return f"the prompt {shot.prompt!r}"
        try:
            found = timed_prompt(shot.prompt)
        except ValueError as error:
            if board.is_timed:  # it has start and end of its own, and what cannot be read as a range is prose
                continue
            return f"a time left in {shot.prompt!r}: {error}"
        if found.start is not None or found.prompt != shot.prompt:
            return f"a range left in {shot.prompt!r}"
    untimed = [shot.prompt for shot in board.shots]
    if not board.is_timed and [shot.prompt for shot in Storyboard.from_prompts(untimed).shots] != untimed:
        return "prompts change when they are read again"
    if board.is_timed and json_again(board).shots != board.shots:
        return "shots change when they are written as JSON and read again"
    return None


def json_again(board: Storyboard) -> Storyboard:
    """The storyboard, written and read again."""
    shots = [{"prompt": shot.prompt, "start": shot.start, "end": shot.end} for shot in board.shots]
    return Storyboard.parse(json.dumps({"shots": shots}))


def attempt(path: Path, content: bytes, outcome: Outcome) -> None:
    """Load a file and note what came of it."""
    path.write_bytes(content)
    begun = time.perf_counter()
    try:
        board = Storyboard.load(path)
    except ValueError as error:
        outcome.refused += 1
        message = str(error).replace(str(path.parent), "")
        if len(message) > LONGEST or not message.isprintable():
            outcome.faults.append(f"{content!r}: the message {message!r}")
    except Exception as error:  # noqa: BLE001 - what a fuzzer looks for
        outcome.faults.append(f"{content!r}: {type(error).__name__}: {error}")
    else:
        outcome.read += 1
        if fault := fault_of(board):
            outcome.faults.append(f"{content!r}: {fault}")
    spent = time.perf_counter() - begun
    if spent > outcome.slowest:
        outcome.slowest, outcome.slow_text = spent, repr(content[:200])
    if spent > SLOWEST:
        outcome.faults.append(f"{content!r}: {spent:.1f} s")


def fuzz(suffix: str, count: int, seed: int, folder: Path) -> Outcome:
    """Mutate the good storyboards of a form so many times."""
    draw, outcome = random.Random(f"{seed} {suffix}"), Outcome()
    others = [text for texts in GOOD.values() for text in texts]
    names = [folder / f"a{suffix}"] * 4 + [folder / "a", folder / "a.txt"]
    for _ in range(count):
        text = mutated(draw.choice(GOOD[suffix]), others, draw)
        attempt(draw.choice(names), written(text, draw), outcome)
    return outcome


def main() -> int:
    """Fuzz every form and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="in all, spread over the forms")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    faults = 0
    with tempfile.TemporaryDirectory() as folder:
        for suffix in GOOD:
            outcome = fuzz(suffix, given.count // len(GOOD), given.seed, Path(folder))
            faults += len(outcome.faults)
            print(  # noqa: T201
                f"{suffix}: {outcome.read} read, {outcome.refused} refused, {len(outcome.faults)} faults; "
                f"slowest {outcome.slowest * 1000:.0f} ms: {outcome.slow_text}"
            )
            for fault in outcome.faults[:5]:
                print(f"  {fault[:1500]}")  # noqa: T201
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
