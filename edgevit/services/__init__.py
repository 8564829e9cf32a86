"""What runs on a board for good: one service is a source, a bundle in use, the one before it, and what keeps it running.

`place` says where everything lies, `keeper` what keeping means, by `systemd` or, where there is none, by `supervisor`;
`putting` puts a bundle into service and takes it back if it does no good. All of it runs on the board; `edgevit.deploy` asks for
it over ssh.
"""
