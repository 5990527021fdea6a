#!/usr/bin/env python3
"""Calls the API of app.py, and prints the responses."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import httpx2

VERSION = "1.0.0"
URL = os.environ.get("DOOZER_URL", "http://localhost:8080")
USER = os.environ.get("DOOZER_USER", "doozer")
PASSWORD = Path(os.environ.get("DOOZER_PASSWORD_FILE", "password"))

COMMANDS = {
    "add": "Add api call.",
    "help": "Help about any command",
    "lookup": "Lookup a task uuid.",
    "mul": "Multiply api call.",
    "token": "Print a JWT token.",
    "version": "Print the version.",
}

HELP = """Simple client to interact with Dozer API service.

Usage:
  client
  client [command]

Available Commands:
{}

Use "client [command] --help" for more information about a command.
""".format("\n".join(f"  {name:12}{text}" for name, text in COMMANDS.items()))


class Parser(argparse.ArgumentParser):
    """Prints the help of the document."""

    def format_help(self) -> str:
        return super().format_help() if " " in self.prog else HELP


def parser() -> Parser:
    """The parser of the command line."""
    root = Parser("client")
    commands = root.add_subparsers(dest="command")
    parsers = {name: commands.add_parser(name, description=text) for name, text in COMMANDS.items()}
    for name in ("add", "mul"):
        parsers[name].add_argument("--i", required=True, type=numbers, metavar="1,2,3", help="the numbers")
    parsers["lookup"].add_argument("--uuid", required=True, help="what was printed when it was deferred")
    parsers["help"].add_argument("about", nargs="?", choices=COMMANDS, help="a command")
    root.set_defaults(parsers=parsers)
    return root


def numbers(text: str) -> list[int]:
    """``1,2,3`` as numbers."""
    return [int(each) for each in text.split(",")]


def join_numbers(words: list[str]) -> list[str]:
    """``--i -1,2`` as ``--i=-1,2``: argparse would take ``-1,2`` for an option."""
    if "--i" not in words:
        return words
    at = words.index("--i")
    return [*words[:at], "=".join(words[at : at + 2]), *words[at + 2 :]]


def main() -> None:
    """Run the command."""
    options = parser().parse_args(join_numbers(sys.argv[1:]))
    if options.command == "version":
        print(VERSION)
    elif options.command in (None, "help"):
        about = options.parsers.get(getattr(options, "about", None))
        print(about.format_help() if about else HELP, end="")
    else:
        with httpx2.Client(base_url=URL, timeout=30) as client:
            call(client, options)


def call(client: httpx2.Client, options: argparse.Namespace) -> None:
    """Send the request of a command to the server."""
    token = post(client, "/login", username=USER, password=PASSWORD.read_text("utf-8").strip())["token"]
    client.headers["authorization"] = f"Bearer {token}"
    if options.command == "token":
        print(token)
    elif options.command == "lookup":
        task = post(client, "/restricted/tasks", task_id=options.uuid)
        print(f"Status : {task['status']}")
        for name in ("result", "error"):
            if name in task:
                print(f"{name.title()} : {task[name]}")
    else:
        task = post(client, f"/restricted/{options.command}", numbers=options.i)
        if "error" in task:
            raise SystemExit(f"Error: {task['error']}")
        print(f"Result: {task['result']}" if "result" in task else f"Defered! {task['task_id']}")


def post(client: httpx2.Client, path: str, **body: Any) -> Any:
    """Send a request; returns the response."""
    response = client.post(path, json=body)
    if response.is_error:
        raise SystemExit(f"Error: {response.json()['error']}")
    return response.json()


if __name__ == "__main__":
    try:
        main()
    except (httpx2.HTTPError, OSError, ValueError) as error:
        sys.exit(f"Error: {error}")
