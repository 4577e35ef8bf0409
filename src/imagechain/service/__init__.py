"""The loop: hints and observations in, decide, act. The only place that wires the parts together."""
