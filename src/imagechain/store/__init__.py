"""What the service keeps: facts, inbox, builds, history; SQLite or PostgreSQL."""
