"""Bodies on the wire: what a client may send and what the server answers.

The shapes are those of the OpenAI API (openai-openapi, 2026-08-21). Our description of the server (``openapi.py``)
is generated from these classes, and the same classes check every request, so the two cannot differ.
"""
