"""The commands. Thin: they read arguments, call the parts, and print; nothing is decided here."""
