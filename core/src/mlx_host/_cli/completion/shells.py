"""Completion of words with `=` and `:` in bash, zsh and fish.

Of `--option=value`, click completes the value alone, which in zsh and fish replaces the whole word. bash splits words
at `=` and `:`, so that click's script for bash passes `--backend=lm` as three words.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
    split_arg_string,
)

BASH_SCRIPT = """\
%(complete_func)s() {
    local IFS=$'\\n' completion type value
    COMPREPLY=()
    for completion in $(env COMP_LINE="${COMP_LINE:0:$COMP_POINT}" %(complete_var)s=bash_complete "$1" 2>/dev/null); do
        IFS=',' read -r type value <<< "$completion"
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""


def register() -> None:
    """Use the classes of this module for the three shells."""
    for shell in (_Bash, _Zsh, _Fish):
        add_completion_class(shell)


@dataclass(frozen=True)
class _Word:
    """A word before the cursor; `option` is `--option=` if the word is `--option=value`."""

    option: str
    value: str


def _word(shell: ShellComplete) -> _Word:
    _, incomplete = shell.get_completion_args()
    option, equals, value = incomplete.partition("=")
    return _Word(option + equals, value) if option.startswith("-") and equals else _Word("", incomplete)


class _Bash(BashComplete):
    """Gets the line up to the cursor, and returns the part of each completion after bash's last split."""

    source_template = BASH_SCRIPT

    def get_completion_args(self) -> tuple[list[str], str]:
        line = os.environ["COMP_LINE"]
        words = split_arg_string(line)[1:]
        if line[-1:].isspace() or not words:
            return words, ""
        return words[:-1], words[-1]

    def format_completion(self, item: CompletionItem) -> str:
        head = re.match(r".*[:=]", _word(self).value)
        value = str(item.value)
        return f"{item.type},{value.removeprefix(head[0]) if head else value}"


class _Zsh(ZshComplete):
    def format_completion(self, item: CompletionItem) -> str:
        if item.type == "plain":
            item = CompletionItem(f"{_word(self).option}{item.value}", item.type, item.help)
        return super().format_completion(item)


class _Fish(FishComplete):
    def format_completion(self, item: CompletionItem) -> str:
        if item.type == "plain":
            item = CompletionItem(f"{_word(self).option}{item.value}", item.type, item.help)
        return super().format_completion(item)
