"""A bundle and its service as systems for updates take them: a Debian package, a Mender artifact, a container's context.

The bundle stays a plain folder in each of them.
"""
