"""The board that edgevit runs on."""
