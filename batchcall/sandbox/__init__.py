"""The embedded endpoint: the vendors' protocols for rehearsals and tests, in a process of its own."""
