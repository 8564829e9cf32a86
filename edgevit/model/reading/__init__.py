"""A checkpoint's files, read before anyone knows which family of models they hold."""
