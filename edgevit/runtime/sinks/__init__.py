"""Where decisions go. One file per kind; nothing here stalls or ends the run once it has worked."""
