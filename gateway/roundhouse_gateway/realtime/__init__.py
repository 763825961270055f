"""Speech that is transcribed while it is spoken: three routes of WebSockets, and one protocol behind them.

`sessions` is what all of them pass: who it is, which model, which endpoint. `native` hands frames through;
`openai` and `elevenlabs` translate. `tokens` are keys for a moment, for clients that must not have one.
"""
