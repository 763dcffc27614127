"""Jobs that join floors: publish a release behind its gate, drain the live state, the daily refresh."""
