"""`edgevit deploy`: a bundle and edgevit itself onto other machines, over the user's own ssh, and the proof back.

`steps` says what is done, in which order; each step first asks the host whether it is done already, so that a run which was
cut off is resumed by running it again. `ssh` talks to the host, `job` starts there what must outlive a broken link.
"""
