"""The ways to a server: each speaks the protocol's messages to the machine, whatever is below."""
