"""The embedded endpoint: an OpenAI-compatible server for rehearsals and tests, in a process of its own."""
