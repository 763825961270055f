"""Batch speech: what clients of OpenAI and ElevenLabs ask for, said to each engine in its own dialect.

`route` is the way of a request from its first byte to its last. `audio_api` and `elevenlabs` are the two
ways to ask, `dialects` what each kind of engine is told, and `answer` how what it says becomes what was asked
for: untouched where that is the same, else read (`heard`, `events`) and written anew (`render`). Nothing is
made up: what an engine does not say is refused.
"""
