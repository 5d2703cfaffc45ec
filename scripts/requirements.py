"""Print what extras of pyproject.toml need, one requirement a line, so that nothing is listed twice.

python scripts/requirements.py dev > requirements.txt
"""

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

PROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]


def requirements(extra: str) -> Iterator[str]:
    for line in PROJECT["optional-dependencies"][extra]:
        own = re.fullmatch(rf"{PROJECT['name']}\[(.+)\]", line)
        if own:
            for inner in own[1].split(","):
                yield from requirements(inner.strip())
        else:
            yield line


def main(extras: list[str]) -> None:
    wanted = set(PROJECT["dependencies"]).union(*(requirements(extra) for extra in extras))
    print("\n".join(sorted(wanted)))


if __name__ == "__main__":
    main(sys.argv[1:])
