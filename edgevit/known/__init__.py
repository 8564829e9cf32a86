"""What known images look like to a model, and how unusual another one is: unknown objects, and drift."""
