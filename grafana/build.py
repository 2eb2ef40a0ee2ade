"""`python -m grafana.build` writes dashboards/*.json; `--check` says whether they are current, and exits 1 if not."""

import json
import pkgutil
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from grafana import boards
from grafana.queries import Json

DASHBOARDS = Path(__file__).with_name("dashboards")


def built() -> Iterator[tuple[Path, str]]:
    """Yield the file and the text of each dashboard."""
    for module in pkgutil.iter_modules(boards.__path__):
        board: Json = import_module(f"grafana.boards.{module.name}").board()
        yield DASHBOARDS / f"{board['uid']}.json", json.dumps(board, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    """Write the dashboards, or compare them."""
    check = sys.argv[1:] == ["--check"]
    stale = []
    for path, text in built():
        if check:
            stale.extend([path.name] if not path.exists() or path.read_text() != text else [])
        else:
            DASHBOARDS.mkdir(exist_ok=True)
            path.write_text(text)
    if stale:
        sys.exit(f"not current: {', '.join(stale)}; python -m grafana.build writes them anew")


if __name__ == "__main__":
    main()
