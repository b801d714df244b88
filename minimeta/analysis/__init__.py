"""Studies of why the algorithms do what they do, measured with the engine's own derivatives."""
