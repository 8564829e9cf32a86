"""``python -m edgevit``: the command, where its script is not on the path, such as in a service."""

from edgevit.cli import main

main(prog_name="edgevit")
