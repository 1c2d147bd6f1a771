"""Serves a model as llama-server does, from the package xllamacpp: `serve.py MODEL.gguf TEMPLATE PORT KEY`. Runs until
it is ended. Its flags are those that `real_model.py` gives to llama-server."""

from __future__ import annotations

import signal
import sys

import xllamacpp


def main(model: str, template: str, port: str, key: str) -> None:
    settings = xllamacpp.CommonParams()
    settings.model.path = model
    settings.model_alias = {"smollm2"}
    settings.hostnames, settings.port, settings.api_keys = ["127.0.0.1"], int(port), [key]
    settings.use_jinja, settings.endpoint_metrics = True, True
    with open(template, encoding="utf-8") as file:
        settings.chat_template = file.read()
    settings.n_parallel, settings.n_ctx = 4, 16384
    settings.cpuparams.n_threads = 1
    settings.cache_prompt = False  # what a slot remembers is not counted as read
    server = xllamacpp.Server(settings)
    print(server.listening_address, flush=True)
    signal.pause()


if __name__ == "__main__":
    main(*sys.argv[1:])
