"""Draws the states of a job into docs/explanation/lifecycle.md, from the table in raincheck.core.triggers.

With ``--check`` it writes nothing, and exits 1 if the page is not as it would be written.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from raincheck.core.model import State
from raincheck.core.triggers import TRANSITIONS

PAGE = Path(__file__).parents[1] / "docs" / "explanation" / "lifecycle.md"
BEGIN = "<!-- drawn by tools/state_diagram.py from raincheck.core.triggers: do not edit -->"
END = "<!-- end of what is drawn -->"


def diagram() -> str:
    """The table as a Mermaid diagram, an arrow for each pair of states."""
    arrows: dict[tuple[State, State], list[str]] = {}
    for (before, trigger), results in TRANSITIONS.items():
        for after in results:
            arrows.setdefault((before, after), []).append(trigger)
    lines = ["stateDiagram-v2", "    [*] --> scheduled : submit", "    [*] --> pending : submit"]
    for before in State:
        lines += [
            f"    {before} --> {after} : {', '.join(arrows[before, after])}"
            for after in State
            if (before, after) in arrows
        ]
    lines += [f"    {state} --> [*] : prune" for state in State if state.ended]
    return "\n".join(["```mermaid", *lines, "```"])


def table() -> str:
    """The table as a table: what may become of a job in a state, for each trigger that the state knows."""
    rows = ["| a job that is | and has the trigger | is then, at rest |", "|---|---|---|"]
    for (before, trigger), results in TRANSITIONS.items():
        rows.append(f"| {before} | {trigger} | {', '.join(state for state in State if state in results)} |")
    return "\n".join(rows)


def drawn(page: str) -> str:
    """The page with what lies between the markers drawn anew."""
    between = re.compile(f"(?<={re.escape(BEGIN)}\n).*(?={re.escape(END)})", re.DOTALL)
    if len(between.findall(page)) != 1:
        raise SystemExit(f"{PAGE.name} needs the lines\n{BEGIN}\n{END}")
    return between.sub(f"\n{diagram()}\n\n{table()}\n\n", page)


def main(arguments: list[str]) -> int:
    """Draw, or check; the exit code."""
    page = PAGE.read_text("utf-8")
    wanted = drawn(page)
    if arguments == ["--check"]:
        if page != wanted:
            print(f"{PAGE.name} does not show the transitions as they are: run make docs")
        return int(page != wanted)
    PAGE.write_text(wanted, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
