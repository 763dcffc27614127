"""HTTP API, live state, business rules, the web page. Asks models through `endcap.answers` only."""
