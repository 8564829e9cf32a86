"""What a shell completes while a command is typed: names that only edgevit knows, and the files that it takes."""
