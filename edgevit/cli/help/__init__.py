"""What ``--help`` shows beyond an option's own line: a page per command, named as the command, and how it is laid out."""
