"""Where work is done that can be cut in pieces: here, in processes of this machine, or on the nodes of a Ray cluster."""
