"""The JSON routes: chat, completions, embeddings and rerank, from a request to the engine's answer."""
