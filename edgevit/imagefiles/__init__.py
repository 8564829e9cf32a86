"""Image files: which of a folder are images, how large they say they are, and their pixels."""
