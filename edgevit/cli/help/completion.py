"""The help page of ``edgevit completion``."""

from edgevit.cli.help.page import Page
from edgevit.cli.help.shared import GENERAL

PAGE = Page(
    arguments={"SHELL": "bash, zsh or fish"},
    groups={**GENERAL},
    examples=(
        ("edgevit completion bash > ~/.local/share/bash-completion/completions/edgevit", "with the package bash-completion"),
        ('edgevit completion zsh > "${fpath[1]}/_edgevit"', "into a folder of fpath"),
        ("edgevit completion fish > ~/.config/fish/completions/edgevit.fish", "new terminals have it"),
    ),
    guides=("cli.md",),
)
