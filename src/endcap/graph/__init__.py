"""Structure read off the log: typed sessions and what follows what in them."""

from endcap.graph.sessions import TypedSessions, typed_sessions

__all__ = ["TypedSessions", "typed_sessions"]
